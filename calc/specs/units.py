"""The closed list of units: conversion at the border, SI inside.

Units are converted in exactly two places: here when YAML is read, and in the formatters
below when a figure is shown. GB is 1e9 bytes and GiB is 2**30, never mixed.
"""

import re

from calc.specs.errors import SpecError

_BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
_FLOPS = {"GFLOP/s": 1e9, "TFLOP/s": 1e12, "PFLOP/s": 1e15, "TOP/s": 1e12}

#: unit as written in YAML -> (unit inside, factor)
UNITS: dict[str, tuple[str, float]] = {
    **{unit: ("byte", factor) for unit, factor in _BYTES.items()},
    **{f"{unit}/s": ("byte/s", factor) for unit, factor in _BYTES.items()},
    **{unit: ("flop/s", factor) for unit, factor in _FLOPS.items()},
    "s": ("s", 1), "ms": ("s", 1e-3), "us": ("s", 1e-6),
    "W": ("W", 1), "MHz": ("Hz", 1e6), "GHz": ("Hz", 1e9),
    "USD/h": ("USD/h", 1), "USD": ("USD", 1),
    "count": ("count", 1), "ratio": ("ratio", 1), "tokens": ("tokens", 1), "parameters": ("parameters", 1),
    "bit": ("bit", 1),
}  # fmt: skip

_SIZE = re.compile(r"^\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*$")
_COUNT_SUFFIX = {"": 1, "k": 1024, "K": 1024, "m": 2**20, "M": 2**20}


def to_si(value: float, unit: str) -> float:
    """Return a printed value in the unit used inside.

    Examples
    --------
    >>> to_si(3.35, "TB/s")
    3350000000000.0
    """
    if unit not in UNITS:
        raise SpecError(f"unit {unit!r} is not known: allowed are {', '.join(UNITS)}")
    return value * UNITS[unit][1]


def parse_tokens(text: str | int, name: str = "tokens") -> int:
    """Return a number of tokens from ``8k`` (8192), ``1M`` (2**20) or ``1000``.

    Examples
    --------
    >>> parse_tokens("8k"), parse_tokens("1.5k"), parse_tokens(300)
    (8192, 1536, 300)
    """
    match = _SIZE.match(str(text))
    if not match or match[2] not in _COUNT_SUFFIX:
        raise SpecError(f"{name}: {text!r} is not a token count: allowed are 300, 8k (8192) or 1M (1048576)")
    tokens = float(match[1]) * _COUNT_SUFFIX[match[2]]
    if tokens != int(tokens):
        raise SpecError(f"{name}: {text!r} is not a whole number of tokens")
    return int(tokens)


def parse_bytes(text: str, name: str = "size") -> float:
    """Return bytes from ``80GB`` (decimal) or ``80GiB`` (binary).

    Examples
    --------
    >>> parse_bytes("80GB"), parse_bytes("80GiB")
    (80000000000.0, 85899345920.0)
    """
    match = _SIZE.match(str(text))
    if not match or match[2] not in _BYTES:
        raise SpecError(f"{name}: {text!r} is not a size: allowed are e.g. 80GB (decimal) or 80GiB (binary)")
    return float(match[1]) * _BYTES[match[2]]


def parse_seconds(text: str | float, name: str = "time") -> float:
    """Return seconds from ``50ms``, ``2s``, ``300us`` or a plain number of seconds.

    Examples
    --------
    >>> parse_seconds("50ms"), parse_seconds("2s"), parse_seconds(0.5)
    (0.05, 2.0, 0.5)
    """
    if isinstance(text, int | float):
        return float(text)
    match = _SIZE.match(str(text))
    factor = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
    if not match or match[2] not in factor:
        raise SpecError(f"{name}: {text!r} is not a time: allowed are e.g. 50ms, 2s or 0.05")
    return float(match[1]) * factor[match[2]]


def format_bytes(value: float) -> str:
    """Return bytes as decimal gigabytes for people.

    Examples
    --------
    >>> format_bytes(17_179_869_184), format_bytes(131072)
    ('17.2 GB', '131.1 kB')
    """
    return _scaled(value, [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def format_seconds(value: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> format_seconds(0.0312), format_seconds(2.5)
    ('31.2 ms', '2.5 s')
    """
    return _scaled(value, [(1, "s"), (1e-3, "ms"), (1e-6, "us")])


def _scaled(value: float, scales: list[tuple[float, str]]) -> str:
    factor, unit = next((scale for scale in scales if abs(value) >= scale[0]), scales[-1])
    return f"{significant(value / factor)} {unit}"


def significant(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits and no exponent.

    Examples
    --------
    >>> significant(17.17987), significant(1234.5), significant(0.01234)
    ('17.2', '1,234', '0.0123')
    """
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.1f}"
    return f"{value:.{digits}g}" if abs(value) >= 1e-4 else f"{value:.2e}"
