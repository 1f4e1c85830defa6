"""Families with state spaces: Mamba, Mamba-2, Jamba, Bamba, Granite 4, Nemotron-H and Nemotron 3."""

from collections.abc import Callable

from calc.specs.errors import SpecError
from calc.specs.hf_config.assemble import dense, head_sizes, model_fields, mtp_outer, norms
from calc.specs.hf_config.fields import MOST_LAYERS, Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.hf_config.moe import experts
from calc.specs.model import Layer, Part

#: no positions limit the context of a state space; what such models are offered with at most
UNLIMITED = 2**20
_STATE = ("mamba", "linear_attention")
_ATTENTION = ("attention", "full_attention")
#: letter of a pattern, name in a list -> what a layer of Nemotron-H holds
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def build_mamba(c: Fields) -> dict:
    """Mamba and Falcon-Mamba: nothing but state-space layers."""
    d_model = c.count("hidden_size")
    expand = c.count("expand", default=2)
    part = Part.of(
        "mamba1",
        d_model=d_model,
        d_inner=c.count("intermediate_size", default=expand * d_model),
        d_state=c.count("state_size", default=16),
        d_conv=c.count("conv_kernel", default=4),
        dt_rank=_dt_rank(c, "time_step_rank", d_model),
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", True),
    )
    layer = Layer(part, None, norms(d_model, "norm"))
    return model_fields(c, (layer,) * n_layers_of(c), tied=True, max_context=UNLIMITED)


def build_mamba2(c: Fields) -> dict:
    """Mamba-2: nothing but state-space layers."""
    d_model = c.count("hidden_size")
    names = ("num_heads", "head_dim", "state_size", "n_groups", "conv_kernel", "chunk_size")
    _check_expansion(c, "expand", c.count("num_heads") * c.count("head_dim"))
    part = _mamba2(c, *names, bias="use_bias", conv_bias="use_conv_bias")
    layer = Layer(part, None, norms(d_model, "norm"))
    return model_fields(c, (layer,) * n_layers_of(c), tied=False, max_context=UNLIMITED)


def _mamba2(c: Fields, heads, width, state, groups, conv, chunk, bias, conv_bias) -> Part:
    """Return a Mamba-2 part of the fields so named."""
    n_heads, n_groups = c.count(heads), c.count(groups, default=1)
    if n_heads % n_groups:
        raise SpecError(f"{c.where}: {n_heads} heads cannot share {n_groups} groups evenly")
    return Part.of(
        "mamba2",
        d_model=c.count("hidden_size"),
        n_heads=n_heads,
        d_head=c.count(width),
        d_state=c.count(state),
        n_groups=n_groups,
        d_conv=c.count(conv, default=4),
        chunk_tokens=c.count(chunk, default=256),
        bias=c.flag(bias),
        conv_bias=c.flag(conv_bias, True),
    )


def _check_expansion(c: Fields, name: str, inner: int) -> None:
    """Raise SpecError unless the expansion of the hidden size gives the width of all heads."""
    expand = c.count(name, default=None)
    if expand is not None and expand * c.count("hidden_size") != inner:
        raise c.wrong(name, f"such that it times hidden_size is the {inner} of all heads")


def _dt_rank(c: Fields, name: str, d_model: int) -> int:
    """Return the rank of the time step, which configs may leave to a rule."""
    return -(-d_model // 16) if c.value(name) == "auto" else c.count(name, default=-(-d_model // 16))


def build_jamba(c: Fields) -> dict:
    """Jamba: Mamba-1 with attention in some layers, experts in some."""
    n_layers, d_model = n_layers_of(c), c.count("hidden_size")
    attention = _every(c, "attn_layer", period=8, offset=4)
    routed = _every(c, "expert_layer", period=2, offset=1)
    mamba = Part.of(
        "mamba1",
        d_model=d_model,
        d_inner=c.count("mamba_expand", default=2) * d_model,
        d_state=c.count("mamba_d_state", default=16),
        d_conv=c.count("mamba_d_conv", default=4),
        dt_rank=_dt_rank(c, "mamba_dt_rank", d_model),
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
        normed=True,
    )
    mixers = (mamba, Part.of("gqa", **head_sizes(c)))
    d_ff = c.count("intermediate_size")
    feeds = (dense(c, d_ff), experts(c, d_ff) if c.count("num_experts", default=16) > 1 else dense(c, d_ff))
    weights = norms(d_model, *TWO_NORMS)
    layers = [Layer(mixers[attention(i)], feeds[routed(i)], weights) for i in range(n_layers)]
    return model_fields(c, layers, max_context=UNLIMITED)


def _every(c: Fields, name: str, period: int, offset: int) -> Callable[[int], bool]:
    period = c.count(f"{name}_period", default=period)
    offset = c.count(f"{name}_offset", default=offset, least=0)
    return lambda i: i % period == offset % period


def build_granite(c: Fields) -> dict:
    """Granite 4: Mamba-2 or attention, then routed experts beside a shared one, or that alone."""
    shared = c.count("shared_intermediate_size")
    if c.count("num_local_experts", default=0, least=0):
        feedforward = experts(c, c.count("intermediate_size"), d_shared=shared)
    else:
        feedforward = dense(c, shared)
    kinds = layer_kinds(c, n_layers_of(c), _STATE + _ATTENTION, lambda i: "mamba")
    return _hybrid(c, kinds, feedforward, tied=True)


def build_bamba(c: Fields) -> dict:
    """Bamba: Mamba-2 with attention in the layers listed, a dense feed-forward in all."""
    listed = set(c.counts("attn_layer_indices", []))
    kinds = layer_kinds(
        c, n_layers_of(c), _STATE + _ATTENTION, lambda i: "attention" if i in listed else "mamba"
    )
    feedforward = dense(c, c.count("intermediate_size"), bias=c.flag("mlp_bias"))
    return _hybrid(c, kinds, feedforward)


def _hybrid(c: Fields, kinds: list[str], feedforward: Part, tied: bool = False) -> dict:
    """Return the Model fields of Mamba-2 and attention layers with one kind of feed-forward."""
    d_model = c.count("hidden_size")
    names = ("n_heads", "d_head", "d_state", "n_groups", "d_conv", "chunk_size")
    flags = {"bias": "mamba_proj_bias", "conv_bias": "mamba_conv_bias"}
    mamba = _mamba2(c, *(f"mamba_{name}" for name in names), **flags)
    _check_expansion(c, "mamba_expand", mamba["n_heads"] * mamba["d_head"])
    bias = c.flag("attention_bias")
    attention = Part.of("gqa", **head_sizes(c), qkv_bias=bias, out_bias=bias)
    weights = norms(d_model, *TWO_NORMS)
    layers = [Layer(mamba if kind in _STATE else attention, feedforward, weights) for kind in kinds]
    return model_fields(c, layers, tied=tied, max_context=UNLIMITED)


def build_nemotron_h(c: Fields) -> dict:
    """Nemotron-H and Nemotron 3: each layer is a mixer, a feed-forward or experts alone."""
    kinds = _pattern(c, "hybrid_override_pattern", "layers_block_type")
    n_layers = c.count("num_hidden_layers", default=len(kinds), most=MOST_LAYERS)
    if len(kinds) != n_layers:
        raise SpecError(f"{c.where}: the layer pattern has {len(kinds)} entries for {n_layers} layers")
    made = {kind: _nemotron_layer(c, kind) for kind in set(kinds)}
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    more = {}
    if n_mtp:
        blocks = _pattern(c, "mtp_hybrid_override_pattern", "mtp_layers_block_type")
        outer = mtp_outer(c.count("hidden_size"), layers=n_mtp)
        more = {"mtp": tuple(_nemotron_layer(c, kind) for kind in blocks) * n_mtp, "mtp_outer": outer}
    return model_fields(c, [made[kind] for kind in kinds], **more)


def _pattern(c: Fields, letters: str, names: str) -> list[str]:
    """Return the kinds of layers, given as letters of one text or as a list of names."""
    if letters in c:
        pattern = list(c.text(letters))
        if not pattern or set(pattern) - set(_LETTERS):
            raise c.wrong(letters, f"a text of the letters {' '.join(_LETTERS)}")
        return [_LETTERS[letter] for letter in pattern]
    kinds = c.items(names)
    if not kinds or any(not isinstance(kind, str) or kind not in _LETTERS.values() for kind in kinds):
        raise c.wrong(names, f"a list of {', '.join(_LETTERS.values())}")
    if len(kinds) > MOST_LAYERS:
        raise c.wrong(names, f"at most {MOST_LAYERS} layers")
    return kinds


def _nemotron_layer(c: Fields, kind: str) -> Layer:
    """Return one layer: its only part behind its only norm."""
    weights = norms(c.count("hidden_size"), "norm")
    if kind == "mamba":
        names = ("mamba_num_heads", "mamba_head_dim", "ssm_state_size")
        names += ("n_groups", "conv_kernel", "chunk_size")
        return Layer(_mamba2(c, *names, bias="use_bias", conv_bias="use_conv_bias"), None, weights)
    if kind == "attention":
        width = c.count("head_dim", "attention_head_dim", default=0, least=0)
        return Layer(Part.of("gqa", **head_sizes(c, d_head=width)), None, weights)
    if kind == "mlp":
        width, bias = c.count("intermediate_size"), c.flag("mlp_bias")
        return Layer(None, dense(c, width, bias=bias, gated=False), weights)
    shared = c.count("moe_shared_expert_intermediate_size", default=0, least=0)
    latent = c.count("moe_latent_size", default=0, least=0)
    width = c.count("moe_intermediate_size")
    return Layer(None, experts(c, width, d_shared=shared, gated=False, d_latent=latent), weights)
