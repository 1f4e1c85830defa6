"""Gemma 4: two shapes of attention, shared caches, per-layer embeddings, routed experts."""

from calc.specs.hf_config.assemble import check_groups, dense, embedding, head_sizes, model_fields, norms
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.llama_like import FOUR_NORMS, KINDS
from calc.specs.hf_config.moe import experts
from calc.specs.model import Layer, Part, Weight

_ROUTED_NORMS = ("post_feedforward_norm_1", "post_feedforward_norm_2", "pre_feedforward_norm_2")


def build_gemma4(c: Fields) -> dict:
    """Gemma 4, text part."""
    n_layers = n_layers_of(c)
    kinds = layer_kinds(c, n_layers, KINDS, lambda i: KINDS[(i + 1) % 6 != 0])
    n_shared = c.count("num_kv_shared_layers", default=0, least=0)
    if n_shared >= n_layers:
        raise c.wrong("num_kv_shared_layers", f"less than {n_layers}, the number of layers")
    d_model = c.count("hidden_size")
    width = c.count("hidden_size_per_layer_input", default=0, least=0)
    weights = norms(d_model, *FOUR_NORMS, *(("per_layer_input_norm",) if width else ()))
    if c.flag("enable_moe_block"):
        weights += norms(d_model, *_ROUTED_NORMS)
    layers = []
    for i, kind in enumerate(kinds):
        shares = i >= n_layers - n_shared
        layers.append(Layer(_attention(c, kind, shares), _feedforward(c, shares, width), weights))
    return model_fields(c, layers, tied=True, extra=_per_layer_embedding(c, n_layers, width))


def _attention(c: Fields, kind: str, shares: bool) -> Part:
    sizes = head_sizes(c, d_head=256) | {"qk_norm": "head", "shares_cache": shares}
    bias = c.flag("attention_bias")
    sizes |= {"qkv_bias": bias, "out_bias": bias}
    if kind == "sliding_attention":
        return Part.of("gqa", **sizes, window=c.count("sliding_window", default=512, most=10**9))
    sizes["d_head"] = c.count("global_head_dim", default=sizes["d_head"])
    same = c.flag("attention_k_eq_v")
    if same:
        sizes["n_kv_heads"] = c.count("num_global_key_value_heads", default=sizes["n_kv_heads"])
    check_groups(c, sizes["n_heads"], sizes["n_kv_heads"])
    return Part.of("gqa", **sizes, keys_as_values=same)


def _feedforward(c: Fields, shares: bool, width: int) -> Part:
    d_ff = c.count("intermediate_size")
    if c.flag("enable_moe_block"):
        top_k = c.count("top_k_experts", "num_experts_per_tok")
        routed = c.count("moe_intermediate_size", "expert_intermediate_size")
        config = Fields(dict(c.config) | {"num_experts_per_tok": top_k}, c.where)
        return experts(config, routed, d_shared=d_ff, router_scales=True)
    doubled = shares and c.flag("use_double_wide_mlp")
    return dense(c, d_ff * (2 if doubled else 1), d_per_layer_input=width)


def _per_layer_embedding(c: Fields, n_layers: int, width: int) -> tuple[Weight, ...]:
    if not width:
        return ()
    vocab = c.count("vocab_size_per_layer_input", "vocab_size")
    return (
        embedding(vocab, n_layers * width, "embed_tokens_per_layer"),
        Weight("per_layer_model_proj", "feedforward", n_layers * width, c.count("hidden_size")),
        Weight("per_layer_projection_norm", "norm", width),
    )
