"""What checkpoints store in which format, module by module, as their configs say."""

import json

import pytest

from calc.specs.errors import SpecError
from calc.specs.hf_config.checkpoint import checkpoint_of
from calc.specs.hf_config.fields import Fields
from calc.specs.hf_config.modules import Patterns, plain_name
from calc.specs.model_files import load_model
from calc.specs.quantization import role_of


def read(quantization, model_type="llama", n_layers=4, **config):
    config = {"model_type": model_type, "num_hidden_layers": n_layers, "torch_dtype": "bfloat16", **config}
    return checkpoint_of(Fields({**config, "quantization_config": quantization}))


def formats(checkpoint, name, layers=range(4)):
    return [checkpoint.format_of(name, role_of(name), layer) for layer in layers]


def modelopt(*ignored, **more):
    return {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", *ignored], **more}


def test_layers_named_by_number_are_left_alone_and_the_others_not():
    """As in nvidia/GLM-5.1-NVFP4: layers 0 to 2 whole, attention and shared experts everywhere."""
    checkpoint = read(
        modelopt("model.layers.0*", "model.layers.1.*", "model.layers.3.self_attn*"), model_type="glm_moe_dsa"
    )
    assert formats(checkpoint, "moe.experts.up_proj") == ["bf16", "bf16", "nvfp4", "nvfp4"]
    assert formats(checkpoint, "attention.o_proj") == ["bf16", "bf16", "nvfp4", "bf16"]
    assert len(checkpoint.groups) == 3


def test_layer_1_is_not_layer_10():
    checkpoint = read(modelopt("model.layers.1", "model.layers.2.*"), n_layers=25)
    left = [i for i, fmt in enumerate(formats(checkpoint, "mlp.up_proj", range(25))) if fmt == "bf16"]
    assert left == [1, 2]


@pytest.mark.parametrize(
    "pattern",
    [
        "model.layers.2.self_attn",
        "model.layers.2.self_attn*",
        "language_model.model.layers.2.self_attn*",
        "model.language_model.layers.2.self_attn.*",
        "re:.*layers\\.2\\.self_attn.*",
        "re:model.layers.2.self_attn.*",
    ],
)
def test_a_module_is_found_by_name_glob_or_expression_however_nested(pattern):
    checkpoint = read(modelopt(pattern))
    assert formats(checkpoint, "attention.q_proj") == ["nvfp4", "nvfp4", "bf16", "nvfp4"]
    assert set(formats(checkpoint, "mlp.down_proj")) == {"nvfp4"}


def test_dense_layers_and_routed_experts_are_told_apart():
    """Kimi K2.5's expression ends at mlp.*_proj: experts are not meant."""
    q = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "ignore": [
            "lm_head",
            "re:.*self_attn.*",
            "re:.*shared_experts.*",
            "re:.*mlp\\.(gate|up|down)_proj.*",
        ],
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "type": "int"}}},
    }
    checkpoint = read(q, model_type="kimi_k2")
    assert checkpoint.weight_dtype == "int4-g32"
    named = ("mlp.up_proj", "shared_expert.up_proj", "attention.q_a_proj", "moe.experts.up_proj")
    assert [formats(checkpoint, name)[0] for name in named] == ["bf16", "bf16", "bf16", "int4-g32"]
    assert set(checkpoint.kept) >= {"attention", "feedforward", "shared_expert", "lm_head"}


def test_gemma_4_keeps_its_experts_beside_the_dense_part():
    checkpoint = read(modelopt("model.language_model.layers.*.mlp*"), model_type="gemma4")
    assert formats(checkpoint, "shared_expert.up_proj")[0] == "bf16"
    assert formats(checkpoint, "moe.experts.up_proj")[0] == "nvfp4"


def test_mixed_precision_lists_each_module_with_its_own_format():
    """As in nvidia/Qwen3.6-27B-NVFP4: attention in FP8, feed-forward and lm_head in NVFP4 weights."""
    layers = {f"model.language_model.layers.{i}.self_attn.q_proj": {"quant_algo": "FP8"} for i in range(4)}
    for i in range(4):
        for name in ("gate_proj", "up_proj", "down_proj"):
            layers[f"model.language_model.layers.{i}.mlp.{name}"] = {
                "quant_algo": "W4A16_NVFP4",
                "group_size": 16,
            }
    q = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {**layers, "lm_head": {"quant_algo": "W4A16_NVFP4"}},
        "ignore": ["mtp*"],
        "kv_cache_scheme": {"num_bits": 8, "type": "float"},
    }
    checkpoint = read(q, mtp_num_hidden_layers=1)
    assert (checkpoint.weight_dtype, checkpoint.kv_dtype) == ("nvfp4-a16", "fp8")
    assert set(formats(checkpoint, "attention.q_proj")) == {"fp8"}
    assert set(formats(checkpoint, "attention.o_proj")) == {"bf16"}  # not listed
    assert set(formats(checkpoint, "mlp.up_proj")) == {"nvfp4-a16"}
    assert checkpoint.format_of("lm_head", "lm_head") == "nvfp4-a16"
    assert formats(checkpoint, "mlp.up_proj", [4]) == ["bf16"]  # the next-token layer


def test_what_mixed_precision_ignores_keeps_the_format_beneath():
    """nvidia/DeepSeek-V4-Flash-NVFP4: experts in NVFP4, the rest in the FP8 it had."""
    q = {
        "quant_method": "fp8",
        "quant_algo": "MIXED_PRECISION",
        "weight_block_size": [128, 128],
        "scale_fmt": "ue8m0",
        "ignore": ["*.attn.*", "*.ffn.shared_experts.*", "head"],
        "quantized_layers": {f"layers.{i}.ffn.experts": {"quant_algo": "NVFP4"} for i in range(4)},
    }
    checkpoint = read(q, model_type="deepseek_v4")
    assert checkpoint.weight_dtype == "nvfp4"
    assert set(formats(checkpoint, "moe.experts.down_proj")) == {"nvfp4"}
    assert set(formats(checkpoint, "attention.q_b_proj")) == {"fp8-block-ue8m0"}
    assert set(formats(checkpoint, "shared_expert.up_proj")) == {"fp8-block-ue8m0"}


def test_fp4_experts_of_an_fp8_checkpoint():
    q = {"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}
    checkpoint = read(q, model_type="deepseek_v4", expert_dtype="fp4")
    assert formats(checkpoint, "moe.experts.up_proj")[0] == "mxfp4"
    assert formats(checkpoint, "attention.q_b_proj")[0] == "fp8-block-ue8m0"


def test_groups_with_targets_and_one_for_all_the_rest():
    q = {
        "quant_method": "compressed-tensors",
        "config_groups": {
            "group_0": {
                "targets": ["re:.*mlp.*"],
                "weights": {"num_bits": 4, "type": "int", "group_size": 128},
            },
            "group_1": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
            },
        },
    }
    checkpoint = read(q)
    assert formats(checkpoint, "mlp.up_proj")[0] == "int4"
    assert formats(checkpoint, "attention.o_proj")[0] == "fp8-channel"


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "scale_fmt": "ue8m0"}, "fp8-block-ue8m0"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64}, "int4-g64"),
        ({"quant_method": "gptq", "bits": 4, "group_size": -1}, "int4-channel"),
        ({"quant_method": "auto-round", "bits": 4}, "int4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4-single"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "gguf", "file_type": "q5_k_m"}, "q5_k_m"),
        ({"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}, "fp8-block"),
        ({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, "int4-a8"),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "mxfp8"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, "mxfp4"),
        (
            {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}}},
            "fp8",
        ),
    ],
)
def test_methods_give_their_format(quantization, dtype):
    assert read(quantization).weight_dtype == dtype


def test_weights_alone_and_weights_with_activations_differ():
    def group(**more):
        weights = {"num_bits": 8, "type": "int", "strategy": "channel"}
        return {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": weights, **more}}}

    assert read(group(input_activations={"num_bits": 8})).weight_dtype == "int8"
    assert read(group(input_activations=None)).weight_dtype == "int8-a16"
    assert read(group()).weight_dtype == "int8"  # a shortened config: the usual meaning


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"quant_method": "modelopt", "quant_algo": "FP3"}, "quant_algo 'fp3' is not known: allowed are FP8"),
        (
            {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"},
            "neither quant_algo nor config_groups",
        ),
        ({"quant_method": "modelopt", "quantized_layers": {}}, "quantized_layers is empty"),
        ({"quant_method": "gptq", "bits": 3}, "bits must be 4 or 8, got 3"),
        ({"quant_method": "fp8", "ignored_layers": [1]}, "ignored_layers must be a list of names"),
        ({"quant_method": "gguf", "file_type": "q9"}, "unknown weight_dtype 'q9'"),
    ],
)
def test_a_wrong_config_is_one_clear_line(quantization, message):
    with pytest.raises(SpecError, match=message):
        read(quantization)


def test_the_cache_format_is_what_the_checkpoint_declares():
    assert read(modelopt()).kv_dtype is None
    assert read(modelopt(kv_cache_scheme="FP8")).kv_dtype == "fp8"
    assert read(modelopt(kv_cache_quant_algo="FP8")).kv_dtype == "fp8"
    assert read(modelopt(kv_cache_scheme={"num_bits": 8, "type": "float"})).kv_dtype == "fp8"
    assert read(modelopt(kv_cache_scheme={"num_bits": 8, "type": "int"})).kv_dtype == "int8"
    assert read(modelopt(kv_cache_scheme=None)).kv_dtype is None


def test_the_file_beside_a_config_says_how_it_is_quantised(tmp_path):
    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 100,
    }  # fmt: skip
    quantization = {
        "quant_algo": "FP8",
        "kv_cache_quant_algo": "FP8",
        "exclude_modules": ["lm_head", "*.mlp.*"],
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_model(str(tmp_path)).checkpoint.weight_dtype == "bf16"
    beside = tmp_path / "hf_quant_config.json"
    beside.write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": quantization}))
    checkpoint = load_model(str(tmp_path)).checkpoint
    assert (checkpoint.kv_dtype, "feedforward" in checkpoint.kept) == ("fp8", True)
    assert checkpoint.format_of("attention.q_proj", "attention", 0) == "fp8"
    beside.write_text("[]")
    with pytest.raises(SpecError, match=r"hf_quant_config\.json: expected a mapping"):
        load_model(str(tmp_path))


def test_thousands_of_listed_modules_are_few_groups():
    """nvidia/MiniMax-M3-NVFP4 lists each of 128 experts in each of 57 layers."""
    layers = {
        f"language_model.model.layers.{i}.block_sparse_moe.experts.{e}.{w}": {"quant_algo": "NVFP4"}
        for i in range(3, 60) for e in range(128) for w in ("w1", "w2", "w3")
    }  # fmt: skip
    layers |= {f"language_model.model.layers.{i}.mlp.up_proj": {"quant_algo": "MXFP8"} for i in range(3)}
    q = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    checkpoint = read(q, model_type="minimax_m3_vl", n_layers=60)
    assert len(checkpoint.groups) == 2
    assert formats(checkpoint, "moe.experts.up_proj", [2, 3]) == ["bf16", "nvfp4"]
    assert formats(checkpoint, "mlp.up_proj", [2, 3]) == ["mxfp8", "bf16"]


def test_names_lose_what_families_put_before_them():
    assert plain_name("model.language_model.layers.0.mlp") == "layers.0.mlp"
    assert plain_name("language_model.model.layers.0.mlp") == "layers.0.mlp"
    assert plain_name("backbone.layers.0.mixer") == "layers.0.mixer"


def test_expressions_that_do_not_compile_match_nothing():
    assert not Patterns(["re:(", "["]).match("layers.0.mlp.up_proj")
