"""``dispatch/1``: tokens sent to the devices of their experts, and results brought back.

``c.peak_flops_per_s`` holds the link here: what one device sends, one direction. [byte/s]
"""

from calc.specs.numeric import maximum, where
from calc.timing.collectives import moved_share
from calc.timing.forms.base import Ceilings, Form, Parameter, Parts, overlap


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of one exchange: latency per local expert, then link or packing by expert.

    Each device packs what arrives by its local experts, each at ``expert_bytes_per_s``.
    """
    world, payload = work["world"], work["comm_bytes"]
    local = maximum(1.0, work["experts"] / world)
    fixed = p["fixed_s"] + p["per_expert_s"] * local
    link = moved_share(world) * payload / (p["e_link"] * c.peak_flops_per_s)
    packing = payload / local / p["expert_bytes_per_s"]
    seconds = fixed + overlap(link, packing, p["overlap"])
    return Parts(where(world > 1, seconds, 0.0), where(world > 1, fixed, 0.0), 0.0, 0.0)


DISPATCH = Form(
    "dispatch/1",
    (
        Parameter("fixed_s", 1e-5, 5e-7, 1e-3, "s", "fixed cost of a call"),
        Parameter("per_expert_s", 1e-7, 1e-9, 1e-5, "s", "cost of each local expert"),
        Parameter("e_link", 0.6, 3e-3, 1.0, "1", "share of the link that large payloads reach"),
        Parameter("expert_bytes_per_s", 3e10, 1e8, 1e13, "byte/s", "packing of one local expert's tokens"),
        Parameter("overlap", 2.0, 1.0, 12.0, "1", "exponent of the overlap of link and packing"),
    ),
    parts,
)
