"""Bytes of weights: published file sizes to the byte, engine logs within one per cent."""

import numpy as np
import pytest

from calc.specs.model import Weight
from calc.specs.model_files import load_model, model_ids
from calc.specs.quantization import WEIGHT_FORMATS, weight_format
from calc.work.parameters import mtp_weights, total_parameters, weights
from calc.work.sharding import parameters_per_device, stages
from calc.work.weight_bytes import (
    bits_by_role,
    bytes_by_role,
    checkpoint_bytes,
    engine_extra_bytes,
    loaded_bytes,
    math_by_role,
    padded_expert_bytes,
    rope_table_bytes,
    shard_shape,
    stored_weights,
    weight_bytes,
)

GIB = 2**30
SOME = [
    "llama-3.1-8b",
    "deepseek-v3",
    "gpt-oss-20b",
    "qwen3.5-35b-a3b",
    "gemma-4-26b-a4b",
    "whisper-large-v3",
]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt-oss-20b", 13_761_264_768),
        ("gpt-oss-120b", 65_248_815_744),
        ("qwen3-235b-a22b", 470_187_269_120),
        # counts by dtype on the model's page: 3,918,786,560 bf16, 680,571,043,840 fp8, 41,555,600 fp32
        ("deepseek-v3", 2 * 3_918_786_560 + 680_571_043_840 + 4 * 41_555_600),
    ],
)
def test_files_have_their_published_size_to_the_byte(name, size):
    """``total_size`` of model.safetensors.index.json, with next-token layers."""
    assert checkpoint_bytes(load_model(name)) == size


def test_scales_of_output_rows_are_those_of_a_published_checkpoint():
    """RedHatAI's Llama-3.3-70B FP8-dynamic: 2,109,382,656 parameters in bf16, 68,451,041,280 in fp8."""
    size = checkpoint_bytes(load_model("llama-3.3-70b"), "fp8-dynamic")
    assert size == 2 * 2_109_382_656 + 68_451_041_280


@pytest.mark.parametrize(
    ("file_type", "bits"),
    [
        ("q2_k_s", 2.9697), ("q2_k", 3.1593), ("q3_k_s", 3.6429), ("q3_k_l", 4.2979), ("iq3_s", 3.6606),
        ("iq3_m", 3.7628), ("iq4_xs", 4.4597), ("iq4_nl", 4.6818), ("q4_k_s", 4.6672), ("q4_k_m", 4.8944),
        ("q5_k_s", 5.5704), ("q5_k_m", 5.7036), ("q6_k", 6.5633), ("q8_0", 8.5008),
    ],
)  # fmt: skip
def test_gguf_files_of_llama_3_1_8b_have_the_bits_that_llama_cpp_prints(file_type, bits):
    """tools/quantize/README.md of llama.cpp at commit 311c2c9f0ebd."""
    model = load_model("llama-3.1-8b")
    assert 8 * checkpoint_bytes(model, file_type) / total_parameters(model) == pytest.approx(bits, abs=5e-5)


@pytest.mark.parametrize("file_type", [name for name, fmt in WEIGHT_FORMATS.items() if fmt.mixed])
def test_nominal_bits_of_gguf_types_are_those_of_llama_3_1_8b(file_type):
    model = load_model("llama-3.1-8b")
    counted = 8 * checkpoint_bytes(model, file_type) / total_parameters(model)
    assert weight_format(file_type).bits == pytest.approx(counted, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "file_type", "printed_gib"),
    [
        ("gpt-oss-120b", "mxfp4_moe", 59.02),  # llama.cpp issue 15253
        ("llama-2-7b", "q4_k_m", 3.80),  # llama.cpp's README for Llama 2 7B
    ],
)
def test_gguf_files_have_the_size_that_llama_cpp_prints(name, file_type, printed_gib):
    size = checkpoint_bytes(load_model(name), file_type, mtp=False)
    assert size / GIB == pytest.approx(printed_gib, abs=0.005)


#: model, tensor-parallel ranks, format (None: the checkpoint's), GiB that vLLM logged as loaded.
#: From start-up logs of vLLM 0.11 to 0.19 on H100 80GB, llm-d-planner pull request 205 and its
#: docs/empirical-vllm-memory-results.md; the last one is quoted in vLLM issues (Marlin kernels)
LOGGED = [
    ("meta-llama/Llama-3.1-8B-Instruct", 1, None, 14.99),
    ("meta-llama/Llama-3.1-8B-Instruct", 2, None, 7.51),
    ("meta-llama/Llama-3.1-8B-Instruct", 4, None, 3.77),
    ("meta-llama/Llama-3.1-8B-Instruct", 1, "fp32", 29.98),
    ("meta-llama/Llama-3.1-8B-Instruct", 1, "fp8", 8.49),
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", 1, None, 8.49),
    ("RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16", 1, None, 5.38),
    ("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", 2, None, 33.88),
    ("RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", 4, None, 16.96),
    ("Qwen/Qwen3-0.6B", 1, None, 1.12),
    ("Qwen/Qwen3-8B", 1, None, 15.27),
    ("Qwen/Qwen3-14B", 1, None, 27.52),
    ("Qwen/Qwen3-32B", 2, None, 30.59),
    ("Qwen/Qwen2.5-7B-Instruct", 1, None, 14.25),
    ("Qwen/Qwen2.5-7B-Instruct", 4, None, 3.55),
    ("RedHatAI/Qwen2.5-7B-Instruct-fp8-dynamic", 1, None, 8.14),
    ("moonshotai/Kimi-Dev-72B", 2, None, 67.82),
    ("moonshotai/Kimi-Dev-72B", 4, None, 34.01),
    ("microsoft/phi-4", 1, None, 27.39),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", 2, None, 43.51),
    ("google/gemma-2-2b-it", 1, None, 4.90),
    ("google/gemma-2-27b-it", 1, None, 50.72),
    ("google/gemma-3-27b-it", 1, None, 51.45),
    ("deepseek-ai/DeepSeek-V2-Lite-Chat", 1, None, 29.43),
    ("Qwen/Qwen1.5-MoE-A2.7B", 1, None, 26.67),
    ("moonshotai/Kimi-VL-A3B-Instruct", 1, None, 30.74),
    ("moonshotai/Kimi-VL-A3B-Instruct", 2, None, 15.53),
    ("ibm-granite/granite-3.3-8b-instruct", 1, None, 15.25),
    ("RedHatAI/Mistral-Small-3.1-24B-Instruct-2503-quantized.w8a8", 2, None, 12.11),
    ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", 1, None, 44.76),
    ("openai/gpt-oss-20b", 1, None, 13.47),
    ("openai/gpt-oss-20b", 2, None, 7.01),
    ("openai/gpt-oss-120b", 1, None, 64.38),
]


@pytest.mark.parametrize(("name", "tp", "weight_dtype", "logged_gib"), LOGGED)
def test_loaded_weights_are_what_vllm_logged_within_one_per_cent(name, tp, weight_dtype, logged_gib):
    assert loaded_bytes(load_model(name), weight_dtype, tp) / GIB == pytest.approx(logged_gib, rel=0.01)


def test_the_fp8_checkpoint_of_meta_has_only_its_feed_forwards_in_fp8():
    """Logged at tp 8: 57.75 GiB, with 16 copied KV heads as first published; 8 are 0.98 GiB less."""
    model = load_model("meta-llama/Llama-3.1-405B-Instruct-FP8")
    copies = 126 * 2 * 8 * 128 * 16384 * 2 / 8
    assert (loaded_bytes(model, tp=8) + copies) / GIB == pytest.approx(57.75, rel=0.001)
    kinds = {
        (weight.role, fmt.name)
        for weight, count, fmt in stored_weights(model)
        if weight.role != "norm" and count > 2
    }
    assert kinds == {("attention", "bf16"), ("feedforward", "fp8-channel")}


@pytest.mark.parametrize("name", model_ids())
def test_every_model_has_bytes_in_its_own_format_and_they_hold_all_parameters(name):
    model = load_model(name)
    rows = stored_weights(model, mtp=True)
    counted = sum(weight.parameters * count for weight, count, _ in rows)
    assert counted == sum(w.parameters * n for w, n in (*weights(model), *mtp_weights(model)))
    assert 0.5 * counted < checkpoint_bytes(model) <= 4 * counted
    least = sum(weight.parameters * count * fmt.bits / 8 for weight, count, fmt in rows)
    assert checkpoint_bytes(model) >= least * (1 - 1e-12)


@pytest.mark.parametrize("weight_dtype", WEIGHT_FORMATS)
@pytest.mark.parametrize("name", SOME)
def test_every_format_stores_a_model_in_no_less_than_its_bits(name, weight_dtype):
    model, fmt = load_model(name), weight_format(weight_dtype)
    held = sum(bytes_by_role(model, weight_dtype).values())
    least = {"mxfp4_moe": 4.25}.get(weight_dtype, fmt.bits * (0.9 if fmt.mixed else 1 - 1e-12))
    assert held >= total_parameters(model) * min(least, 16) / 8
    assert checkpoint_bytes(model, weight_dtype, mtp=False) >= held
    assert set(bits_by_role(model, weight_dtype)) >= set(bytes_by_role(model, weight_dtype))


@pytest.mark.parametrize("name", SOME)
def test_shapes_of_a_rank_hold_the_parameters_of_a_rank(name):
    for weight, _ in weights(load_model(name)):
        if weight.role == "vision":
            continue
        for tp, dp, ep in ((1, 1, 1), (2, 1, 1), (4, 2, 8), (8, 1, 4)):
            rows, columns, copies = shard_shape(weight, tp, dp, ep)
            assert rows * columns * copies == pytest.approx(parameters_per_device(weight, tp, dp, ep))


def test_ranks_may_be_an_array():
    model, ranks = load_model("gpt-oss-20b"), np.array([1, 2, 4, 8])
    together = loaded_bytes(model, tp=ranks)
    assert together.tolist() == [pytest.approx(float(loaded_bytes(model, tp=int(tp)))) for tp in ranks]
    assert np.all(np.diff(together) < 0)


def test_pipeline_stages_keep_the_formats_of_their_layers():
    """Layer 0 of Kimi K2.6 is in 16 bits, its other layers are not."""
    model = load_model("kimi-k2.6-nvfp4")
    whole = sum(bytes_by_role(model).values())
    parts = [sum(bytes_by_role(stage).values()) for stage in stages(model, 4)]
    assert sum(parts) == pytest.approx(whole, rel=1e-12)


def test_another_format_than_the_checkpoints_own_ignores_its_exceptions():
    model = load_model("gpt-oss-20b")
    assert bits_by_role(model)["attention"] == 16
    assert bits_by_role(model, "fp8")["attention"] == 8
    assert bits_by_role(model, "mxfp4") == bits_by_role(model)


def test_math_follows_each_class_in_a_mixed_checkpoint():
    maths = math_by_role(load_model("deepseek-v4-flash-nvfp4"))
    assert (maths["expert"], maths["attention"], maths["shared_expert"]) == ("fp4", "fp8", "fp8")
    assert "router" not in maths


def test_next_token_layers_are_loaded_only_when_asked_for_and_share_the_embedding():
    model = load_model("deepseek-v3")
    without, with_mtp = (sum(bytes_by_role(model, mtp=mtp).values()) for mtp in (False, True))
    tables = 2 * 2 * 129280 * 7168
    in_file = checkpoint_bytes(model) - checkpoint_bytes(model, mtp=False)
    assert with_mtp - without == pytest.approx(in_file - tables - 256 * 4, abs=1)


def test_rows_of_the_vocabulary_are_rounded_up_to_64():
    table = Weight("embed_tokens", "embedding", 100, 8, split="out")
    bf16 = weight_format("bf16")
    assert weight_bytes(table, bf16, tp=2) == 100 * 8
    assert weight_bytes(table, bf16, tp=2, pad_vocabulary=True) == 128 * 8
    model = load_model("gpt2")  # 50,257 tokens, 768 wide
    assert engine_extra_bytes(model)["padded vocabulary"] == (50_304 - 50_257) * 768 * 2
    assert engine_extra_bytes(model, engine="llama.cpp") == dict.fromkeys(engine_extra_bytes(model), 0)


def test_the_rope_table_is_not_cut():
    model = load_model("llama-3.1-8b")
    assert rope_table_bytes(model) == 131072 * 128 * 2
    assert engine_extra_bytes(model, tp=8)["rope table"] == rope_table_bytes(model)
    assert rope_table_bytes(load_model("bloom-7b1")) == 0


def test_experts_are_padded_where_their_width_is_no_multiple_of_256():
    even = Weight("moe.experts.up_proj", "expert", 4096, 2048, copies=4, split="out")
    assert padded_expert_bytes(even, tp=2) == 0
    down = Weight("moe.experts.down_proj", "expert", 2880, 2880, copies=4, split="in")
    assert padded_expert_bytes(down) == 4 * 2880 * (3072 - 2880) / 2
    assert engine_extra_bytes(load_model("gpt-oss-20b"), engine="tensorrt-llm")["padded experts"] == 0
    assert engine_extra_bytes(load_model("gpt-oss-20b"), "bf16")["padded experts"] == 0
