"""The core of attention, queries against keys and values: work and sizes of one kernel call."""

from collections.abc import Mapping

from calc.specs.numeric import minimum
from calc.work.causal import causal_pairs
from calc.work.op import Op, Precision, Sequences


def attention_shape(group: Sequences, seen, heads, kv_heads, widths: tuple, limit=None) -> Mapping:
    """Return the sizes that forms of attention read.

    Parameters
    ----------
    group : Sequences
    seen : number or array
        Keys that the last of the new tokens sees. [tokens]
    heads, kv_heads : number or array
        Heads on this device.
    widths : tuple
        Width of a head's keys and of its values; 0 for scores without values.
    limit : number or array, optional
        Window or chunk of the layer, whether or not the context reaches it. [tokens]
    """
    return {
        "batch": group.n_sequences, "new": group.new_tokens, "past": group.past_tokens, "seen": seen,
        "heads": heads, "kv_heads": kv_heads, "d_head": widths[0], "d_value": widths[1],
        "window": 0 if limit is None else limit,
    }  # fmt: skip


def attention_core(
    group: Sequences,
    heads,
    kv_heads,
    widths: tuple,
    precision: Precision,
    window=None,
    chunk=None,
    keeps=True,
) -> Op:
    """Return the Op of causal attention of new tokens to the cached ones and to each other.

    Two products a pair and head, of ``widths`` of keys and of values. Keys and values that
    any new token sees are read once, those of the new tokens written, unless the layer
    ``keeps`` none; queries are read and outputs written. Sizes are plain numbers or arrays.
    """
    context, limit = group.past_tokens + group.new_tokens, chunk if window is None else window
    seen = context if limit is None else minimum(context, limit)
    if group.phase == "decode":  # with chunks: the last token of a chunk, which sees all of it
        pairs, read = group.new_tokens * seen, seen
    else:
        pairs = causal_pairs(group.new_tokens, group.past_tokens, window, chunk)
        read = minimum(context, seen + group.new_tokens)
    written, pair_width = group.new_tokens if keeps else 0, sum(widths)
    return Op(
        name=f"attention.{group.phase}",
        kind=f"{group.phase}_attention",
        dtype=precision.activation,
        format=precision.kv_format,
        flops=2.0 * group.n_sequences * heads * pairs * pair_width,
        cache_bytes=group.n_sequences * (read + written) * kv_heads * pair_width * precision.kv_bytes,
        activation_bytes=precision.activation_bytes * group.tokens * heads * pair_width,
        items=group.n_sequences * kv_heads,
        shape=attention_shape(group, seen, heads, kv_heads, widths, limit),
    )


def encoder_core(group: Sequences, heads, kv_heads, widths: tuple, precision: Precision) -> Op:
    """Return the Op of attention of every position to every other, with nothing cached."""
    context, pair_width = group.past_tokens + group.new_tokens, sum(widths)
    return Op(
        name=f"attention.{group.phase}",
        kind="encoder_attention",
        dtype=precision.activation,
        flops=2.0 * group.n_sequences * heads * group.new_tokens * context * pair_width,
        activation_bytes=precision.activation_bytes * group.tokens * (heads + kv_heads) * pair_width,
        items=group.n_sequences * kv_heads,
        shape=attention_shape(group, context, heads, kv_heads, widths),
    )
