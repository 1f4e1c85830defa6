"""``prefill_mla/2`` and ``decode_mla/1``: attention over a latent that all heads share.

Prefill multiplies expanded keys and values in whole tiles of queries; decode reads the latent
of each sequence once for all heads and multiplies it with as many query rows.
"""

from calc.specs.numeric import ceil, maximum, minimum, where
from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, OVERLAP, Ceilings, Form, Parameter, Parts, overlap
from calc.work.causal import causal_pairs

#: query rows that a prefill kernel works on at once
TILE = 128
#: query rows of the narrow decode kernels, the most they serve, and rows of the wide ones
NARROW, MOST_NARROW, WIDE = 16, 32, 128


def tiled_pairs(new_tokens, past_tokens, limit=None):
    """Pairs of queries and keys that whole tiles on the diagonal visit, per sequence and head.

    Queries are padded to tiles of 128, and each query of a tile sees the keys of its last one.

    Examples
    --------
    >>> tiled_pairs(128, 0), tiled_pairs(129, 0)
    (16384.0, 49152.0)
    """
    rows = ceil(new_tokens / TILE) * TILE
    return causal_pairs(rows, past_tokens, limit) + rows * (TILE - 1) / 2


def prefill_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of causal attention of new tokens over expanded keys and values.

    All tiles share the processors, but no call ends before the tile with the longest row of
    keys, which counts ``tail`` times; every tile costs ``per_tile_s`` on its processor. Where
    tiles are fewer than processors, the idle ones share the keys cached before.
    """
    rate = p["e_compute"] * c.peak_flops_per_s
    heads, width = work["batch"] * work["heads"], 2.0 * (work["d_key"] + work["d_value"])
    rows = ceil(work["new"] / TILE) * TILE
    spread = heads * tiled_pairs(work["new"], work["past"], work.get("limit")) * width / rate
    items = heads * rows / TILE / c.processors
    longest = TILE * (minimum(1.0, items) * work["past"] + rows) * width * c.processors / rate
    tiles = p["per_tile_s"] * items
    compute = overlap(spread, p["tail"] * longest, p["balance"]) + tiles
    memory = work["bytes"] / (p["e_memory"] * c.bandwidth_bytes_per_s)
    return Parts(p["fixed_s"] + overlap(compute, memory, p["overlap"]), p["fixed_s"], compute, memory)


PREFILL_MLA = Form(
    "prefill_mla/2",
    (
        FIXED,
        COMPUTE,
        MEMORY,
        OVERLAP,
        Parameter("tail", 0.5, 1e-2, 3.0, "1", "weight of the tile with the longest row of keys"),
        Parameter("balance", 2.0, 1.0, 12.0, "1", "exponent of the overlap of that tile and the others"),
        Parameter("per_tile_s", 1e-6, 1e-9, 3e-5, "s", "cost of a tile of 128 queries on its processor"),
    ),
    prefill_parts,
)


def padded_rows(rows, padding):
    """Query rows a decode kernel multiplies: whole tiles of 16 up to 32 rows, wider tiles above.

    ``padding`` is the weight of whole tiles of 128 rows there.

    Examples
    --------
    >>> padded_rows(20, 1.0), padded_rows(64, 1.0), padded_rows(64, 0.0)
    (32, 128.0, 64.0)
    """
    wide = maximum(rows, 1.0) ** (1 - padding) * (WIDE * ceil(rows / WIDE)) ** padding
    return where(rows > MOST_NARROW, wide, NARROW * ceil(rows / NARROW))


def latent_reads(rows, reread):
    """How often the latent is read: a narrow kernel of 17 to 32 rows reads a share twice.

    Examples
    --------
    >>> latent_reads(16, 0.5), latent_reads(32, 0.5), latent_reads(128, 0.5)
    (1.0, 1.5, 1)
    """
    return where(rows > MOST_NARROW, 1, 1 + reread * (ceil(rows / NARROW) - 1))


def decode_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of query rows of all heads over the latents of a batch.

    A long context is read in parts by several processors and then combined; that costs up
    to ``split_s``, half of it at ``split_tokens``.
    """
    rows, seen, batch = work["rows"], work["seen"], work["batch"]
    rate, bandwidth = p["e_compute"] * c.peak_flops_per_s, p["e_memory"] * c.bandwidth_bytes_per_s
    compute = work["flops"] * padded_rows(rows, p["padding"]) / rows / rate
    again = (latent_reads(rows, p["reread"]) - 1) * work["cache_bytes"]
    memory = (work["bytes"] + again) / bandwidth
    split = p["split_s"] * seen / (seen + p["split_tokens"])
    tiles = p["per_tile_s"] * batch * ceil(rows / NARROW) / c.processors
    read = overlap(overlap(compute, memory, p["overlap"]), split, p["split_overlap"])
    return Parts(p["fixed_s"] + read + tiles, p["fixed_s"], compute, memory)


DECODE_MLA = Form(
    "decode_mla/1",
    (
        FIXED,
        COMPUTE,
        MEMORY,
        OVERLAP,
        Parameter("padding", 0.3, 1e-2, 1.0, "1", "weight of whole tiles of 128 rows above 32 rows"),
        Parameter("reread", 0.3, 1e-3, 1.0, "1", "share of the latent that a second tile of 16 rows reads"),
        Parameter("per_tile_s", 2e-6, 1e-8, 1e-4, "s", "cost of a sequence's tile of 16 rows on a processor"),
        Parameter("split_s", 5e-6, 1e-8, 1e-2, "s", "cost of splitting long contexts, at most"),
        Parameter("split_tokens", 4e3, 10.0, 1e6, "1", "context at which half of it is due [tokens]"),
        Parameter("split_overlap", 2.0, 1.0, 12.0, "1", "exponent of its overlap with reading"),
    ),
    decode_parts,
)
