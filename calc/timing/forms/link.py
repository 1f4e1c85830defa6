"""``link/1``: an exchange on a device whose collectives were not measured, by topology.

``a + b n + c sqrt(n)`` for each world size: latency by hops and tiers, bytes over the share of
the link that its kind reaches, and growth with the root of the payload. ``c.peak_flops_per_s``
holds the link here: what one device sends, one direction. [byte/s]
"""

from calc.specs.numeric import log2, where
from calc.timing.collectives import exchange_time_s
from calc.timing.forms.base import Ceilings, Form, Parameter, Parts
from calc.timing.forms.collective import share_of_link


def latency_s(work, p):
    """Fixed cost of a call: ``hops`` between ``near`` devices, and ``far`` such groups. [s]"""
    return p["fixed_s"] + p["hop_s"] * work["hops"] + p["far_s"] * log2(work["far"])


def share(work, p):
    """Share that is reached of what link and network offer (``link_bytes_per_s``). [1]"""
    inside = share_of_link(work["near"], p["e_link"], p["at_4"], p["at_8"])
    return where(work["far"] > 1, p["e_far"], inside)


def parts(work, c: Ceilings, p) -> Parts:
    """Return the time of one exchange; one device alone has nothing to exchange."""
    world, fixed = work["world"], latency_s(work, p)
    seconds = exchange_time_s(
        work["comm_bytes"], world, c.peak_flops_per_s, fixed, share(work, p), work["rounds"], p["per_root_s"]
    )
    return Parts(seconds, where(world > 1, fixed, 0.0), 0.0, 0.0)


LINK = Form(
    "link/1",
    (
        Parameter("fixed_s", 5e-6, 2e-7, 1e-3, "s", "fixed cost of a call"),
        Parameter("hop_s", 1.7e-6, 1e-9, 1e-4, "s", "latency of a hop to the next device"),
        Parameter("far_s", 5e-6, 1e-9, 1e-3, "s", "latency of each doubling of groups beyond the link"),
        Parameter("e_link", 0.7, 3e-3, 1.0, "1", "share of the link at 2 devices"),
        Parameter("at_4", 1.0, 0.05, 5.0, "1", "that share at 4 devices over that at 2"),
        Parameter("at_8", 1.0, 0.05, 5.0, "1", "that share at 8 and more devices over that at 4"),
        Parameter("e_far", 0.7, 3e-3, 1.0, "1", "share reached where groups exchange over the tier above"),
        Parameter("per_root_s", 5e-9, 1e-12, 1e-6, "s/byte^0.5", "growth with the root of the payload"),
    ),
    parts,
)
