"""``prefill/2`` and ``encoder/1``: attention of many queries, in tiles of queries and blocks of keys.

Both grow with batch, tokens, context and heads: every size enters products and sums with
positive parameters, ``maximum``, ``minimum`` and ``ceil``, none of which ever falls. More key
and value heads for as many queries never take less time either. Windows and head widths
choose kernels: a narrower window or head need not be faster.
"""

from calc.specs.numeric import ceil, maximum, minimum, where
from calc.timing.forms.attention import BETWEEN, NARROW, WARM, head_width, memory_bytes, width_factor
from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, Ceilings, Form, Parameter, Parts, overlap

#: queries of a tile, and keys of a block; heads that share keys fill a tile of few tokens together
TILE, BLOCK = 64, 64
#: how sharply narrow heads stop being faster, and most threads that write a token to the cache
_SHARP, THREADS = 6.0, 512


def keys_per_query(work):
    """Keys that a query sees, on average, from the pairs in the flops counted. [tokens]

    Examples
    --------
    >>> sizes = {"batch": 2, "heads": 4, "new": 3, "d_head": 8, "d_value": 8}
    >>> keys_per_query({**sizes, "flops": 2 * 2 * 4 * (1 + 2 + 3) * 16})
    2.0
    """
    queries = work["batch"] * work["heads"] * work["new"]
    return work["flops"] / maximum(2 * queries * (work["d_head"] + work["d_value"]), 1)


def causal_keys(work, edge_tokens):
    """Keys that a tile multiplies each query with, masked ones included. [tokens]

    Half a tile is masked on the diagonal. A window adds ``edge_tokens`` at its two ends, but
    never more keys than without one.

    Examples
    --------
    >>> sizes = {"batch": 1, "heads": 1, "new": 512, "past": 0, "d_head": 64, "d_value": 64, "window": 0}
    >>> causal_keys({**sizes, "flops": 2 * 512 * 513 / 2 * 128}, 100.0)
    288.5
    """
    mean, masked = keys_per_query(work), minimum(work["new"], TILE) / 2
    every = work["past"] + (work["new"] + 1) / 2
    windowed = minimum(mean + edge_tokens, maximum(every, mean))
    return where(work["window"] > 0, windowed, mean) + masked


def tiles_s(work, c: Ceilings, p, keys):
    """Time of all tiles, shared by all processors, and of the one with most keys at the end. [s]

    A tile holds the queries of all heads that share keys; where there are too few of them to
    fill one, it visits the keys that the last one sees. A block of scores and values takes as
    long as its two products, or as its exponentials, which no ``narrow`` head has fewer of.
    Where tiles are fewer than processors, the idle ones share the keys cached before.
    """
    width = overlap(head_width(work), p["narrow"], _SHARP)
    block_s = 4.0 * TILE * BLOCK * width * c.processors / (p["e_compute"] * c.peak_flops_per_s)
    full, least, longest = work["heads"] * work["new"] / TILE, work["kv_heads"], ceil(work["seen"] / BLOCK)
    blocks = maximum(full * maximum(keys / BLOCK, 1), least * longest)
    spread = work["batch"] / c.processors * (blocks * block_s + maximum(full, least) * p["tile_s"])
    share = minimum(1.0, work["batch"] * maximum(full, least) / c.processors)
    own = minimum(longest, ceil(work["new"] / BLOCK))
    return spread + p["tail"] * (own + share * (longest - own)) * block_s


def prefill_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of causal attention, with the pass that writes keys and values to the cache.

    That pass is a kernel of its own: it starts a thread for each element of a token's keys,
    at most 512, and moves bytes.
    """
    bandwidth = c.bandwidth_bytes_per_s
    tiles = tiles_s(work, c, p, causal_keys(work, p["edge_tokens"]))
    compute = tiles * width_factor(work, p["between"])
    memory = memory_bytes(work["bytes"], p["warm_bytes"]) / (p["e_memory"] * bandwidth)
    keys, values = work["kv_heads"] * work["d_head"], work["kv_heads"] * work["d_value"]
    moved = p["write_thread_bytes"] * minimum(keys, THREADS) + p["write_bytes"] * (keys + values)
    write = work["batch"] * work["new"] * moved / bandwidth
    return Parts(p["fixed_s"] + compute + memory + write, p["fixed_s"], compute, memory + write)


def encoder_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of attention of all positions to each other."""
    compute = tiles_s(work, c, p, ceil(work["seen"] / BLOCK) * BLOCK)
    memory = memory_bytes(work["bytes"], p["warm_bytes"]) / (p["e_memory"] * c.bandwidth_bytes_per_s)
    return Parts(p["fixed_s"] + compute + memory, p["fixed_s"], compute, memory)


TAIL = Parameter("tail", 0.8, 1e-2, 6.0, "1", "share of the tile with most keys that nothing overlaps")
TILE_S = Parameter("tile_s", 8e-7, 1e-9, 1e-4, "s", "cost of a tile of 64 queries on its processor")

PREFILL = Form(
    "prefill/2",
    (
        FIXED,
        COMPUTE,
        MEMORY,
        NARROW,
        BETWEEN,
        TAIL,
        TILE_S,
        Parameter("edge_tokens", 128.0, 3.0, 2560.0, "tokens", "keys a tile visits beyond its window"),
        Parameter("write_thread_bytes", 12.0, 0.05, 200.0, "byte", "cost of a thread of the cache write"),
        Parameter("write_bytes", 1.0, 0.03, 100.0, "byte", "traffic of the cache write, per element"),
        WARM,
    ),
    prefill_parts,
)

ENCODER = Form("encoder/1", (FIXED, COMPUTE, MEMORY, NARROW, TAIL, TILE_S, WARM), encoder_parts)
