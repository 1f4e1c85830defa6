"""Families before or beside Llama: GPT-2 and its kin, OPT, BLOOM, MPT, Falcon, Phi-2."""

from calc.specs.hf_config.assemble import check_groups, head_sizes, model_fields, norms
from calc.specs.hf_config.fields import Fields, n_layers_of
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.model import Layer, Part, Weight


def _plain(c: Fields, d_ff: int, bias: bool = True) -> Part:
    """Return an ungated feed-forward (GELU or ReLU: two matrices)."""
    d_model = c.count("hidden_size", "n_embd", "d_model")
    return Part.of("dense", d_model=d_model, d_ff=d_ff, gated=False, bias=bias)


def _positions(rows: int, width: int) -> Weight:
    return Weight("embed_positions", "embedding", rows, width)


def _repeated(c: Fields, attention: Part, feedforward: Part, *names: str, bias: bool = True, **more) -> dict:
    """Return the Model fields of equal layers with such LayerNorms."""
    parallel = more.pop("parallel", False)
    layer = Layer(attention, feedforward, norms(attention["d_model"], *names, bias=bias), parallel)
    return model_fields(c, (layer,) * n_layers_of(c), layer_norm=bias, **more)


def build_gpt2(c: Fields) -> dict:
    """GPT-2 and GPT-BigCode (StarCoder): learned positions, biases everywhere, tied embeddings."""
    heads = head_sizes(c)
    d_model = heads["d_model"]
    if c.text("model_type") == "gpt_bigcode" and c.flag("multi_query", True):
        heads["n_kv_heads"] = 1
    attention = Part.of("gqa", **heads, qkv_bias=True, out_bias=True)
    positions = _positions(c.count("n_positions", most=10**9), d_model)
    d_ff = c.count("n_inner", default=4 * d_model)
    return _repeated(c, attention, _plain(c, d_ff), *TWO_NORMS, tied=True, extra=(positions,))


def build_gptj(c: Fields) -> dict:
    """GPT-J: attention and feed-forward in parallel after one norm, lm_head with bias."""
    heads = head_sizes(c)
    feedforward = _plain(c, c.count("n_inner", default=4 * heads["d_model"]))
    return _repeated(c, Part.of("gqa", **heads), feedforward, "input_norm", parallel=True, head_bias=True)


def build_gpt_neox(c: Fields) -> dict:
    """GPT-NeoX and Pythia: parallel residual with two norms."""
    bias = c.flag("attention_bias", True)
    attention = Part.of("gqa", **head_sizes(c), qkv_bias=bias, out_bias=bias)
    parallel = c.flag("use_parallel_residual", True)
    return _repeated(c, attention, _plain(c, c.count("intermediate_size")), *TWO_NORMS, parallel=parallel)


def build_opt(c: Fields) -> dict:
    """OPT: learned positions with an offset of two, embeddings that may be narrower."""
    heads = head_sizes(c)
    d_model, bias = heads["d_model"], c.flag("enable_bias", True)
    attention = Part.of("gqa", **heads, qkv_bias=bias, out_bias=bias)
    feedforward = _plain(c, c.count("ffn_dim"), bias)
    positions = _positions(c.count("max_position_embeddings", most=10**9) + 2, d_model)
    fields = _repeated(c, attention, feedforward, *TWO_NORMS, tied=True, extra=(positions,))
    outer = list(fields["outer"])
    if not c.flag("do_layer_norm_before", True):
        outer = [weight for weight in outer if not weight.name.startswith("norm")]
    width = c.count("word_embed_proj_dim", default=d_model)
    if width != d_model:
        outer[0] = Weight("embed_tokens", "embedding", fields["vocab_size"], width, split="out")
        outer.append(Weight("project_in", "feedforward", d_model, width))
        outer.append(Weight("project_out", "feedforward", width, d_model))
    return fields | {"outer": tuple(outer)}


def build_bloom(c: Fields) -> dict:
    """BLOOM: ALiBi instead of positions, a norm after the embedding."""
    heads = head_sizes(c)
    d_model = heads["d_model"]
    attention = Part.of("gqa", **heads, qkv_bias=True, out_bias=True)
    context = c.count("seq_length", default=2048, most=10**9)
    return _repeated(
        c,
        attention,
        _plain(c, 4 * d_model),
        *TWO_NORMS,
        tied=True,
        max_context=context,
        extra=norms(d_model, "embed_norm", bias=True),
    )


def build_mpt(c: Fields) -> dict:
    """MPT: no biases at all."""
    attn = c.section("attn_config") if "attn_config" in c else Fields({}, c.where)
    heads = head_sizes(c)
    heads["n_kv_heads"] = attn.count("kv_n_heads", default=heads["n_heads"])
    check_groups(attn, heads["n_heads"], heads["n_kv_heads"])
    d_ff = c.count("expansion_ratio", default=4, most=64) * heads["d_model"]
    feedforward = _plain(c, d_ff, bias=False)
    return _repeated(c, Part.of("gqa", **heads), feedforward, *TWO_NORMS, bias=False, tied=True)


def build_falcon(c: Fields) -> dict:
    """Falcon 7B (multi-query) and the new architecture of 40B and 180B (grouped)."""
    heads = head_sizes(c)
    new = c.flag("new_decoder_architecture")
    if new:
        heads["n_kv_heads"] = c.count("num_kv_heads", "num_key_value_heads", default=heads["n_heads"])
    elif c.flag("multi_query", True):
        heads["n_kv_heads"] = 1
    check_groups(c, heads["n_heads"], heads["n_kv_heads"])
    bias, parallel = c.flag("bias"), c.flag("parallel_attn", True)
    attention = Part.of("gqa", **heads, qkv_bias=bias, out_bias=bias)
    n_norms = c.count("num_ln_in_parallel_attn", default=2 if new or not parallel else 1, most=2)
    feedforward = _plain(c, c.count("ffn_hidden_size", default=4 * heads["d_model"]), bias)
    more = {"tied": True, "parallel": parallel, "max_context": 2048}
    return _repeated(c, attention, feedforward, *TWO_NORMS[:n_norms], **more)


def build_phi(c: Fields) -> dict:
    """Phi-1, Phi-1.5 and Phi-2: biases everywhere, one norm for both branches."""
    attention = Part.of("gqa", **head_sizes(c), qkv_bias=True, out_bias=True)
    feedforward = _plain(c, c.count("intermediate_size"))
    return _repeated(c, attention, feedforward, "input_norm", parallel=True, head_bias=True)
