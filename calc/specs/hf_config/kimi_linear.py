"""Kimi Linear and Kimi K3: delta attention, every few layers latent attention, routed experts."""

from calc.specs.errors import SpecError
from calc.specs.hf_config.assemble import dense, model_fields, norms
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.latent import latent_attention
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.hf_config.moe import experts
from calc.specs.model import Layer, Part, Weight

_KINDS = ("linear_attention", "full_attention")
#: Kimi K3 mixes the outputs of earlier blocks before attention and before the feed-forward
_RESIDUAL = ("attention_residual_norm", "attention_residual", "mlp_residual_norm", "mlp_residual")


def build(c: Fields) -> dict:
    """Return the Model fields of a text config."""
    n_layers, d_model = n_layers_of(c), c.count("hidden_size")
    linear = c.section("linear_attn_config")
    delta = Part.of(
        "kimi_delta",
        d_model=d_model,
        n_heads=linear.count("num_heads"),
        d_head=linear.count("head_dim"),
        d_conv=linear.count("short_conv_kernel_size", default=4),
        full_rank_gate=linear.flag("use_full_rank_gate"),
    )
    parts = {"linear_attention": delta, "full_attention": _latent(c)}
    kinds = layer_kinds(c, n_layers, _KINDS, _listed(linear, n_layers))
    first, every = c.count("first_k_dense_replace", default=0, least=0), c.count("moe_layer_freq", default=1)
    plain, routed = dense(c, c.count("intermediate_size")), _experts(c)
    mixed = c.count("attn_res_block_size", default=0, least=0)
    weights = norms(d_model, *TWO_NORMS, *(_RESIDUAL if mixed else ()))
    layers = [
        Layer(parts[kind], routed if i >= first and i % every == 0 else plain, weights)
        for i, kind in enumerate(kinds)
    ]
    extra = norms(d_model, "output_residual_norm", "output_residual") if mixed else ()
    return model_fields(c, layers, max_context=c.count("model_max_length", default=2**20), extra=extra)


def _listed(linear: Fields, n_layers: int):
    """Return the rule that the two lists of layer numbers, from 1, make."""
    full, delta = set(linear.counts("full_attn_layers")), set(linear.counts("kda_layers"))
    if full & delta or full | delta != set(range(1, n_layers + 1)):
        raise SpecError(
            f"{linear.where}: full_attn_layers and kda_layers must name each of the {n_layers} layers once"
        )
    return lambda i: _KINDS[i + 1 in full]


def _latent(c: Fields) -> Part:
    part = latent_attention(c)
    gate = c.flag("mla_use_output_gate")
    return Part.of(part.kind, **dict(part.sizes), output_gate=True) if gate else part


def _experts(c: Fields) -> Part:
    width, latent = c.count("moe_intermediate_size"), c.count("routed_expert_hidden_size", default=0, least=0)
    shared = width * c.count("num_shared_experts", default=0, least=0, most=1000)
    normed = bool(latent) and c.flag("latent_moe_use_norm")
    return experts(c, width, d_shared=shared, d_latent=latent, latent_norm=normed)


def vision(c: Fields) -> tuple[Weight, ...]:
    """Kimi K3: MoonViT with RMS norms and no biases, queries wider than the hidden state."""
    v = c.section("vision_config")
    d, d_ff = v.count("vt_hidden_size"), v.count("vt_intermediate_size")
    depth, qkv = v.count("vt_num_hidden_layers", most=500), v.count("qkv_hidden_size")
    rows, columns = (v.count(f"init_pos_emb_{side}", most=10**5) for side in ("height", "width"))
    merge = v.counts("merge_kernel_size", [2, 2])
    if len(merge) != 2 or not all(0 < size <= 64 for size in merge):
        raise v.wrong("merge_kernel_size", "two whole numbers from 1 to 64")
    merged = v.count("mm_hidden_size", default=d) * merge[0] * merge[1]
    d_text = c.section("text_config").count("hidden_size")
    shapes = {
        "patch_embed": (d, 3 * v.count("patch_size") ** 2, 1),
        "pos_embed": (rows * columns, d, 1),
        "blocks.qkv": (3 * qkv, d, depth),
        "blocks.proj": (d, qkv, depth),
        "blocks.fc1": (d_ff, d, depth),
        "blocks.fc2": (d, d_ff, depth),
        "blocks.norm": (d, 1, 2 * depth),
        "post_norm": (d, 1, 1),
        "projector.in_proj": (merged, merged, 1),
        "projector.out_proj": (d_text, merged, 1),
        "projector.norm": (d_text, 1, 1),
    }
    return tuple(Weight(f"vision.{name}", "vision", *shape) for name, shape in shapes.items())
