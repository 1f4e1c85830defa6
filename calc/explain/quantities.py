"""Numbers with units, as people read them: short for results, exact enough inside formulas."""

from calc.specs.units import significant, to_si

#: unit inside -> units on screen, largest first; the factor of each comes from the table of units
_ON_SCREEN = {
    "s": ("s", "ms", "us"),
    "byte": ("TB", "GB", "MB", "kB", "B"),
    "byte/s": ("TB/s", "GB/s", "MB/s", "kB/s", "B/s"),
    "flop/s": ("PFLOP/s", "TFLOP/s", "GFLOP/s"),
}
_FLOPS = {"PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6, "kFLOP": 1e3, "FLOP": 1.0}
#: bare numbers
_BARE = ("count", "ratio")

#: digits of a number inside a formula
DIGITS = 6
#: the same where the formula rounds to whole numbers: a lost digit could tip it
DIGITS_ROUNDED = 12


def scales(unit: str) -> dict[str, float]:
    """Return the units in which a quantity may be shown, with their factors, largest first.

    Examples
    --------
    >>> scales("s")
    {'s': 1, 'ms': 0.001, 'us': 1e-06}
    """
    if unit == "flop":
        return _FLOPS
    if unit in _ON_SCREEN:
        return {name: to_si(1, name) for name in _ON_SCREEN[unit]}
    return {"" if unit in _BARE else unit: 1.0}


def scaled(value: float, unit: str) -> tuple[float, str]:
    """Return number and unit such that the number is at least 1 where a unit allows it.

    Examples
    --------
    >>> scaled(0.0312, "s"), scaled(3.35e12, "byte/s")
    ((31.2, 'ms'), (3.35, 'TB/s'))
    """
    choices = scales(unit)
    if value == 0 and unit in ("s", "byte", "flop"):  # zero needs no prefix
        name = "FLOP" if unit == "flop" else {"byte": "B"}.get(unit, unit)
        return 0.0, name
    for name, factor in choices.items():
        if abs(value) >= factor:
            return value / factor, name
    name, factor = list(choices.items())[-1]
    return value / factor, name


def number(value: float, digits: int = DIGITS) -> str:
    """Return a number for a formula: whole numbers exactly, others to some digits, no separators.

    Examples
    --------
    >>> number(128256), number(0.031249999), number(1 / 3e9)
    ('128256', '0.03125', '3.33333e-10')
    """
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.{digits}g}"


def in_formula(value: float, unit: str, digits: int = DIGITS) -> str:
    """Return a quantity as it stands in a formula with numbers.

    Examples
    --------
    >>> in_formula(0.0123456789, "s"), in_formula(1024, "tokens"), in_formula(16, "count")
    ('12.3457 ms', '1024 tokens', '16')
    """
    size, name = scaled(value, unit)
    return f"{number(size, digits)} {name}".strip()


def counted(value: float, thing: str) -> str:
    """Return a number of things, in the plural where that is due.

    Examples
    --------
    >>> counted(1, "call"), counted(32.0, "call")
    ('1 call', '32 calls')
    """
    return f"{shown(value, 'count')} {thing}{'' if value == 1 else 's'}"


def shown(value: float, unit: str) -> str:
    """Return a quantity for people, three digits.

    Examples
    --------
    >>> shown(0.0312, "s"), shown(1234.5, "tokens/s"), shown(64, "count"), shown(128256, "tokens")
    ('31.2 ms', '1,234 tokens/s', '64', '128,256 tokens')
    """
    if unit == "bit":  # 8.00195 is not 8
        return in_formula(value, unit)
    size, name = scaled(value, unit)
    whole = size == int(size) and abs(size) < 1e15
    return f"{f'{int(size):,}' if whole else significant(size)} {name}".strip()
