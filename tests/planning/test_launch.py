"""Server command lines."""

import pytest

import calc


def test_only_what_differs_from_the_engines_defaults_is_written():
    assert calc.launch_command(calc.Deployment(), "llama-3.1-8b") == "vllm serve meta-llama/Meta-Llama-3.1-8B"


def test_vllm_gets_parallelism_formats_and_length():
    deployment = calc.Deployment(tp=4, weight_dtype="fp8", kv_dtype="fp8", memory_utilization=0.95)
    assert calc.launch_command(deployment, "llama-3.1-70b", context_tokens=8192) == (
        "vllm serve meta-llama/Meta-Llama-3.1-70B --tensor-parallel-size 4 --quantization fp8 "
        "--kv-cache-dtype fp8 --max-model-len 8192 --gpu-memory-utilization 0.95"
    )


@pytest.mark.parametrize(
    ("engine", "start"),
    [
        ("vllm", "vllm serve meta-llama/Meta-Llama-3.1-8B --tensor-parallel-size 2"),
        ("sglang", "python -m sglang.launch_server --model-path meta-llama/Meta-Llama-3.1-8B --tp 2"),
        ("tensorrt-llm", "trtllm-serve meta-llama/Meta-Llama-3.1-8B --tp_size 2"),
        ("llama.cpp", "llama-server -hf meta-llama/Meta-Llama-3.1-8B"),
    ],
)
def test_every_server_engine_has_its_command(engine, start):
    assert calc.launch_command(calc.Deployment(engine=engine, tp=2), "llama-3.1-8b") == start


def test_an_engine_without_a_server_is_refused_in_one_line():
    with pytest.raises(calc.SpecError, match="'gpt-fast' has no server command"):
        calc.launch_command(calc.Deployment(engine="gpt-fast"), "llama-3.1-8b")
