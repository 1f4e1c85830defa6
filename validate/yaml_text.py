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
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "[" + ", ".join(number(each) for each in value) + "]"
    if isinstance(value, int) or value == int(value):
        return f"{int(value)}" if isinstance(value, int) else f"{value:.1f}"
    text = f"{value:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+03d}"
    return text


def document(data: dict) -> str:
    """Return a mapping as YAML: numbers of six digits, short leaves on one line, no anchors.

    Examples
    --------
    >>> print(document({"id": "a", "low": 1e-6 / 3, "range": {"m": [1.0, 64.0]}}), end="")
    id: a
    low: 3.33333e-07
    range:
      m: [1.0, 64.0]
    """
    import yaml

    class Plain(yaml.SafeDumper):
        """Safe dumper that writes a value out wherever it occurs."""

        def ignore_aliases(self, data):
            return True

    return yaml.dump(_short(data), Dumper=Plain, sort_keys=False, default_flow_style=None, width=110)


def _short(value):
    """Return plain data with floats of six significant digits."""
    if isinstance(value, dict):
        return {str(key): _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    return float(f"{float(value):.6g}")
