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


@pytest.mark.parametrize(
    ("engine", "model", "place", "options"),
    [
        ("vllm", "llama-3.1-70b", {"tp": 2, "pp": 2},
         ["--tensor-parallel-size 2", "--pipeline-parallel-size 2"]),
        ("vllm", "deepseek-v3", {"dp": 8, "ep": 8}, ["--data-parallel-size 8", "--enable-expert-parallel"]),
        ("vllm", "deepseek-v3", {"tp": 8, "cp": 8}, ["--decode-context-parallel-size 8"]),
        ("sglang", "deepseek-v3", {"tp": 2, "dp": 4, "ep": 8},
         ["--tp 8", "--dp-size 4", "--enable-dp-attention", "--ep-size 8"]),
        ("sglang", "llama-3.1-70b", {"tp": 2, "dp": 4}, ["--tp 2", "--dp-size 4"]),
        ("tensorrt-llm", "mixtral-8x7b", {"tp": 4, "pp": 2, "ep": 4},
         ["--tp_size 4", "--pp_size 2", "--ep_size 4"]),
    ],
)  # fmt: skip
def test_parallelism_beyond_tp_has_its_options(engine, model, place, options):
    command = calc.launch_command(calc.Deployment(engine=engine, **place), model)
    assert [option for option in options if f" {option}" not in command] == []


@pytest.mark.parametrize(
    ("engine", "place", "message"),
    [
        ("llama.cpp", {"pp": 2}, "pp: 2: no option of llama.cpp"),
        ("tensorrt-llm", {"dp": 2}, "dp: 2: no option of tensorrt-llm"),
        ("vllm", {"tp": 4, "ep": 2}, "ep: 2: vllm spreads experts over tp . dp; allowed are 1 and 4"),
    ],
)
def test_parallelism_without_an_option_is_refused_in_one_line(engine, place, message):
    with pytest.raises(calc.SpecError, match=message):
        calc.launch_command(calc.Deployment(engine=engine, **place), "mixtral-8x7b")


def test_an_engine_without_a_server_is_refused_in_one_line():
    with pytest.raises(calc.SpecError, match="'gpt-fast' has no server command"):
        calc.launch_command(calc.Deployment(engine="gpt-fast"), "llama-3.1-8b")
