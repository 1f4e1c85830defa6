"""``ring/1``: a collective as a ring over the link that the topology offers; for what was never measured."""

from calc.specs.numeric import where
from calc.timing.collectives import ring_time_s
from calc.timing.forms.base import FIXED, Ceilings, Form, Parameter, Parts


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of one collective; ``c.peak_flops_per_s`` is the link here. [byte/s]"""
    world = work["world"]
    link, rounds = c.peak_flops_per_s, work["rounds"]
    seconds = ring_time_s(work["comm_bytes"], world, link, p["fixed_s"], p["e_link"], rounds)
    return Parts(seconds, where(world > 1, p["fixed_s"], 0.0), 0.0, 0.0)


RING = Form(
    "ring/1", (FIXED, Parameter("e_link", 0.8, 0.01, 1.0, "1", "share of the link a ring reaches")), parts
)
