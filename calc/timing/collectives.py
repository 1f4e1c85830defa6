"""Time of collectives between devices: bytes over the link that the topology offers.

Payloads are those of one device: the tensor that is summed (all-reduce, reduce-scatter), the
one that results (all-gather), or all that a device sends, its own share included (all-to-all).
"""

from calc.specs.device import Device
from calc.specs.numeric import ceil, log2, maximum, minimum, require, where

#: kinds of op in which every device sends other data to each
ALL_TO_ALL = ("alltoall", "dispatch", "combine")

#: taken where no figure for a device's network is known: 400 Gb/s per device, one direction
ASSUMED_NETWORK_BYTES_PER_S = 50e9
#: taken where neither link nor host link is known: PCIe 4.0 x16, one direction
ASSUMED_HOST_LINK_BYTES_PER_S = 31.5e9
#: devices of a torus from which all its axes close into rings: 4x4x4 in 3D, 16x16 in 2D
WRAPPED_FROM = {2: 256, 3: 64}


def moved_share(world):
    """Share of a payload that leaves a device for ``world - 1`` others. [1]

    Examples
    --------
    >>> moved_share(8)
    0.875
    """
    return (world - 1) / world


def ring_time_s(payload_bytes, world, link_bytes_per_s, fixed_s, e_link, rounds):
    r"""Time of a collective that goes ``rounds`` times round a ring.

    .. math::  t = t_0 + r \frac{w - 1}{w} \frac{n}{e W_{link}}

    Parameters
    ----------
    payload_bytes : number or array
        Bytes of the tensor on one device. [byte]
    world : number or array
        Devices that take part; 1 takes no time.
    link_bytes_per_s : number or array
        Bandwidth of one device's link, one direction. [byte/s]
    fixed_s : number or array
        Fixed cost of a call. [s]
    e_link : number or array
        Share of the link a ring reaches. [1]
    rounds : number or array
        2 for all-reduce (reduce-scatter, then all-gather), 1 for the others.

    Examples
    --------
    >>> print(f"{1e6 * ring_time_s(16 * 2**20, 8, 450e9, 7e-6, 0.8, 1):.0f} us")
    48 us
    """
    moved = rounds * moved_share(world) * payload_bytes
    return where(world > 1, fixed_s + moved / (e_link * link_bytes_per_s), 0.0)


def exchange_time_s(payload_bytes, world, link_bytes_per_s, fixed_s, e_link, rounds, per_root_s):
    r"""Time of a collective with a term between latency and bandwidth.

    .. math::  t = t_0 + r \frac{w - 1}{w} \frac{n}{e W_{link}} + c \sqrt{n}

    Parameters
    ----------
    payload_bytes, world, link_bytes_per_s, fixed_s, e_link, rounds : number or array
        As in ``ring_time_s``.
    per_root_s : number or array
        Growth :math:`c` with the root of the payload. [s/byte^0.5]

    Examples
    --------
    >>> print(f"{1e6 * exchange_time_s(16 * 2**20, 8, 450e9, 7e-6, 0.8, 1, 4e-9):.0f} us")
    64 us
    """
    before = fixed_s + per_root_s * payload_bytes**0.5
    return ring_time_s(payload_bytes, world, link_bytes_per_s, before, e_link, rounds)


def allreduce_time_s(payload_bytes, world, link_bytes_per_s, fixed_s, e_link):
    r"""Time to sum ``payload_bytes`` over ``world`` devices with a ring.

    .. math::  t = t_0 + \frac{2 (w - 1)}{w} \frac{n}{e W_{link}}

    Parameters
    ----------
    payload_bytes : number or array
        Bytes of the summed tensor on one device. [byte]
    world : number or array
        Devices that take part; 1 takes no time.
    link_bytes_per_s : number or array
        Bandwidth of one device's link, one direction. [byte/s]
    fixed_s : number or array
        Fixed cost of a call. [s]
    e_link : number or array
        Share of the link a ring reaches. [1]

    Returns
    -------
    number or array
        Time. [s]

    Notes
    -----
    In-network reduction (NVLS, SHARP) is ignored: it saves up to half at large sizes.

    Examples
    --------
    16 MiB over 8 GPUs with 450 GB/s links:

    >>> print(f"{1e6 * allreduce_time_s(16 * 2**20, 8, 450e9, 7e-6, 0.8):.0f} us")
    89 us
    """
    return ring_time_s(payload_bytes, world, link_bytes_per_s, fixed_s, e_link, 2)


def mesh_bytes_per_s(per_peer_bytes_per_s, world):
    """Bandwidth to ``world - 1`` peers with one link to each. [byte/s]

    References
    ----------
    .. [1] S. Bekman, ml-engineering, network: an MI300X has 64 GB/s to each of 7 peers; all-reduce
       reached 47.7 GB/s between 2 and 312.9 between 8 (rings over 64 and 448 GB/s).

    Examples
    --------
    >>> mesh_bytes_per_s(64e9, 2) / 1e9, mesh_bytes_per_s(64e9, 8) / 1e9
    (64.0, 448.0)
    """
    return per_peer_bytes_per_s * maximum(1, world - 1)


def torus_bytes_per_s(per_link_bytes_per_s, dimensions, world, all_to_all=False):
    """Bandwidth of one device of a torus slice, as cubic as its size allows. [byte/s]

    A slice too small to close its axes into rings uses one link an axis, a closed one both.
    Data for all others crosses the middle of each axis: the longer the axis, the less.

    Parameters
    ----------
    per_link_bytes_per_s : number or array
        One link, one direction; a device has two for each dimension. [byte/s]
    dimensions : int
        2 or 3.
    world : number or array
        Devices in the slice.
    all_to_all : bool
        Whether each device sends other data to each, instead of the same data round a ring.

    Notes
    -----
    Slices of other shapes, and axes that close before all do, are ignored.

    References
    ----------
    .. [1] J. Austin et al., "How to Scale Your Model", tpus.md (slices without wrap-around below
       4x4x4 and 16x16) and sharding.md (all-to-all costs a quarter of an all-gather on a ring).

    Examples
    --------
    TPU v5p, three dimensions of 100 GB/s links:

    >>> [torus_bytes_per_s(100e9, 3, world) / 1e9 for world in (2, 4, 8, 64)]
    [100.0, 200.0, 300.0, 600.0]
    """
    axes = minimum(dimensions, maximum(1.0, log2(world)))
    closed = where(world >= WRAPPED_FROM[dimensions], 2.0, 1.0)
    ring = axes * closed * per_link_bytes_per_s
    if not all_to_all:
        return ring
    side = maximum(2.0, world ** (1 / axes))
    return minimum(ring, 4 * closed * per_link_bytes_per_s / side)


def torus_dimensions(device: Device) -> int:
    """Dimensions of a device's torus, from its links: two for each; 2 where that is not known.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> torus_dimensions(load_device("tpu-v5e")), torus_dimensions(load_device("tpu-v5p"))
    (2, 3)
    """
    link = device.link
    if not (link.bandwidth and link.per_peer):
        return 2
    return max(2, min(3, round(link.bandwidth.value / link.per_peer.value / 2)))


def _inside_bytes_per_s(device: Device, world, all_to_all):
    """Bandwidth of one device to ``world - 1`` others in its link's domain. [byte/s]"""
    link = device.link
    total = link.bandwidth.value if link.bandwidth else _host_bytes_per_s(device)
    if link.per_peer is None:
        return total
    if link.topology == "torus":
        ring = torus_bytes_per_s(link.per_peer.value, torus_dimensions(device), world, all_to_all)
        return minimum(total, ring)
    return minimum(total, mesh_bytes_per_s(link.per_peer.value, world))


def _host_bytes_per_s(device: Device) -> float:
    return device.host_link.value if device.host_link else ASSUMED_HOST_LINK_BYTES_PER_S


def two_tier_bytes_per_s(world, domain, inside_bytes_per_s, outside_bytes_per_s, all_to_all=False):
    r"""Bandwidth as if of one flat ring, where devices outside a domain are farther away. [byte/s]

    Collectives run inside each of the ``k = world / domain`` domains and, between devices
    of the same place in theirs, across; both at the same time:

    .. math::  W = \frac{(w - 1) / w}{\max\left(\frac{d - 1}{d W_{in}},
               \frac{k - 1}{k \, d \, W_{out}}\right)}

    With all-to-all a device sends ``w - d`` of ``w`` parts outside, by itself.

    References
    ----------
    .. [1] S. Bekman, ml-engineering, network: all-reduce of 4 GiB over 4 nodes of 8 H200 with
       50 GB/s of network each reached 364.9 GB/s, as inside one node without NVLS (365.6).
    .. [2] DeepEP README: dispatch over 16 GPUs in 2 nodes is limited to 43 of 50 GB/s.

    Examples
    --------
    >>> print(f"{two_tier_bytes_per_s(32, 8, 450e9, 50e9) / 1e9:.0f} GB/s")
    498 GB/s
    >>> print(f"{two_tier_bytes_per_s(16, 8, 450e9, 50e9, all_to_all=True) / 1e9:.0f} GB/s")
    94 GB/s
    """
    near = minimum(world, domain)
    domains = world / near
    if all_to_all:
        within = (near - 1) / world / inside_bytes_per_s
        slowest = maximum(within, (world - near) / world / outside_bytes_per_s)
    else:
        across = (domains - 1) / world / outside_bytes_per_s
        slowest = maximum((near - 1) / near / inside_bytes_per_s, across)
    tiny = 1e-30  # one device alone moves nothing
    return where(world > near, moved_share(world) / maximum(slowest, tiny), inside_bytes_per_s)


def link_bytes_per_s(device: Device, world, all_to_all=False, stride=1):
    """Bandwidth one device has towards ``world - 1`` others, one direction. [byte/s]

    Inside the link's domain: the link; on a full mesh one link for each peer taking part; on
    a torus the links of the slice's axes; without a link the host link. Beyond the domain
    the slower tier counts too: the host link inside a node, the network between nodes. Of
    every ``stride`` devices one takes part.

    Raises
    ------
    SpecError
        If several devices take part and nothing connects them.
    """
    if device.link.topology == "none" and device.network is None:
        refusal = f"{device.id}: no link to other devices is known; {world} together are not allowed"
        require(world <= 1, f"{refusal}, allowed is 1 (tp 1)")
    domain = maximum(1, device.link.domain / stride)
    inside = _inside_bytes_per_s(device, minimum(world, domain), all_to_all)
    outside = where(
        world * stride <= device.devices_per_node, _host_bytes_per_s(device), _network_bytes_per_s(device)
    )
    return two_tier_bytes_per_s(world, domain, inside, outside, all_to_all)


def _network_bytes_per_s(device: Device) -> float:
    network = device.network.value if device.network else ASSUMED_NETWORK_BYTES_PER_S
    return min(network, device.host_link.value) if device.host_link else network


def near_devices(device: Device) -> int:
    """Devices that reach each other without the network: those of a node, or of the link's domain."""
    return max(device.link.domain, device.devices_per_node)


def hop_bytes_per_s(device: Device, stages, stride):
    """Mean bandwidth of the hops from each pipeline stage to the next, one direction. [byte/s]

    Stages of ``stride`` devices follow each other; where one begins in another node, the hop
    to it goes over the network. The mean is over time: each hop carries the same.

    Examples
    --------
    Two stages in a node, then one in each of two nodes:

    >>> from calc.specs.device import load_device
    >>> h100 = load_device("h100-sxm")
    >>> [hop_bytes_per_s(h100, 2, tp) / 1e9 for tp in (4, 8)]
    [450.0, 50.0]
    """
    hops = maximum(1, stages - 1)
    crossing = minimum(hops, ceil(stages * stride / near_devices(device)) - 1) / hops
    near = link_bytes_per_s(device, 2, stride=minimum(stride, maximum(1, device.link.domain / 2)))
    return 1 / ((1 - crossing) / near + crossing / _network_bytes_per_s(device))


def is_all_to_all(kind: str) -> bool:
    """Whether every device sends other data to each, as with experts.

    Examples
    --------
    >>> is_all_to_all("deepep_ll_dispatch"), is_all_to_all("allreduce")
    (True, False)
    """
    return kind.endswith(ALL_TO_ALL)


def is_collective_kind(kind: str) -> bool:
    """Whether devices exchange data in a kind of op, so that its time depends on the topology."""
    return is_all_to_all(kind) or kind in (
        "allreduce",
        "custom_allreduce",
        "allgather",
        "reduce_scatter",
        "p2p",
    )


def ring_hops(world, dimensions=1):
    """Steps of latency that a ring of ``world`` devices takes, each to a neighbour. [1]

    Up to eight devices one for each further device; then trees take two for each doubling. On
    a torus the rings of its axes run one after the other.

    Examples
    --------
    >>> ring_hops(2), ring_hops(8), ring_hops(64), ring_hops(64, dimensions=3)
    (1.0, 7.0, 13.0, 9.0)

    Notes
    -----
    NCCL all-reduce of a few bytes takes 6, 10, 16 us on 2, 4, 8 H100: a constant and a step for
    each further device [1]_; what more than eight take is assumed.

    References
    ----------
    .. [1] NVIDIA AIConfigurator measured tables, commit 095f58a (Apache-2.0).
    """
    side = maximum(1.0, 1.0 * world) ** (1 / dimensions)
    near = minimum(side, 8.0) - 1
    return dimensions * (near + 2 * log2(maximum(1.0, side / 8)))


def tiers(device: Device, world, stride=1) -> dict[str, object]:
    """Sizes that decide the latency of an exchange between ``world`` devices. [1]

    ``near`` devices inside the link's domain, ``hops`` of latency between them, and ``far``
    such domains. Of every ``stride`` devices one takes part.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> tiers(load_device("mi300x"), 16)
    {'near': 8.0, 'hops': 7.0, 'far': 2.0}
    """
    near = minimum(world, maximum(1, device.link.domain / stride))
    dimensions = torus_dimensions(device) if device.link.topology == "torus" else 1
    return {"near": near, "hops": ring_hops(near, dimensions), "far": world / near}
