"""Time of collectives between devices: bytes over the link that the topology offers."""

from calc.specs.device import Device
from calc.specs.numeric import maximum, minimum, where

#: taken where no figure for a device's network is known: 400 Gb/s per device, one direction
ASSUMED_NETWORK_BYTES_PER_S = 50e9
#: taken where neither link nor host link is known: PCIe 4.0 x16, one direction
ASSUMED_HOST_LINK_BYTES_PER_S = 31.5e9


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
    moved = 2 * (world - 1) / world * payload_bytes
    return where(world > 1, fixed_s + moved / (e_link * link_bytes_per_s), 0.0)


def link_bytes_per_s(device: Device, world):
    """Bandwidth one device has towards ``world - 1`` others, one direction. [byte/s]

    Inside the link's domain: the link, or on a full mesh at most ``per_peer`` times the
    peers taking part (MI300X: 64 GB/s to one peer). Without a link: the host link. Beyond
    the domain: the network.
    """
    host = device.host_link.value if device.host_link else ASSUMED_HOST_LINK_BYTES_PER_S
    inside = device.link.bandwidth.value if device.link.bandwidth else host
    if device.link.per_peer is not None:
        inside = minimum(inside, device.link.per_peer.value * maximum(1, world - 1))
    network = device.network.value if device.network else ASSUMED_NETWORK_BYTES_PER_S
    return where(world <= device.link.domain, inside, minimum(inside, network))
