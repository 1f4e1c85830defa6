"""``gemm/1``: matrix products by tiles and waves, with the traffic of activation quantisation."""

from calc.specs.numeric import ceil, minimum
from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, OVERLAP, Ceilings, Form, Parameter, Parts, overlap

#: output tiles (rows, columns) that kernels choose from
TILES = ((256, 128), (128, 256), (128, 128), (64, 256), (64, 128), (128, 64), (64, 64), (16, 128), (16, 64))


def tiled_flops_time_s(m, n, k, copies, rate_flops_per_s, processors, tile_loss):
    """Time of the fastest tiling: whole tiles, in whole waves over the processors. [s]

    A tile of ``tm x tn`` runs at ``(tm tn / 32768) ** tile_loss`` of the rate.
    """
    best = None
    for tm, tn in TILES:
        waves = ceil(copies * ceil(m / tm) * ceil(n / tn) / processors)
        share = (tm * tn / 32768) ** tile_loss
        time = 2.0 * waves * processors * tm * tn * k / (rate_flops_per_s * share)
        best = time if best is None else minimum(best, time)
    return best


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of ``copies`` products of ``m x k`` and ``k x n``."""
    rate = p["e_compute"] * c.peak_flops_per_s
    smooth = work["flops"] / rate
    tiled = tiled_flops_time_s(
        work["m"], work["n"], work["k"], work["copies"], rate, c.processors, p["tile_loss"]
    )
    compute = smooth ** (1 - p["tile_mix"]) * tiled ** p["tile_mix"]
    memory = work["bytes"] / (p["e_memory"] * c.bandwidth_bytes_per_s)
    quantise = p["quantise"] * 3 * work["m"] * work["k"] * work["copies"] / c.bandwidth_bytes_per_s
    fixed = p["fixed_s"] + p["per_k_s"] * work["k"]
    return Parts(fixed + overlap(compute, memory, p["overlap"]) + quantise, fixed, compute, memory + quantise)


GEMM = Form(
    "gemm/1",
    (
        FIXED,
        COMPUTE,
        MEMORY,
        OVERLAP,
        Parameter("tile_loss", 0.05, 1e-3, 1.0, "1", "exponent by which small tiles are slower"),
        Parameter("tile_mix", 0.5, 1e-2, 1.0, "1", "weight of whole tiles and waves against smooth work"),
        Parameter("quantise", 0.1, 1e-3, 30.0, "1", "passes of 3 bytes per activation, over bandwidth"),
        Parameter("per_k_s", 1e-11, 1e-13, 1e-9, "s", "latency per element of the inner dimension"),
    ),
    parts,
)
