"""``linear/2``: kernels of linear attention: convolutions, state updates and scans over chunks."""

from calc.specs.numeric import ceil
from calc.timing.forms.attention import memory_bytes
from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, OVERLAP, Ceilings, Form, Parameter, Parts, overlap


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of a kernel that walks ``steps`` in a row for each of ``items``.

    Items run in whole waves over the processors; every step of a wave costs ``per_step_s``
    and every item ``per_item_s`` on its processor, beside the roofline of the whole call.
    ``chunk_bytes`` are the states after each chunk, of which a share passes through memory.
    Calls that repeat find states and inputs of ``warm_bytes`` in the device's own cache.
    """
    shared = work["items"] / c.processors
    chained = p["per_step_s"] * work["steps"] * ceil(shared) + p["per_item_s"] * shared
    moved = memory_bytes(work["bytes"] + p["through_memory"] * work["chunk_bytes"], p["warm_bytes"])
    memory = moved / (p["e_memory"] * c.bandwidth_bytes_per_s)
    compute = work["flops"] / (p["e_compute"] * c.peak_flops_per_s)
    body = overlap(overlap(compute, memory, 2.0), chained, p["overlap"])
    return Parts(p["fixed_s"] + body, p["fixed_s"], compute + chained, memory)


LINEAR = Form(
    "linear/2",
    (
        FIXED,
        COMPUTE,
        MEMORY,
        OVERLAP,
        Parameter("per_step_s", 1e-6, 1e-9, 1e-4, "s", "time of one step that waits for the one before"),
        Parameter("per_item_s", 3e-6, 1e-10, 1e-4, "s", "cost of an item on its processor"),
        Parameter("through_memory", 0.1, 1e-3, 3.0, "1", "share of chunk states written and read again"),
        Parameter("warm_bytes", 1e7, 1e5, 4e8, "byte", "traffic that the own cache still holds half of"),
    ),
    parts,
    resident=True,
)
