"""``collective/1`` and ``custom_allreduce/1``: measured exchanges inside one link domain.

``c.peak_flops_per_s`` holds the link here: what one device sends, one direction. [byte/s]
"""

from calc.specs.numeric import log2, maximum, minimum, where
from calc.timing.collectives import moved_share
from calc.timing.forms.base import Ceilings, Form, Parameter, Parts


def share_of_link(world, e_link, at_4, at_8):
    """Share of the link that a ring of ``world`` devices reaches. [1]

    ``e_link`` at two devices, times ``at_4`` at four and ``at_8`` at eight and more; between
    them straight in the logarithms of share and world size.

    Examples
    --------
    >>> [share_of_link(world, 0.5, 0.5, 0.5) for world in (2, 4, 8, 64)]
    [0.5, 0.25, 0.125, 0.125]
    """
    doublings = log2(maximum(world, 2.0))
    return e_link * at_4 ** minimum(doublings - 1, 1.0) * at_8 ** maximum(0.0, minimum(doublings - 2, 1.0))


def ring_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of a collective: latency, a change of protocol, growth with the root, bytes.

    One device alone has nothing to exchange.
    """
    world, payload = work["world"], work["comm_bytes"]
    fixed = p["fixed_s"] + p["per_peer_s"] * (world - 1)
    share = share_of_link(world, p["e_link"], p["at_4"], p["at_8"])
    moved = work["rounds"] * moved_share(world) * payload
    protocol = p["protocol_s"] * payload / (payload + p["protocol_bytes"])
    rooted = p["per_root_s"] * payload**0.5
    seconds = fixed + moved / (share * c.peak_flops_per_s) + protocol + rooted
    alone = world > 1
    return Parts(where(alone, seconds, 0.0), where(alone, fixed, 0.0), 0.0, 0.0)


_RING = (
    Parameter("fixed_s", 5e-6, 2e-7, 1e-3, "s", "fixed cost of a call"),
    Parameter("per_peer_s", 1e-6, 1e-9, 1e-4, "s", "latency of each further device in the ring"),
    Parameter("e_link", 0.6, 3e-3, 2.5, "1", "share of the link at 2 devices; above 1 where switches reduce"),
    Parameter("at_4", 1.0, 0.05, 5.0, "1", "that share at 4 devices over that at 2"),
    Parameter("at_8", 1.0, 0.05, 5.0, "1", "that share at 8 and more devices over that at 4"),
    Parameter("per_root_s", 5e-9, 1e-12, 1e-6, "s/byte^0.5", "growth with the root of the payload"),
    Parameter("protocol_s", 2e-6, 1e-8, 1e-3, "s", "cost of the protocol for large payloads, at most"),
    Parameter("protocol_bytes", 1e5, 1e3, 1e8, "byte", "payload at which half of it is due"),
)
COLLECTIVE = Form("collective/1", _RING, ring_parts)


def custom_parts(work, c: Ceilings, p) -> Parts:
    """Return the time of the faster of two ways: everyone reads everything, or a ring.

    The first has little latency but moves the payload of every peer.
    """
    world, payload = work["world"], work["comm_bytes"]
    ring = ring_parts(work, c, p)
    fixed = p["one_shot_s"] + p["one_shot_peer_s"] * (world - 1)
    one_shot = fixed + (world - 1) * payload / (p["e_one_shot"] * c.peak_flops_per_s)
    alone = world > 1
    seconds = where(alone, minimum(one_shot, ring.seconds), 0.0)
    return Parts(seconds, where(alone, minimum(fixed, ring.fixed_s), 0.0), 0.0, 0.0)


CUSTOM_ALLREDUCE = Form(
    "custom_allreduce/1",
    (
        *_RING[:-2],
        Parameter("protocol_s", 1e-7, 1e-8, 1e-3, "s", "cost of the protocol for large payloads, at most"),
        _RING[-1],
        Parameter("one_shot_s", 3e-6, 5e-7, 1e-3, "s", "fixed cost where everyone reads everything"),
        Parameter("one_shot_peer_s", 1e-7, 1e-10, 1e-4, "s", "latency of each further device there"),
        Parameter("e_one_shot", 0.6, 3e-3, 1.0, "1", "share of the link reached there"),
    ),
    custom_parts,
)
