"""Families that mix full attention with a linear kind: Qwen3-Next, Qwen3.5, MiniMax-Text-01."""

from calc.specs.errors import SpecError
from calc.specs.hf_config.assemble import dense, head_sizes, model_fields, norms
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.hf_config.moe import experts, qwen_feedforward
from calc.specs.model import Layer, Part, Weight

_KINDS = ("linear_attention", "full_attention")


def build_qwen(c: Fields) -> dict:
    """Qwen3-Next and Qwen3.5: gated delta net, every fourth layer gated full attention."""
    n_layers, d_model = n_layers_of(c), c.count("hidden_size")
    every = c.count("full_attention_interval", default=4)
    kinds = layer_kinds(c, n_layers, _KINDS, lambda i: _KINDS[(i + 1) % every == 0])
    parts = {"linear_attention": gated_delta_net(c), "full_attention": _gated_attention(c)}
    routed = any(name in c for name in ("num_experts", "num_local_experts"))
    plain = None if routed else dense(c, c.count("intermediate_size"))
    feedforward = qwen_feedforward(c) if routed else lambda i: plain
    weights = norms(d_model, *TWO_NORMS)
    layers = [Layer(parts[kind], feedforward(i), weights) for i, kind in enumerate(kinds)]
    n_mtp = c.count("mtp_num_hidden_layers", default=0, least=0, most=16)
    return model_fields(
        c,
        layers,
        mtp=(Layer(parts["full_attention"], feedforward(n_layers - 1), weights),) * n_mtp,
        mtp_outer=_mtp_outer(d_model) if n_mtp else (),
    )


def _gated_attention(c: Fields) -> Part:
    bias = c.flag("attention_bias")
    gated = c.flag("attn_output_gate", default=True)
    return Part.of(
        "gqa", **head_sizes(c, d_head=256), qk_norm="head", gated=gated, qkv_bias=bias, out_bias=bias
    )


def gated_delta_net(c: Fields) -> Part:
    """Return the linear attention of a config."""
    n_key_heads, n_value_heads = c.count("linear_num_key_heads"), c.count("linear_num_value_heads")
    if n_value_heads % n_key_heads:
        raise SpecError(f"{c.where}: {n_value_heads} value heads cannot share {n_key_heads} key heads evenly")
    return Part.of(
        "gated_delta_net",
        d_model=c.count("hidden_size"),
        n_key_heads=n_key_heads,
        n_value_heads=n_value_heads,
        d_key=c.count("linear_key_head_dim"),
        d_value=c.count("linear_value_head_dim"),
        d_conv=c.count("linear_conv_kernel_dim"),
    )


def build_minimax(c: Fields) -> dict:
    """MiniMax-Text-01: lightning attention, every eighth layer full attention, experts in all."""
    n_layers, d_model = n_layers_of(c), c.count("hidden_size")
    heads = head_sizes(c)
    lightning = Part.of("lightning", d_model=d_model, n_heads=heads["n_heads"], d_head=heads["d_head"])
    parts = {"linear_attention": lightning, "full_attention": Part.of("gqa", **heads)}
    listed = c.per_layer("attn_type_list", n_layers, (0, 1))
    kinds = layer_kinds(c, n_layers, _KINDS, lambda i: _KINDS[listed[i] if listed else (i + 1) % 8 == 0])
    routed, weights = experts(c, c.count("intermediate_size")), norms(d_model, *TWO_NORMS)
    return model_fields(c, [Layer(parts[kind], routed, weights) for kind in kinds])


def _mtp_outer(d_model: int) -> tuple[Weight, ...]:
    return (
        Weight("mtp.fc", "mtp", d_model, 2 * d_model),
        *norms(d_model, "mtp.pre_fc_norm_embedding", "mtp.pre_fc_norm_hidden", "mtp.norm"),
    )
