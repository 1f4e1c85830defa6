"""What the forms of attention share: widths of heads, and reads from the device's own cache."""

from calc.specs.numeric import ceil, where
from calc.timing.forms.base import Parameter

#: matrix units take head widths in steps of this many elements
WIDTH_STEP = 32
#: widths between these two are the ones that many kernel sets lack
USUAL, WIDE = 128, 256
#: bandwidth of the device's own cache over that of its memory
CACHE_SPEED = 5.0

WARM = Parameter("warm_bytes", 4e7, 1e5, 4e8, "byte", "traffic that the own cache still holds half of")
NARROW = Parameter("narrow", 80.0, 16.0, 400.0, "elements", "width that narrower heads are no faster than")
BETWEEN = Parameter("between", 1.5, 0.66, 40.0, "1", "factor on tiles of head widths between 128 and 256")


def head_width(work):
    """Mean of the widths of keys and values, in whole steps of the matrix units. [elements]

    Examples
    --------
    >>> head_width({"d_head": 72, "d_value": 72})
    96
    """
    return WIDTH_STEP * ceil((work["d_head"] + work["d_value"]) / (2 * WIDTH_STEP))


def width_factor(work, between, wide=1.0):
    """Factor on head widths between 128 and 256, and from 256 on: other kernels serve them."""
    width = work["d_head"]
    return where(width > USUAL, where(width < WIDE, between, wide), 1.0)


def memory_bytes(moved, warm_bytes):
    r"""Bytes that take as long from memory as this traffic takes, part of it from the cache. [byte]

    Calls that repeat find what they moved before in the device's own cache, five times
    faster, unless they moved much more than ``warm_bytes`` since. Grows with the traffic.

    .. math::  B \, (c + (1 - c) / 5), \quad c = B^2 / (B^2 + warm^2)

    Examples
    --------
    >>> memory_bytes(1e6, 1e9), memory_bytes(1e9, 1e6)
    (200000.8, 999999200.0)
    """
    cold = moved**2 / (moved**2 + warm_bytes**2)
    return moved * (cold + (1 - cold) / CACHE_SPEED)
