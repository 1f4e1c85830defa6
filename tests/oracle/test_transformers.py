"""The model code of transformers as an independent count of parameters, caches and flops.

Needs the extra ``oracle`` (torch and transformers); no network and no weights. Parameters
are counted on the meta device at full size, caches and flops by running a small copy.
"""

import copy
import os
import warnings

import pytest

from calc.specs.deployment import Deployment
from calc.specs.facts import spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.hf_config.families import TOWERS
from calc.specs.model_files import load_model
from calc.specs.strict_yaml import read_yaml
from calc.work.attention import attention
from calc.work.lightning_attention import LightningAttention
from calc.work.memory import precision_of
from calc.work.op import Sequences
from calc.work.parameters import total_parameters
from calc.work.step import step_ops

os.environ["HF_HUB_OFFLINE"] = "1"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="the extra 'oracle' is not installed")
    transformers = pytest.importorskip("transformers", reason="the extra 'oracle' is not installed")
    from torch.utils.flop_counter import FlopCounterMode

pytestmark = pytest.mark.filterwarnings("ignore")

#: model_type -> name of the same layout in transformers
SAME = {"kimi_k2": "deepseek_v3", "mimo": "qwen2", "deepseek_ref": "deepseek_v4"}
SAME |= {"minimax_m3": "minimax_m3_vl_text"}
#: model_type -> why transformers 5.23 cannot tell
ABSENT = {
    "kimi_k3": "not in transformers",
    "kimi_vl": "not in transformers",
    "nemotron-nas": "not in transformers",
    "step3p7": "its class has a vocabulary and a tower of its own",
}
#: fields that our specs leave out and its classes would fill with something else
FILLED = {
    "dbrx": {"attn_config": {"rope_theta": 5e5}},
    "gemma3": {"vision_config": {"vision_use_head": False}},
    "mistral": {"sliding_window": None},
}
#: ours minus theirs at full size
KNOWN_DIFFERENCES = {
    "flan-t5-xxl": (32128 * 4096, "an lm_head of its own, which transformers 5 ties to the embedding"),
}


def config_of(name):
    config = copy.deepcopy(read_yaml(spec_files("model_specs")[name])["config"])
    text = config.get("text_config", {})
    for section in (config, text):
        section.pop("quantization_config", None)
    if "tie_word_embeddings" in text:
        config.setdefault("tie_word_embeddings", text["tie_word_embeddings"])
    for key, value in FILLED.get(config["model_type"], {}).items():
        if isinstance(value, dict):
            config[key].update(value)
        else:
            config.setdefault(key, value)
    return config


def their_config(config):
    kind = SAME.get(config["model_type"], config["model_type"])
    return transformers.CONFIG_MAPPING[kind].from_dict({**config, "model_type": kind})


def their_class(kind):
    if kind in ("t5", "bart"):
        return transformers.AutoModelForSeq2SeqLM
    if kind == "whisper":
        return transformers.AutoModelForSpeechSeq2Seq
    return transformers.AutoModelForImageTextToText if kind in TOWERS else transformers.AutoModelForCausalLM


def count(model):
    return sum(weight.numel() for weight in model.parameters())


def one_of_each_family():
    chosen = {}
    for name in sorted(spec_files("model_specs"), key=lambda name: (len(name), name)):
        chosen.setdefault(config_of(name)["model_type"], name)
    return [name for kind, name in sorted(chosen.items()) if kind not in ABSENT]


@pytest.mark.parametrize("name", one_of_each_family())
def test_parameters_at_full_size(name):
    config = config_of(name)
    with torch.device("meta"):
        model = their_class(config["model_type"]).from_config(their_config(config))
    assert total_parameters(load_model(name)) - count(model) == KNOWN_DIFFERENCES.get(name, (0, ""))[0]


@pytest.mark.parametrize("kind", ["bamba", "falcon_mamba", "kimi_linear"])
def test_parameters_of_families_that_no_spec_has(kind):
    config = transformers.CONFIG_MAPPING[kind]().to_dict()
    if kind == "kimi_linear":
        types = config["layer_types"]
        config["linear_attn_config"] = {
            "num_heads": config["linear_num_heads"],
            "head_dim": config["linear_head_dim"],
            "full_attn_layers": [i for i, name in enumerate(types, 1) if name == "full_attention"],
            "kda_layers": [i for i, name in enumerate(types, 1) if name == "linear_attention"],
        }
        config["first_k_dense_replace"] = config["mlp_layer_types"].count("dense")
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(their_config(config))
    assert total_parameters(model_from_config(config, id="x", name="X")) == count(model)


WINDOW, TOKENS = 16, 40
#: the widths of a copy; KV heads, head widths, states and patterns stay where these do not decide them
SMALL = {
    **dict.fromkeys(("hidden_size", "intermediate_size", "intermediate_size_mlp", "ffn_dim", "n_embd"), 64),
    **dict.fromkeys(("ffn_hidden_size", "word_embed_proj_dim", "moe_shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "d_model", "d_ff"), 64),
    **dict.fromkeys(("shared_intermediate_size", "encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), 128),
    **dict.fromkeys(("n_routed_experts", "num_experts", "num_local_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "top_k_experts"), 2),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 2),
    "hidden_size_per_layer_input": 16,
    "moe_latent_size": 32,
}  # fmt: skip
ALWAYS = {"n_group": 1, "topk_group": 1, "num_expert_group": 1, "num_nextn_predict_layers": 0}
ALWAYS |= {"pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0}
#: model_type -> what a copy needs besides, for widths that must agree
FOUR = {"num_attention_heads": 4, "num_key_value_heads": 4}
FITTING = {
    "deepseek_v4": {"num_attention_heads": 8, "o_groups": 8},
    "deepseek_ref": {"num_attention_heads": 8, "o_groups": 8},
    "deepseek_v2": FOUR, "deepseek_v3": FOUR, "deepseek_v32": FOUR, "kimi_k2": FOUR,
    "phi": FOUR, "gpt_neox": FOUR, "cohere": FOUR, "opt": FOUR,
    "phi3": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "qwen2": {"num_attention_heads": 4, "num_key_value_heads": 2},
    "gpt2": {"n_head": 4}, "gpt_bigcode": {"n_head": 4}, "gptj": {"n_head": 4, "rotary_dim": 8},
    "falcon": {"hidden_size": 128, "num_attention_heads": 2},
    "mamba2": {"num_heads": 2},
    "bamba": {"mamba_n_heads": 2},
    "granitemoehybrid": {"mamba_n_heads": 2},
    "whisper": {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_mel_bins": 16},
}  # fmt: skip
#: families whose caches transformers keeps in another way, or whose copies cannot be small
NOT_RUN = {"dbrx": "its sizes are in sections"}


def small_config(name):
    """Return the text part of a model with small widths and its first layers of every kind."""
    config = config_of(name)
    kind = config["model_type"]
    if kind in TOWERS:
        kind = TOWERS[kind][0]
        config = {**FILLED.get(kind, {}), **config["text_config"], "model_type": kind}
    model = load_model(name)
    parts = [layer.attention for layer in model.layers]
    n_layers = max(2, *(parts.index(part) + 1 for part in set(parts)))  # one of every kind
    config |= {key: value for key, value in SMALL.items() if config.get(key)} | ALWAYS
    config |= FITTING.get(config["model_type"], {})
    return cut(config, n_layers, model.n_layers)


def cut(config, n_layers, whole):
    """Return a config, and its sections, with every list or pattern of layers cut to so many."""
    for key, value in config.items():
        if isinstance(value, dict):
            cut(value, n_layers, whole)
        elif key in ("num_hidden_layers", "n_layer", "n_layers"):
            config[key] = n_layers
        elif key in ("full_attn_layers", "kda_layers"):
            config[key] = [i for i in value if i <= n_layers]
        elif isinstance(value, list | str) and len(value) >= whole and key != "model_type":
            config[key] = value[:n_layers]
    return config


def tensors(value, seen):
    """Yield every tensor that a cache layer holds, once."""
    if isinstance(value, torch.Tensor):
        if id(value) not in seen:
            seen.add(id(value))
            yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item, seen)


def held(layer):
    return sum(t.numel() * t.element_size() for t in tensors(vars(layer), set()))


def small_copy(name):
    """Return our model and theirs, random, with one loop over experts and attention by its formula."""
    torch.manual_seed(0)
    config = small_config(name)
    kind, theirs = config["model_type"], their_config(config)
    ways = {"attn_implementation": "eager", "experts_implementation": "eager"}
    model = their_class(kind).from_config(theirs, dtype=torch.bfloat16, **ways).eval()
    return model_from_config(config, id=name, name=name), model, kind


def run_small(name):
    ours, model, kind = small_copy(name)
    prompt = torch.randint(1, 100, (1, TOKENS))
    inputs = {"input_ids": prompt}
    if kind in ("t5", "bart"):
        inputs["decoder_input_ids"] = prompt[:, :3]
    if kind == "whisper":
        inputs = {"input_features": torch.zeros(1, 16, 3000, dtype=torch.bfloat16)}
        inputs["decoder_input_ids"] = prompt[:, :3]
    with torch.no_grad():
        out = model(**inputs, use_cache=True)
    return ours, model, out.get("past_key_values") or out.get("cache_params")


@pytest.mark.parametrize("name", [n for n in one_of_each_family() if load_model(n).family not in NOT_RUN])
def test_a_small_copy_has_our_parameters_and_keeps_our_cache(name, transformers_bytes):
    ours, model, cache = run_small(name)
    assert count(model) == total_parameters(ours)
    if ours.encoder_tokens is not None:
        tokens = 3 if ours.encoder_tokens else TOKENS + 3
        sides = zip(cache.self_attention_cache.layers, cache.cross_attention_cache.layers, strict=True)
        found = [held(one) + held(other) for one, other in sides]
        assert found == [attention(layer.attention).cache_bytes(tokens, 2) for layer in ours.layers]
        return
    for index, (layer, theirs) in enumerate(zip(ours.layers, cache.layers, strict=True)):
        kind = attention(layer.attention) if layer.attention else None
        expected = transformers_bytes(kind, TOKENS) if kind else 0
        if isinstance(kind, LightningAttention):  # in a list of its own, in 16 bits; we count fp32
            assert 2 * cache.linear_cache[index].nbytes == expected
            continue
        assert held(theirs) == expected, (index, type(theirs).__name__)


BATCH = 2
#: families whose copies need more than a prompt
OTHER_INPUTS = ("t5", "bart", "whisper")
#: experts of Llama 4 are computed for every token there, one batched product for all
DENSE_EXPERTS = ("llama4",)
#: one batched product for the groups of its output, and a mixing of streams after the last layer
GROUPED_OUTPUT = ("deepseek_v4", "deepseek_ref")
#: sums over time written as products, or scores of an indexer weighted in a product
OTHER_PRODUCTS = {"chunk_scan", "recurrent_update", "linear_attention"}


def flops(run, **inputs):
    """Return what torch counts in one pass: products with weights, batched products; and the cache."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        out = run(**inputs, use_cache=True, logits_to_keep=1)
    counted = {str(key): value for key, value in counter.get_flop_counts()["Global"].items()}
    weights = sum(counted.get(key, 0) for key in ("aten.mm", "aten.addmm"))
    cache = {key: out[key] for key in ("past_key_values", "cache_params") if out.get(key) is not None}
    return weights, sum(counted.get(key, 0) for key in ("aten.bmm", "aten.baddbmm")), cache


def is_latent(ours):
    return any(layer.attention and layer.attention.kind == "mla" for layer in ours.layers)


def full_square(op):
    """Flops of an attention in which every new token is paired with every key held."""
    sizes = op.shape
    d_key = sizes.get("d_key", sizes.get("d_head"))
    keys = sizes["seen"] if op.kind == "decode_attention" else sizes["past"] + sizes["new"]
    new = sizes.get("new", 1)
    return 2 * op.count * sizes["batch"] * sizes["heads"] * new * keys * (d_key + sizes["d_value"])


WITHOUT_FLOPS = {*NOT_RUN, *OTHER_INPUTS, *GROUPED_OUTPUT}


@pytest.mark.parametrize(
    "name", [n for n in one_of_each_family() if load_model(n).family not in WITHOUT_FLOPS]
)
def test_a_small_copy_does_our_products_with_weights_and_our_attention(name):
    """A prompt of 40 tokens, then one token more, of two sequences: equal to the flop.

    Transformers pairs every new token of a prompt with every key and masks what it should not
    see, and so is our attention counted here; by decoding it sees what we do. It expands
    latents in decoding too, as we do in prefill: one token is taken for a prompt of one.
    """
    ours, model, kind = small_copy(name)
    prompt = torch.randint(1, 100, (BATCH, TOKENS))
    *first, cache = flops(model, input_ids=prompt)
    *second, _ = flops(model, input_ids=prompt[:, :1], **cache)
    later = Sequences("prefill" if is_latent(ours) else "decode", BATCH, 1, TOKENS)
    for found, group in ((first, Sequences("prefill", BATCH, TOKENS, 0)), (second, later)):
        ops = step_ops(ours, (group,), precision_of(ours, Deployment()))
        products = ("gemm",) if kind.startswith(DENSE_EXPERTS) else ("gemm", "moe")
        assert found[0] == sum(op.count * op.flops for op in ops if op.kind in products)
        kinds, names = {op.kind for op in ops}, {op.name for op in ops}
        weighted = is_latent(ours) and any(each.startswith("indexer") for each in names)
        if kinds & OTHER_PRODUCTS or weighted or kind.startswith(DENSE_EXPERTS):
            continue
        attention_ops = [op for op in ops if op.kind.endswith(("_attention", "prefill_mla"))]
        assert found[1] == sum(full_square(op) for op in attention_ops)
        if group.phase == "decode":
            assert found[1] == sum(op.count * op.flops for op in attention_ops)
