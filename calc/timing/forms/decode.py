"""``decode/1``: attention of one new token (or a few) of each sequence to its cache.

Each sequence and key head is an item that reads its part of the cache, in tiles of keys; few
items are split over idle processors. Reading the cache overlaps with the work on tiles.

Time grows with batch, context, heads, and key heads: every size enters products and sums
with positive parameters, ``maximum`` and ``ceil``, none of which ever falls; a window caps the
context and chooses kernels, so that a wider one may be faster by what that choice saves.
Calls measured one after another find small caches in the device's own cache, so that the
bandwidth of its memory is no bound for them; in a serving step other layers' weights pass in
between, and ``warm_bytes`` close to 0 gives the time without that.
"""

from calc.specs.numeric import ceil, maximum, where
from calc.timing.forms.attention import BETWEEN, USUAL, WARM, head_width, memory_bytes, width_factor
from calc.timing.forms.base import FIXED, MEMORY, Ceilings, Form, Parameter, Parts, overlap

#: keys of a tile, and query rows that one step of the matrix units takes
TILE, ROWS = 128, 16
#: exponents of the overlap of traffic and tiles, and of sharing among processors with splitting
_READ, _SPLIT = 2.0, 4.0


def visited_tiles(work):
    """Tiles of 128 keys that an item visits; a window that moves along them touches one more.

    Examples
    --------
    >>> visited_tiles({"seen": 128, "past": 127, "new": 1, "window": 128})
    1
    >>> visited_tiles({"seen": 128, "past": 900, "new": 1, "window": 128})
    2
    """
    return ceil(work["seen"] / TILE) + by_window(work, 0, 0, 1)


def by_window(work, none, idle, cutting):
    """One of three: no window, one that the context has not outgrown yet, one that cuts it."""
    outgrown = work["past"] + work["new"] > work["window"]
    return where(work["window"] > 0, where(outgrown, cutting, idle), none)


def item_heads(work, ungrouped):
    """Items of a sequence: its key heads; with a window, some kernels take query heads one by one."""
    extra = ungrouped * (work["heads"] - work["kv_heads"])
    return work["kv_heads"] + where(work["window"] > 0, extra, 0.0)


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of new tokens of ``batch`` sequences over the keys they see."""
    batch, tiles = work["batch"], visited_tiles(work)
    items = batch * item_heads(work, p["ungrouped"]) / c.processors
    rows = batch * work["heads"] * work["new"] / ROWS / c.processors
    tile_s = p["tile_s"] * head_width(work) / USUAL * width_factor(work, p["between"], p["wide"])
    compute = tile_s * tiles * (overlap(items, 1 / p["splits"], _SPLIT) + p["per_row"] * rows)
    moved = memory_bytes(work["bytes"], p["warm_bytes"])
    memory = moved / (p["e_memory"] * c.bandwidth_bytes_per_s)
    kernel = by_window(work, p["join_s"], 0.0, p["window_s"])
    fixed = p["fixed_s"] + kernel + p["item_s"] * maximum(items, 1)
    return Parts(fixed + overlap(compute, memory, _READ), fixed, compute, memory)


DECODE = Form(
    "decode/1",
    (
        FIXED,
        MEMORY,
        BETWEEN,
        WARM,
        Parameter("wide", 1.2, 0.6, 10.0, "1", "factor on tiles of head widths from 256 on"),
        Parameter("tile_s", 5e-7, 1e-9, 1e-4, "s", "time of 128 keys of width 128 on a processor"),
        Parameter("per_row", 0.3, 1e-3, 10.0, "1", "what 16 query rows add to a tile, over tile_s"),
        Parameter("splits", 30.0, 1.0, 1e3, "1", "processors that one item can be split over, at most"),
        Parameter("item_s", 1e-6, 1e-9, 1e-4, "s", "cost of an item on its processor"),
        Parameter("ungrouped", 0.1, 1e-3, 1.0, "1", "share of query heads that windowed kernels take alone"),
        Parameter("join_s", 5e-7, 1e-8, 1e-4, "s", "cost of joining split items, unless windowed"),
        Parameter("window_s", 5e-7, 1e-8, 1e-4, "s", "cost of a window that the context has outgrown"),
    ),
    parts,
)
