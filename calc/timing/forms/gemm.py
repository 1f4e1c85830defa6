"""``gemm/2``: matrix products by tiles and waves, a loop over inner elements, quantised activations."""

from calc.specs.numeric import ceil, log2, minimum
from calc.timing.forms.attention import memory_bytes
from calc.timing.forms.base import COMPUTE, MEMORY, OVERLAP, Ceilings, Form, Parameter, Parts, overlap

#: exponent of the overlap of the loop's latency with arithmetic and traffic
_LOOP = 1.5
#: output tiles (rows, columns) that kernels choose from
TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (64, 128), (128, 64), (64, 64), (16, 128), (16, 64))
_TILE_ROWS, _TILE_COLUMNS = (sorted(set(sizes)) for sizes in zip(*TILES, strict=True))


def tiled_flops_time_s(m, n, k, copies, rate_flops_per_s, processors, tile_loss):
    """Time of the fastest tiling: whole tiles, in whole waves over the processors. [s]

    A tile of ``tm x tn`` runs at ``(tm tn / 32768) ** tile_loss`` of the rate.

    Examples
    --------
    One row more than a tile holds takes two tiles:

    >>> one, two = (tiled_flops_time_s(m, 65536, 4096, 1, 1e15, 132, 1.0) for m in (256, 257))
    >>> two > one
    True
    """
    best = None
    down = {tm: ceil(m / tm) for tm in _TILE_ROWS}
    across = {tn: ceil(n / tn) for tn in _TILE_COLUMNS}
    for tm, tn in TILES:
        waves = ceil(copies * down[tm] * across[tn] / processors)
        share = (tm * tn / 32768) ** tile_loss
        time = 2.0 * waves * processors * tm * tn * k / (rate_flops_per_s * share)
        best = time if best is None else minimum(best, time)
    return best


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of ``copies`` products of ``m x k`` and ``k x n``.

    Compute is a geometric mean of smooth work and whole tiles in whole waves, each with a
    prologue of ``k_half`` inner elements; memory counts the output ``1 + write`` times. Each
    tile waits for a loop over inner elements, which long ones split among processors. A
    quantised product passes over its activations first. Every term grows with m, n and k.
    """
    m, n, k, copies = work["m"], work["n"], work["k"], work["copies"]
    rate = p["e_compute"] * c.peak_flops_per_s
    deep = k + p["k_half"]
    tiled = tiled_flops_time_s(m, n, deep, copies, rate, c.processors, p["tile_loss"])
    compute = (work["flops"] / rate * deep / k) ** (1 - p["tile_mix"]) * tiled ** p["tile_mix"]
    moved = memory_bytes(work["bytes"] + 2 * p["write"] * m * n * copies, p["warm_bytes"])
    memory = moved / (p["e_memory"] * c.bandwidth_bytes_per_s)
    loop = p["loop_s"] * k / (k + p["loop_half"])
    quantise = 3 * p["quantise"] * m * k * copies / c.bandwidth_bytes_per_s
    fixed = p["fixed_s"] + p["per_k_s"] * k + p["per_row_s"] * log2(1 + m)
    body = overlap(overlap(compute, memory, p["overlap"]), loop, _LOOP)
    return Parts(fixed + body + quantise, fixed, compute, memory + quantise)


GEMM = Form(
    "gemm/2",
    (
        Parameter("fixed_s", 2.5e-6, 5e-7, 3e-4, "s", "fixed cost of a call"),
        COMPUTE,
        MEMORY,
        OVERLAP,
        Parameter("tile_loss", 0.04, 1e-3, 1.0, "1", "exponent by which small tiles are slower"),
        Parameter("tile_mix", 0.5, 1e-2, 1.0, "1", "weight of whole tiles and waves against smooth work"),
        Parameter("k_half", 60.0, 0.1, 3000.0, "1", "inner elements that a prologue is worth"),
        Parameter("write", 0.2, 1e-3, 5.0, "1", "extra cost of a byte written, in bytes"),
        Parameter("loop_s", 2.5e-6, 1e-9, 1e-4, "s", "latency of the loop over inner elements, at most"),
        Parameter("loop_half", 2500.0, 400.0, 8000.0, "1", "inner elements at which half of it is due"),
        Parameter("per_k_s", 1e-11, 1e-13, 1e-9, "s", "latency per inner element that nothing splits"),
        Parameter("per_row_s", 1e-8, 1e-9, 1e-5, "s", "latency per doubling of the rows"),
        Parameter("quantise", 0.05, 1e-3, 30.0, "1", "passes of 3 bytes per activation, at bandwidth"),
        Parameter("warm_bytes", 3e6, 1e5, 4e8, "byte", "traffic that the own cache still holds half of"),
    ),
    parts,
)
