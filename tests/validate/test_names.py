"""Names as logs spell them."""

import pytest

import calc
from validate.names import cache_format_of, device_named, model_named, weight_format_of

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "device_id"),
    [
        ("H100-80GB", "h100-sxm"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("H100 SXM5 80GB", "h100-sxm"),
        ("8xH100", "h100-sxm"),
        ("A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("A100-40GB", "a100-sxm-40gb"),
        ("NVIDIA GH200 480GB", "gh200-96gb"),  # 480 GB are the host's
        ("RTX 4090", "rtx-4090"),
        ("4x RTX 3090", "rtx-3090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("RTX A6000 48GB", "rtx-a6000"),
        ("L40S (48GB)", "l40s"),
        ("B200", "b200-sxm"),
        ("H20", "h20"),
        ("AMD Instinct MI300X OAM", "mi300x"),
        ("Gaudi3-128GB", "gaudi3"),
        ("M2 Ultra 76-Core GPU 192GB", "m2-ultra"),
        ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
    ],
)
def test_device_names_of_logs_are_known(name, device_id):
    device = device_named(name)
    assert device.id == device_id
    assert device.memory_bytes == calc.load_device(device_id).memory_bytes


def test_memory_that_the_driver_reports_replaces_the_spec():
    assert device_named("H100-80GB", 79.18 * GIB).memory_bytes == 79.18 * GIB


def test_another_size_of_a_known_chip_is_taken_from_the_name():
    assert device_named("H20 141GB").memory_bytes == 141 * GIB


@pytest.mark.parametrize(("name", "gib"), [("3080 Ti 12GB", 12), ("M1 7‑Core GPU 8GB", 8), ("48 GB", 48)])
def test_a_card_without_a_spec_has_the_size_its_name_states(name, gib):
    device = device_named(name)
    assert device.id not in calc.device_ids()
    assert device.memory_bytes == gib * GIB


def test_a_name_without_spec_and_size_asks_for_the_device():
    with pytest.raises(calc.SpecError, match=r"unknown device 'RTX 4070 Ti'.*--device"):
        device_named("RTX 4070 Ti")


@pytest.mark.parametrize(
    ("name", "model_id", "weights"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b", None),
        ("/disc/data1/deepseek/DeepSeek-V2-Lite-Chat/", "deepseek-v2-lite", None),
        ("/mnt/models/models--meta-llama--llama-3-1-70b-instruct", "llama-3.1-70b", None),
        ("/hub/models--Qwen--Qwen3-8B/snapshots/9c925d64", "qwen3-8b", None),
        ("models/llama3.1-8B-INT8", "llama-3.1-8b", "int8"),
        ("Qwen/Qwen2.5-72B-Instruct-AWQ", "qwen2.5-72b", "int4-awq"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b", "int4"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.3-70b", "nvfp4"),
        ("somebody/Qwen3-8B-MXFP4", "qwen3-8b", "mxfp4"),
    ],
)
def test_model_names_of_logs_are_known(name, model_id, weights):
    model, named = model_named(name)
    base = calc.load_model(model_id)
    assert [layer.attention for layer in model.layers] == [layer.attention for layer in base.layers]
    assert (named or model.checkpoint.weight_dtype) == (weights or base.checkpoint.weight_dtype)


def test_a_model_that_is_not_known_is_refused():
    with pytest.raises(calc.SpecError, match="unknown model 'nobody/nothing-7x'"):
        model_named("nobody/nothing-7x")


def test_formats_in_the_engines_words():
    base, own = calc.load_model("llama-3.1-8b"), calc.load_model("gpt-oss-20b")
    assert weight_format_of(base, None, "bfloat16", "None") is None
    assert weight_format_of(base, None, "torch.float32", "") == "fp32"
    assert weight_format_of(base, None, "bfloat16", "fp8") == "fp8"
    assert weight_format_of(base, "int4", "float16", "compressed-tensors") == "int4"
    assert weight_format_of(own, None, "bfloat16", "mxfp4") is None  # the checkpoint's own
    with pytest.raises(calc.SpecError, match="'compressed-tensors' does not say the weight format"):
        weight_format_of(base, None, "bfloat16", "compressed-tensors")


def test_cache_formats_in_the_engines_words():
    assert cache_format_of("bfloat16", "auto") is None
    assert cache_format_of("float32", "") == "fp32"
    assert cache_format_of("bfloat16", "fp8_e5m2") == "fp8"
    with pytest.raises(calc.SpecError, match="unknown kv_dtype 'turbo'"):
        cache_format_of("bfloat16", "turbo")
