"""YAML text of fitted numbers: few digits, floats that strict YAML reads as floats."""


def flow(values: dict) -> str:
    """Return a mapping of numbers on one line.

    Examples
    --------
    >>> flow({"n": 3, "fixed_s": 4.56789e-6, "ends": [1.0, 2]})
    '{n: 3, fixed_s: 4.568e-06, ends: [1.0, 2]}'
    """
    return "{" + ", ".join(f"{name}: {number(value)}" for name, value in values.items()) + "}"


def number(value) -> str:
    """Return a number, or a list of them, with four digits.

    Examples
    --------
    >>> number(1e-5), number(0.25), number(7)
    ('1.0e-05', '0.25', '7')
    """
    if isinstance(value, list):
        return "[" + ", ".join(number(each) for each in value) + "]"
    if isinstance(value, int) or value == int(value):
        return f"{int(value)}" if isinstance(value, int) else f"{value:.1f}"
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+03d}"
    return text
