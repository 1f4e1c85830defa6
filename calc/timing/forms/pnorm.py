"""``pnorm/1``: a fixed cost, and arithmetic and traffic that overlap as well as they do; for any kernel."""

from dataclasses import replace

from calc.timing.forms.base import COMPUTE, FIXED, MEMORY, OVERLAP, Ceilings, Form, Parts, overlap


def parts(work, c: Ceilings, p) -> Parts:
    r"""Return the time of one call.

    .. math::  t = t_0 + \left((F / e_c P)^x + (Q / e_m W)^x\right)^{1/x}

    An exponent of 1 adds the two up, as plain kernels do that convert what they read.
    """
    compute = work["flops"] / (p["e_compute"] * c.peak_flops_per_s)
    memory = work["bytes"] / (p["e_memory"] * c.bandwidth_bytes_per_s)
    return Parts(p["fixed_s"] + overlap(compute, memory, p["overlap"]), p["fixed_s"], compute, memory)


#: plain kernels reach little of the peak: from far above, a fit would not see their arithmetic
_COMPUTE = replace(COMPUTE, start=0.1, low=1e-3)
_OVERLAP = replace(OVERLAP, start=1.5)
PNORM = Form("pnorm/1", (FIXED, _COMPUTE, MEMORY, _OVERLAP), parts)
