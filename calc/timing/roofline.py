"""Time of one operation on one device, from its work and the device's ceilings."""

from calc.specs.numeric import maximum, require


def roofline_time_s(flops, moved_bytes, peak_flops_per_s, bandwidth_bytes_per_s):
    r"""Least time in which a device can do ``flops`` and move ``moved_bytes``.

    .. math::  t = \max\left(\frac{F}{P}, \frac{Q}{W}\right)

    Arithmetic and memory traffic are taken to overlap perfectly: a lower bound.

    Parameters
    ----------
    flops : number or array
        Work :math:`F`; one multiply-add counts as two. [flop]
    moved_bytes : number or array
        Traffic to and from device memory :math:`Q`. [byte]
    peak_flops_per_s : number or array
        Dense peak :math:`P` at the operation's precision. [flop/s]
    bandwidth_bytes_per_s : number or array
        Memory bandwidth :math:`W`. [byte/s]

    Returns
    -------
    number or array
        Time, of the shape the arguments broadcast to. [s]

    Raises
    ------
    SpecError
        If a ceiling is not positive.

    Notes
    -----
    Knows nothing of launch latency or cache reuse; ``op_time_s`` adds what kernels lose.

    Examples
    --------
    A decode step of a 70e9-parameter model in 8 bits on one H200, batch 8:

    >>> t = roofline_time_s(2 * 70e9 * 8, 70e9, 1979e12, 4.8e12)
    >>> print(f"{1e3 * t:.2f} ms")
    14.58 ms

    References
    ----------
    .. [1] S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual
       performance model", CACM 52(4), 2009. doi:10.1145/1498765.1498785
    """
    require(peak_flops_per_s > 0, "peak_flops_per_s must be positive")
    require(bandwidth_bytes_per_s > 0, "bandwidth_bytes_per_s must be positive")
    return maximum(flops / peak_flops_per_s, moved_bytes / bandwidth_bytes_per_s)


def op_time_s(flops, moved_bytes, peak_flops_per_s, bandwidth_bytes_per_s, fixed_s, e_compute, e_memory):
    r"""Time of one kernel call: a fixed cost plus a roofline with lowered ceilings.

    .. math::  t = t_0 + \max\left(\frac{F}{e_c P}, \frac{Q}{e_m W}\right)

    Parameters
    ----------
    flops, moved_bytes, peak_flops_per_s, bandwidth_bytes_per_s : number or array
        As in ``roofline_time_s``. [flop], [byte], [flop/s], [byte/s]
    fixed_s : number or array
        Fixed cost :math:`t_0` of a call. [s]
    e_compute, e_memory : number or array
        Shares of peak and bandwidth a good kernel reaches, at most 1. [1]

    Returns
    -------
    number or array
        Time, never below ``roofline_time_s``. [s]

    Examples
    --------
    >>> t = op_time_s(2 * 70e9 * 8, 70e9, 1979e12, 4.8e12, 3e-6, 0.8, 0.85)
    >>> print(f"{1e3 * t:.2f} ms")
    17.16 ms
    """
    require(fixed_s >= 0, "fixed_s must not be negative")
    require(e_compute <= 1, "e_compute must be at most 1")
    require(e_memory <= 1, "e_memory must be at most 1")
    return fixed_s + roofline_time_s(
        flops, moved_bytes, e_compute * peak_flops_per_s, e_memory * bandwidth_bytes_per_s
    )
