"""The one exception of the calculator, and the sentence it speaks."""

import difflib
from collections.abc import Iterable


class SpecError(ValueError):
    """Wrong input: the message names the thing, the value and what is allowed, in one line."""


def short(text: str) -> str:
    """Return text for a message: one line, cut when long.

    Examples
    --------
    >>> short("a  b"), len(short("x" * 1000))
    ('a b', 80)
    """
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def unknown_name(thing: str, name: str, known: Iterable[str], hint: str = "") -> SpecError:
    """Return the error for a name that is not known, with the nearest known one.

    Parameters
    ----------
    thing : str
        What was looked up, e.g. ``"model"``.
    name : str
        The name as given.
    known : iterable of str
        The names that exist.
    hint : str
        What else would be allowed, appended after a semicolon.

    Examples
    --------
    >>> print(unknown_name("device", "h100-sxn", ["h100-sxm", "a100-sxm-80gb"]))
    unknown device 'h100-sxn': did you mean 'h100-sxm'?
    """
    known = sorted(known)
    folded = {candidate.lower(): candidate for candidate in reversed(known)}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if close:
        advice = f"did you mean {folded[close[0]]!r}?"
    elif len(known) <= 12:
        advice = f"allowed: {', '.join(known)}"
    else:
        advice = f"{len(known)} names are known, e.g. {', '.join(known[:3])}"
    return SpecError(f"unknown {thing} {short(repr(name))}: {advice}{'; ' + hint if hint else ''}")
