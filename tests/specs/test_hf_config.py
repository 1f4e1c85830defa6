"""From config.json to Model: families, layer patterns, checkpoints, wrong configs."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calc.specs.errors import SpecError
from calc.specs.facts import spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.hf_config.families import BUILDERS, NOT_YET, TOWERS
from calc.specs.model import ROLES, SPLITS
from calc.specs.strict_yaml import read_yaml
from calc.work.parameters import active_parameters, mtp_weights, total_parameters, weights

CONFIGS = {name: read_yaml(path)["config"] for name, path in spec_files("model_specs").items()}
WRONG = [-1, 0, 1, 3, "abc", "", 10**30, 1.5, math.nan, math.inf, [], [1], [[1]], {}, {"a": 1}, None, True]


def build(config):
    return model_from_config(config, id="mine", name="Mine")


FEW = [-1, "abc", math.nan, [[1]], {"a": 1}]


def quantised(config):
    return "quantization_config" in {**config, **config.get("text_config", {})}


def one_of_each_family():
    """The shortest config of each family, and the shortest quantised one of a few."""
    chosen = {}
    for name, config in sorted(CONFIGS.items(), key=lambda item: len(str(item[1]))):
        chosen.setdefault(config["model_type"], name)
        if quantised(config):
            chosen.setdefault(quantisation_method(config), name)
    return sorted(set(chosen.values()))


def quantisation_method(config):
    section = {**config, **config.get("text_config", {})}["quantization_config"]
    return section.get("quant_method"), section.get("quant_algo")


def paths(section, before=()):
    for name, value in section.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from paths(value, (*before, name))


def changed(config, path, value):
    config = copy.deepcopy(config)
    section = config
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    return config


def builds_or_explains(config):
    """Build, or raise SpecError in one line; anything else is a failure."""
    try:
        model = build(config)
    except SpecError as error:
        message = str(error)
    else:
        message = ""
        assert 0 < active_parameters(model) <= total_parameters(model)
    assert "\n" not in message


@pytest.mark.parametrize("name", one_of_each_family())
def test_any_field_missing_or_wrong_builds_or_gives_one_clear_line(name):
    config = CONFIGS[name]
    wrong = FEW if quantised(config) else WRONG  # every module of every layer is asked for its format
    for path in paths(config):
        without = changed(config, path, None)
        section = without
        for step in path[:-1]:
            section = section[step]
        del section[path[-1]]
        builds_or_explains(without)
        for value in wrong:
            builds_or_explains(changed(config, path, value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300)
@given(
    name=st.sampled_from(sorted(CONFIGS)), changes=st.lists(st.tuples(st.integers(0, 99), JSON), max_size=3)
)
def test_several_fields_changed_to_anything_never_raise_but_spec_error(name, changes):
    config = CONFIGS[name]
    for index, value in changes:
        every = list(paths(config))
        config = changed(config, every[index % len(every)], value) if every else config
    builds_or_explains(config)


@given(JSON)
def test_anything_that_is_not_a_config_is_refused(value):
    with pytest.raises(SpecError):
        model_from_config(value)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_weight_has_a_known_role_and_split(name):
    model = build(CONFIGS[name])
    for weight, count in [*weights(model), *mtp_weights(model)]:
        assert count > 0
        assert weight.parameters > 0, weight
        assert weight.role in ROLES, weight
        assert weight.split in SPLITS, weight
        assert (weight.split == "kv") == (weight.kv_heads > 0), weight


@pytest.mark.parametrize("family", sorted(NOT_YET))
def test_families_not_counted_yet_are_refused_by_name(family):
    with pytest.raises(SpecError, match=rf"model_type '{family}': .* not counted yet; known are bamba"):
        build({"model_type": family})


def test_an_unknown_family_is_refused_with_the_nearest():
    with pytest.raises(SpecError, match="unknown model_type 'lama': did you mean 'llama'"):
        build({"model_type": "lama"})


def test_no_family_is_both_known_and_refused():
    assert not set(NOT_YET) & {*BUILDERS, *TOWERS}


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("llama-3.1-8b", "num_key_value_heads", 3, "32 attention heads cannot share 3 KV heads evenly"),
        ("llama-3.1-8b", "num_attention_heads", 24, "not a multiple of 24 attention heads|cannot share"),
        ("llama-3.1-8b", "num_hidden_layers", 10**6, "num_hidden_layers must be from 1 to 2000, got 1000000"),
        ("llama-3.1-8b", "hidden_size", "4096", "hidden_size must be a whole number, got '4096'"),
        ("llama-3.1-8b", "tie_word_embeddings", 1, "tie_word_embeddings must be true or false, got 1"),
        ("mixtral-8x7b", "num_experts_per_tok", 9, "a token cannot visit 9 of 8 experts"),
        ("gpt-oss-20b", "layer_types", ["full_attention"], "layer_types has 1 entries for 24 layers"),
        ("gpt-oss-20b", "layer_types", ["mamba"] * 24, "layer_types holds 'mamba'; known are full_att"),
        (
            "qwen3-32b-fp8",
            "quantization_config",
            {"quant_method": "quip"},
            "method 'quip' is not known",
        ),
    ],
)
def test_wrong_fields_are_named_with_value_and_what_is_allowed(name, field, value, message):
    with pytest.raises(SpecError, match=message):
        build(changed(CONFIGS[name], (field,), value))


def windows(name):
    return [layer.attention["window"] for layer in build(CONFIGS[name]).layers]


def test_sliding_layers_follow_the_config():
    assert windows("mistral-7b-v0.1") == [4096] * 32
    assert windows("gemma-2-9b") == [4096, None] * 21
    assert windows("gemma-3-27b") == ([1024] * 5 + [None]) * 10 + [1024] * 2
    assert windows("command-a-03-2025") == ([4096] * 3 + [None]) * 16
    assert windows("olmo-3-7b") == ([4096] * 3 + [None]) * 8
    assert windows("gpt-oss-20b") == [128, None] * 12


def test_a_pattern_given_as_a_number_equals_the_same_pattern_as_a_list():
    config = CONFIGS["gemma-3-1b"]
    kinds = ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(26)]
    assert build({**config, "layer_types": kinds}).layers == build(config).layers


def test_a_window_that_qwen_does_not_use_is_ignored():
    config = {**CONFIGS["qwen3-8b"], "sliding_window": 4096, "max_window_layers": 20}
    unused, used = ({**config, "use_sliding_window": flag} for flag in (False, True))
    assert [layer.attention["window"] for layer in build(unused).layers] == [None] * 36
    assert [layer.attention["window"] for layer in build(used).layers] == [None] * 20 + [4096] * 16


def test_llama_4_has_chunked_layers_and_routed_layers_by_its_steps():
    model = build(CONFIGS["llama-4-maverick"])
    assert [dict(layer.attention.sizes).get("chunk") for layer in model.layers] == [
        8192,
        8192,
        8192,
        None,
    ] * 12
    assert [layer.feedforward.kind for layer in model.layers] == ["dense", "moe"] * 24


def test_dense_layers_come_first_in_deepseek():
    kinds = [layer.feedforward.kind for layer in build(CONFIGS["deepseek-v3"]).layers]
    assert kinds == ["dense"] * 3 + ["moe"] * 58


def test_qwen_layers_can_be_dense_by_step_or_by_list():
    config = {**CONFIGS["qwen3-30b-a3b"], "decoder_sparse_step": 2, "mlp_only_layers": [1]}
    kinds = [layer.feedforward.kind for layer in build({**config, "intermediate_size": 6144}).layers]
    assert kinds == ["dense", "dense"] + ["dense", "moe"] * 23


def test_every_fourth_layer_of_qwen_3_5_is_full_attention():
    kinds = [layer.attention.kind for layer in build(CONFIGS["qwen3.5-397b-a17b"]).layers]
    assert kinds == (["gated_delta_net"] * 3 + ["gqa"]) * 15


def test_layers_that_share_an_indexer_have_none_of_their_own():
    model = build(CONFIGS["glm-5.2"])
    own = [dict(layer.attention.sizes).get("n_index_heads", 0) > 0 for layer in model.layers]
    assert (sum(own), own[:8]) == (21, [True, True, True, False, False, False, True, False])
    assert all(layer.attention["index_topk"] == 2048 for layer in model.layers)


@pytest.mark.parametrize(
    ("name", "dtype", "kept"),
    [
        ("llama-3.1-8b", "bf16", None),
        ("command-r-plus", "fp16", None),
        ("gpt2", "fp16", None),  # stored in 32 bits; engines run it in 16
        ("qwen3-32b-fp8", "fp8-block", set()),
        ("qwen3-235b-a22b-fp8", "fp8-block", set()),
        ("glm-5-fp8", "fp8-block", set()),
        ("devstral-2-123b", "fp8", set()),
        ("deepseek-v3", "fp8-block", set()),
        ("gpt-oss-120b", "mxfp4", {"attention"}),
        ("llama-3.1-8b-w8a8", "int8", set()),
        ("llama-3.1-8b-w4a16", "int4", set()),
        ("llama-3.3-70b-fp8-dynamic", "fp8", set()),
        ("kimi-k2.5", "int4-g32", {"attention", "feedforward", "shared_expert"}),
    ],
)
def test_a_checkpoint_names_its_format_and_what_it_leaves_in_16_bits(name, dtype, kept):
    checkpoint = build(CONFIGS[name]).checkpoint
    assert checkpoint.weight_dtype == dtype
    if kept is None:
        assert checkpoint.kept is None
    else:
        quantisable = {"attention", "feedforward", "expert", "shared_expert"}
        assert set(checkpoint.kept) & quantisable == kept
        assert {"embedding", "lm_head", "norm", "router"} <= set(checkpoint.kept)


@pytest.mark.parametrize(
    ("quantization", "dtype"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "int4-awq"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8-g128"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8-channel"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}},
            },
            "nvfp4",
        ),
    ],
)
def test_quantisation_methods_give_the_formats(quantization, dtype):
    assert (
        build({**CONFIGS["llama-3.1-8b"], "quantization_config": quantization}).checkpoint.weight_dtype
        == dtype
    )


def test_modules_left_alone_are_matched_as_globs_regular_expressions_and_prefixes():
    for pattern in (
        "model.layers.*.self_attn*",
        "re:.*self_attn.*",
        "self_attn",
        "language_model.model.layers.*.self_attn*",
    ):
        quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head", pattern]}
        kept = build({**CONFIGS["llama-3.1-8b"], "quantization_config": quantization}).checkpoint.kept
        assert ("attention" in kept, "feedforward" in kept) == (True, False), pattern


def test_next_token_layers_are_beside_the_model_not_in_it():
    model = build(CONFIGS["deepseek-v3"])
    assert (model.n_layers, len(model.mtp)) == (61, 1)
    assert build({**CONFIGS["deepseek-v3"], "num_nextn_predict_layers": 0}).mtp == ()


def test_a_model_without_its_vision_section_is_counted_without_a_tower():
    config = {key: value for key, value in CONFIGS["gemma-3-4b"].items() if key != "vision_config"}
    assert not any(weight.role == "vision" for weight in build(config).outer)
