"""``moe/1``: routed experts, from the rows and experts of the busiest rank.

Two grouped matrix products over the experts hit, between passes that sort tokens by expert,
apply the activation, quantise and add up. Arithmetic counts idle rows of an expert's last
block and idle columns of narrow experts, and runs slower in blocks of few rows; traffic
counts the weights of experts hit. The passes go over all rows, other ranks' included.
"""

from calc.specs.numeric import ceil, maximum, minimum
from calc.timing.forms.base import OVERLAP, Ceilings, Form, Parameter, Parts, overlap

#: rows of a block: fewest and most that kernels choose
BLOCK_ROWS = (8, 128)
#: width to which some kernels pad stored experts
STORED_WIDTH = 256


def computed_rows(rows, hit, row_pad, block_loss):
    """Rows that take as long at full speed, idle ones included; never falls with rows or experts hit.

    A block has as many rows as an expert has on average, and a block of ``b`` rows runs at
    ``(b / 128) ** block_loss`` of the rate.

    Examples
    --------
    >>> computed_rows(1024.0, 8.0, 10.0, 0.5), computed_rows(256.0, 8.0, 10.0, 0.5)
    (1104.0, 592.0)
    """
    least, most = BLOCK_ROWS
    block = minimum(maximum(rows / maximum(hit, 1e-9), least), most)
    return rows * (most / block) ** block_loss + row_pad * hit


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of the routed experts of one layer."""
    d_model, width, bandwidth = work["d_model"], work["d_expert"], c.bandwidth_bytes_per_s
    rows = computed_rows(work["rows"], work["hit"], p["row_pad"], p["block_loss"])
    flops = 2.0 * work["matrices"] * d_model * (width + p["width_pad"]) * rows
    compute = flops / (p["e_compute"] * c.peak_flops_per_s)
    stored = (ceil(width / STORED_WIDTH) * STORED_WIDTH / width) ** p["stored_pad"]
    moved = work["bytes"] + work["weight_bytes"] * (stored - 1)
    memory = moved / (p["e_memory"] * bandwidth)
    passes = p["hidden_passes"] * d_model + p["inner_passes"] * width
    sorting = 2.0 * work["tokens"] * work["top_k"] * passes / bandwidth
    fixed = p["fixed_s"] + p["per_expert_s"] * work["experts"] + p["per_width_s"] * (d_model + width)
    seconds = fixed + overlap(compute, memory, p["overlap"]) + sorting
    return Parts(seconds, fixed, compute, memory + sorting)


MOE = Form(
    "moe/1",
    (
        Parameter("fixed_s", 1.5e-5, 1e-6, 3e-4, "s", "fixed cost of the kernels of a layer"),
        Parameter("e_compute", 0.5, 0.02, 1.0, "1", "share of the dense peak that full blocks reach"),
        Parameter("e_memory", 0.9, 0.05, 1.0, "1", "share of memory bandwidth that weights reach"),
        OVERLAP,
        Parameter("width_pad", 50.0, 1.0, 512.0, "columns", "idle columns of an expert's inner width"),
        Parameter("row_pad", 12.0, 0.5, 256.0, "rows", "idle rows of each expert hit"),
        Parameter("block_loss", 0.4, 0.01, 1.0, "1", "exponent by which blocks of few rows are slower"),
        Parameter("stored_pad", 0.2, 3e-3, 1.0, "1", "weight of widths padded to 256 in weight traffic"),
        Parameter("hidden_passes", 1.5, 1e-3, 50.0, "1", "passes of 2 bytes over rows of the hidden width"),
        Parameter("inner_passes", 1.0, 1e-3, 50.0, "1", "passes of 2 bytes over rows of the inner width"),
        Parameter("per_width_s", 1e-9, 1e-12, 1e-7, "s", "latency per element of the inner dimensions"),
        Parameter("per_expert_s", 4e-9, 1e-11, 1e-6, "s", "routing cost of each expert of the layer"),
    ),
    parts,
)
