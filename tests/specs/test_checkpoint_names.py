"""Names of quantised copies and fine-tunes: shape and format are what the name says."""

import json
import sys
from types import SimpleNamespace

import pytest

from calc.specs.checkpoint_names import derived_name
from calc.specs.errors import SpecError
from calc.specs.model_files import _known_names, load_model, model_ids

DERIVED = [
    ("Qwen/Qwen2.5-72B-Instruct-AWQ", "qwen2.5-72b", "int4-awq"),
    ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b", "int4"),
    ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", "qwen2.5-7b", "int8-g128"),
    ("Qwen/Qwen3-8B-FP8", "qwen3-8b", "fp8-block"),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b", "bf16"),
    ("Qwen/QwQ-32B-AWQ", "qwen2.5-32b", "int4-awq"),
    ("unsloth/Llama-3.3-70B-Instruct-bnb-4bit", "llama-3.3-70b", "nf4"),
    ("unsloth/Meta-Llama-3.1-8B-Instruct-unsloth-bnb-4bit", "llama-3.1-8b", "nf4"),
    ("unsloth/gpt-oss-20b-BF16", "gpt-oss-20b", "bf16"),
    ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "llama-3.1-8b", "q4_k_m"),
    ("Llama-3.1-8B-Instruct-Q5_K_M.gguf", "llama-3.1-8b", "q5_k_m"),
    ("llama-3.1-8b.iq4_xs.gguf", "llama-3.1-8b", "iq4_xs"),
    ("google/gemma-3-27b-it-qat-q4_0-gguf", "gemma-3-27b", "q4_0"),
    ("nvidia/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", "fp8"),
    ("meta-llama/Llama-3.1-405B-Instruct-FP8", "llama-3.1-405b", "fp8-channel"),
    ("nvidia/DeepSeek-R1-0528-NVFP4", "deepseek-r1", "nvfp4"),
    ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.3-70b", "nvfp4"),
    ("RedHatAI/Qwen3-32B-FP8-dynamic", "qwen3-32b", "fp8-channel"),
    ("RedHatAI/gemma-3-27b-it-quantized.w4a16", "gemma-3-27b", "int4"),
    ("RedHatAI/phi-4-quantized.w8a8", "phi-4", "int8"),
    ("neuralmagic/DeepSeek-R1-Distill-Llama-70B-quantized.w4a16", None, "int4"),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "qwen2.5-32b", "bf16"),
    ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b", "bf16"),
    ("NousResearch/Hermes-3-Llama-3.1-70B", "llama-3.1-70b", "bf16"),
    ("casperhansen/llama-3.3-70b-instruct-awq", "llama-3.3-70b", "int4-awq"),
    ("amd/Llama-3.1-405B-Instruct-MXFP4-Preview", "llama-3.1-405b", "mxfp4"),
]

#: as vLLM's start-up logs and the pages of these models name them
LOGGED = [
    "RedHatAI/Llama-3.3-70B-Instruct-fp8-dynamic", "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
    "RedHatAI/Mistral-Small-3.1-24B-Instruct-2503-quantized.w8a8", "RedHatAI/Qwen2.5-7B-Instruct-fp8-dynamic",
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "moonshotai/Kimi-Dev-72B",
    "ibm-granite/granite-3.3-8b-instruct", "ibm-granite/granite-3.1-8b-instruct",
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506", "moonshotai/Kimi-VL-A3B-Instruct",
]  # fmt: skip


@pytest.mark.parametrize(("name", "base", "weight_dtype"), DERIVED)
def test_a_derived_name_gives_shape_and_format_and_says_so(name, base, weight_dtype):
    model = load_model(name)
    assert model.checkpoint.weight_dtype == weight_dtype
    assert (model.name, model.aliases) == (name.rpartition("/")[2], (name,))
    assert model.config_kind == "derived"
    assert model.note.startswith("shape of ")
    assert model.note.endswith(", from the name")
    if base:
        assert model.layers == load_model(base).layers
        assert load_model(base).name in model.note


@pytest.mark.parametrize("name", LOGGED)
def test_names_in_logs_are_known(name):
    assert load_model(name).layers


def test_names_that_are_known_are_never_derived():
    for name in model_ids():
        assert load_model(name).id == name


@pytest.mark.parametrize(
    "name",
    [
        "ibm-granite/granite-vision-3.3-2b",  # a tower
        "someone/Llama-3.1-8B-eagle3",  # a draft head
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "mlx-community/Llama-3.3-70B-Instruct-4bit",  # a format not known here
        "openai/gpt-oss-safeguard-20b",
        "microsoft/Phi-4-mini-instruct",
        "someone/Llama-3.1-9B",
        "foo/bar",
        "/home/me/Llama-3.1-8B-AWQ",
        "./Llama-3.1-8B-AWQ",
    ],
)
def test_names_that_say_too_little_stay_errors_in_one_line(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SpecError, match="unknown model") as caught:
        load_model(name)
    assert "\n" not in str(caught.value)


def test_nvidia_declares_an_fp8_cache_and_leaves_attention_of_deepseek_alone():
    checkpoint = load_model("nvidia/DeepSeek-R1-NVFP4").checkpoint
    assert checkpoint.kv_dtype == "fp8"
    assert checkpoint.format_of("attention.o_proj", "attention", 5) == "bf16"
    assert checkpoint.format_of("moe.experts.up_proj", "expert", 5) == "nvfp4"
    assert load_model("someone/DeepSeek-R1-NVFP4").checkpoint.kv_dtype is None


def test_a_quantised_base_keeps_its_format_in_a_fine_tune_and_loses_it_in_a_copy():
    assert load_model("someone/gpt-oss-20b-abliterated").checkpoint == load_model("gpt-oss-20b").checkpoint
    assert load_model("someone/gpt-oss-20b-FP8-dynamic").checkpoint.weight_dtype == "fp8-channel"


def test_every_model_with_every_format_suffix_resolves_to_a_base_of_the_same_shape():
    known = _known_names()
    for suffix in ("AWQ", "GPTQ-Int4", "quantized.w8a8", "NVFP4", "GGUF", "bnb-4bit"):
        for name, model_id in known.items():
            derived = derived_name(f"{name}-{suffix}", known)
            if derived and "/" in name:
                assert load_model(derived.base).layers == load_model(model_id).layers, name


CONFIG = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 100,
}  # fmt: skip


def fake_hub(folder, files):
    def hf_hub_download(repo_id, filename, **_):
        if filename not in files:
            raise FileNotFoundError(filename)
        path = folder / filename
        path.write_text(json.dumps(files[filename]))
        return str(path)

    return SimpleNamespace(hf_hub_download=hf_hub_download)


def test_an_unknown_name_is_read_from_the_hub_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path, {"config.json": CONFIG}))
    model = load_model("someone/Own-Model")
    assert (model.id, model.n_layers, model.aliases) == ("own-model", 2, ("someone/Own-Model",))
    assert model.config_sources[0].url == "https://huggingface.co/someone/Own-Model"
    assert model.checkpoint.weight_dtype == "bf16"


def test_the_hubs_quantisation_file_is_read_too(tmp_path, monkeypatch):
    files = {"config.json": CONFIG, "hf_quant_config.json": {"quantization": {"quant_algo": "NVFP4"}}}
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path, files))
    assert load_model("someone/Own-Model").checkpoint.weight_dtype == "nvfp4"


def test_without_network_there_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake_hub(tmp_path, {}))
    with pytest.raises(
        SpecError, match=r"huggingface\.co gave no config\.json \(FileNotFoundError\)"
    ) as caught:
        load_model("someone/Own-Model")
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SpecError, match=r"ullage\[hub\]"):
        load_model("someone/Own-Model")
    with pytest.raises(SpecError) as caught:
        load_model("llama-3.1-70")
    assert "hub" not in str(caught.value)
