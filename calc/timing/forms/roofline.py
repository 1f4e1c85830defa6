"""``roofline/1``: a fixed cost plus a roofline with lowered ceilings; for what has no better form."""

from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, Ceilings, Form, Parts
from calc.timing.roofline import op_time_s


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of one call by ``op_time_s``."""
    peak, bandwidth = c.peak_flops_per_s, c.bandwidth_bytes_per_s
    seconds = op_time_s(
        work["flops"], work["bytes"], peak, bandwidth, p["fixed_s"], p["e_compute"], p["e_memory"]
    )
    compute = work["flops"] / (p["e_compute"] * peak)
    return Parts(seconds, p["fixed_s"], compute, work["bytes"] / (p["e_memory"] * bandwidth))


ROOFLINE = Form("roofline/1", (FIXED, COMPUTE, MEMORY), parts)
