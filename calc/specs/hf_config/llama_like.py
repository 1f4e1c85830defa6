"""Llama and the many families that share its layer: RMSNorm, rotary GQA, gated feed-forward."""

from collections.abc import Callable
from dataclasses import dataclass

from calc.specs.errors import SpecError
from calc.specs.hf_config.assemble import dense, head_sizes, model_fields, mtp_outer, norms
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.model import Layer, Part

TWO_NORMS = ("input_norm", "post_attention_norm")
AFTER_NORMS = ("post_attention_norm", "post_feedforward_norm")
FOUR_NORMS = (*TWO_NORMS, "pre_feedforward_norm", "post_feedforward_norm")
KINDS = ("full_attention", "sliding_attention")


@dataclass(frozen=True)
class Style:
    """In what a family's layer differs from Llama's.

    ``qkv_bias``: always there. ``attention_bias``: what that field adds, ``"all"`` four
    biases or ``"qkv"`` three. ``qk_norm``: always there, per ``"head"`` or over ``"all"``
    heads. ``window``: which layers slide: ``"all"``, those from ``max_window_layers`` on
    (``"upper"``), or ``"interleaved"``, all but every ``full_every``-th.
    """

    qkv_bias: bool = False
    attention_bias: str = "all"
    qk_norm: str = ""
    d_head: int = 0
    sinks: bool = False
    norms: tuple[str, ...] = TWO_NORMS
    tied: bool = False
    parallel: bool = False
    window: str = ""
    full_every: int = 0


STYLES = {
    "llama": Style(),
    "granite": Style(),
    "seed_oss": Style(),
    "mistral": Style(window="all"),
    "ministral3": Style(window="all"),
    "mixtral": Style(window="all"),
    "phi3": Style(window="all"),
    "qwen2": Style(qkv_bias=True, window="upper"),
    "qwen2_moe": Style(qkv_bias=True, window="upper"),
    "mimo": Style(qkv_bias=True, window="upper"),
    "qwen3": Style(qk_norm="head", d_head=128, window="upper"),
    "qwen3_moe": Style(qk_norm="head", window="upper"),
    "olmo2": Style(qk_norm="all", norms=AFTER_NORMS),
    "olmo3": Style(qk_norm="all", norms=AFTER_NORMS, window="interleaved", full_every=4),
    "gemma": Style(tied=True, d_head=256),
    "gemma2": Style(tied=True, d_head=256, norms=FOUR_NORMS, window="interleaved", full_every=2),
    "gemma3_text": Style(
        tied=True, d_head=256, norms=FOUR_NORMS, qk_norm="head", window="interleaved", full_every=6
    ),
    "cohere": Style(tied=True, norms=("input_norm",), parallel=True),
    "cohere2": Style(tied=True, norms=("input_norm",), parallel=True, window="interleaved", full_every=4),
    "minimax_m2": Style(qk_norm="all"),
    "gpt_oss": Style(sinks=True, window="interleaved", full_every=2),
    "glm4_moe": Style(attention_bias="qkv"),
    "olmoe": Style(qk_norm="all"),
}  # fmt: skip

#: families whose dense layers need no more than their style
DENSE = (
    "llama", "granite", "seed_oss", "mistral", "ministral3", "phi3", "qwen2", "mimo", "qwen3",
    "olmo2", "olmo3", "gemma", "gemma2", "gemma3_text", "cohere", "cohere2",
)  # fmt: skip


def build(c: Fields) -> dict:
    """Return the Model fields of a dense Llama-like config."""
    feedforward = dense(c, c.count("intermediate_size"), bias=c.flag("mlp_bias"))
    return build_with(c, STYLES[c.text("model_type")], lambda i: feedforward)


def build_with(c: Fields, style: Style, feedforward: Callable[[int], Part], **more) -> dict:
    """Return the Model fields of a config with a style and a feed-forward for each layer."""
    d_model = c.count("hidden_size")
    weights = norms(d_model, *style.norms)
    parts = enumerate(attentions(c, style))
    layers = [Layer(part, feedforward(i), weights, style.parallel) for i, part in parts]
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    if n_mtp and "mtp" not in more:
        more |= {"mtp": (layers[-1],) * n_mtp, "mtp_outer": mtp_outer(d_model, layers=n_mtp)}
    return model_fields(c, layers, tied=style.tied, **more)


def attentions(c: Fields, style: Style) -> list[Part]:
    """Return the attention of each layer."""
    windows = layer_windows(c, style)
    parts = {window: gqa(c, style, window=window) for window in set(windows)}
    return [parts[window] for window in windows]


def gqa(c: Fields, style: Style, **more) -> Part:
    """Return the grouped-query attention of a config with a style."""
    bias = c.flag("attention_bias", default=style.sinks)
    qk_norm = style.qk_norm
    if not qk_norm and c.flag("use_qk_norm"):
        qk_norm = "all" if style.parallel else "head"
    sizes = head_sizes(c, style.d_head) | {
        "qkv_bias": style.qkv_bias or bias,
        "out_bias": bias and style.attention_bias == "all" and not style.qkv_bias,
        "qk_norm": qk_norm,
        "sinks": style.sinks,
    }
    return Part.of("gqa", **(sizes | more))


def layer_windows(c: Fields, style: Style) -> list[int | None]:
    """Return the window of each layer; None is full attention. [tokens]"""
    n_layers = n_layers_of(c)
    window = c.count("sliding_window", default=None, most=10**9)
    if not style.window or window is None:
        return [None] * n_layers
    if style.window == "upper" and not c.flag("use_sliding_window"):
        return [None] * n_layers
    names = ("sliding_window_pattern", "_sliding_window_pattern")
    full_every = c.count(*names, default=style.full_every, least=0)
    first = c.count("max_window_layers", default=0, least=0)

    def rule(i: int) -> str:
        full = {
            "all": False,
            "upper": i < first,
            "interleaved": bool(full_every) and (i + 1) % full_every == 0,
        }[style.window]
        return KINDS[not full]

    kinds = layer_kinds(c, n_layers, KINDS, rule)
    return [window if kind == "sliding_attention" else None for kind in kinds]


def build_nemotron_nas(c: Fields) -> dict:
    """Llama-Nemotron found by search: each layer has its own widths, or parts left out."""
    d_model, n_layers = c.count("hidden_size"), n_layers_of(c)
    blocks = c.items("block_configs")
    if len(blocks) != n_layers:
        raise SpecError(f"{c.where}: block_configs has {len(blocks)} entries for {n_layers} layers")
    layers = []
    for i, block in enumerate(blocks):
        parts = Fields({"block": block}, f"{c.where}: block_configs[{i}]").section("block")
        attention = _block_attention(c, parts.section("attention"))
        feedforward = _block_feedforward(c, parts.section("ffn"))
        names = [name for name, part in zip(TWO_NORMS, (attention, feedforward), strict=True) if part]
        layers.append(Layer(attention, feedforward, norms(d_model, *names)))
    return model_fields(c, layers)


def _block_attention(c: Fields, block: Fields) -> Part | None:
    if block.flag("no_op"):
        return None
    if block.flag("replace_with_linear"):
        raise SpecError(f"{block.where}: replace_with_linear is not counted yet")
    n_heads = c.count("num_attention_heads")
    group = block.count("n_heads_in_group")
    if n_heads % group:
        raise block.wrong("n_heads_in_group", f"a divisor of {n_heads} attention heads")
    config = {**c.config, "num_key_value_heads": n_heads // group}
    return Part.of("gqa", **head_sizes(Fields(config, c.where)))


def _block_feedforward(c: Fields, block: Fields) -> Part | None:
    if block.flag("no_op"):
        return None
    if block.flag("replace_with_linear"):
        raise SpecError(f"{block.where}: replace_with_linear is not counted yet")
    width = int(2 * block.ratio("ffn_mult") * c.count("hidden_size") / 3)
    return dense(c, -(-width // 256) * 256)
