"""Context parallelism: ``cp`` of the tensor-parallel ranks keep a share of each sequence's cache.

The scheme of vLLM's decode context parallelism: ranks that would hold copies of the same
keys and values hold every cp-th token instead. Fixed states of linear attention stay whole.
"""

from dataclasses import replace

from calc.specs.numeric import minimum, where
from calc.work.communication import collective
from calc.work.op import Op, Precision

#: sizes of a decode kernel that follow the cached tokens of one rank
_BY_TOKENS = ("past", "seen", "window", "cache_bytes")
#: sizes that follow the queries it has
_BY_QUERIES = ("heads", "rows")


def over_context_ranks(ops: list[Op], cp, precision: Precision) -> list[Op]:
    """Return a layer's operations with its cache spread over ``cp`` ranks, and their exchanges.

    Decode: queries of the ranks' heads are gathered, each rank attends to its share of the
    tokens with all of them, and partial outputs are summed and scattered; a rank's arithmetic
    stays, its cache traffic is 1/cp. Prefill: keys and values of the tokens before are gathered
    from the ranks and then read as without. Nothing overlaps with these exchanges (engines
    hide part of them); the sums' scaling factors are ignored.

    Parameters
    ----------
    ops : list of Op
        Of one attention layer on one tensor-parallel rank.
    cp : int or array
        Ranks; no more than hold copies of the same keys and values.
    """
    if type(cp) is int and cp == 1:
        return ops
    spread = {
        "decode_attention": _decode, "decode_mla": _decode, "prefill_attention": _prefill,
        "prefill_mla": _prefill,
    }  # fmt: skip
    result = []
    for op in ops:
        result += spread[op.kind](op, cp, precision) if op.kind in spread else [op]
    return result


def _decode(op: Op, cp, precision: Precision) -> list[Op]:
    """Return gather, the share of one rank, and scatter; scores alone (an indexer's) exchange nothing."""
    sizes = op.shape
    widths = (sizes["latent"], sizes["rank"]) if "latent" in sizes else (sizes["d_head"], sizes["d_value"])
    gathered = cp if widths[1] else 1
    shape = {
        **sizes,
        **{name: sizes[name] / cp for name in _BY_TOKENS if name in sizes},
        **{name: sizes[name] * gathered for name in _BY_QUERIES if name in sizes},
    }
    part = replace(
        op,
        flops=op.flops * gathered / cp,
        cache_bytes=op.cache_bytes / cp,
        activation_bytes=op.activation_bytes * gathered,
        shape=shape,
    )
    if not widths[1]:
        return [part]
    rows = sizes["batch"] * (sizes["rows"] if "rows" in sizes else sizes["heads"] * sizes["new"]) * cp
    return [
        collective("allgather", f"{op.name}_queries", rows * widths[0], cp, precision),
        part,
        collective("reduce_scatter", f"{op.name}_outputs", rows * widths[1], cp, precision),
    ]


def _prefill(op: Op, cp, precision: Precision) -> list[Op]:
    """Return the gather of what is cached of earlier tokens, as far as a window reaches, and the op."""
    sizes = op.shape
    past, window = sizes["past"], sizes.get("window", 0)
    reach = where(window > 0, minimum(past, window), past)
    latent = sizes.get("latent")
    width = sizes["kv_heads"] * (sizes["d_head"] + sizes["d_value"]) if latent is None else latent
    elements = sizes["batch"] * reach * width * precision.kv_bytes / precision.activation_bytes
    return [collective("allgather", f"{op.name}_past", elements, cp, precision), op]
