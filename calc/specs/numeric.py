"""Arithmetic that takes plain numbers, NumPy arrays and sympy symbols alike.

Formulas use these instead of ``max``, ``math.ceil`` and ``if``, so that one function
gives a number, a column of numbers or (traced with symbols) its own formula. sympy is
never imported here: it is looked up only when an argument already is a sympy object.
"""

import math
import sys

import numpy as np

from calc.specs.errors import SpecError

_PLAIN = (int, float)


def is_symbolic(*values) -> bool:
    """Whether any value is a sympy expression."""
    sympy = sys.modules.get("sympy")
    return sympy is not None and any(isinstance(value, sympy.Basic) for value in values)


def _all_plain(values) -> bool:
    return all(type(value) in _PLAIN for value in values)


def maximum(*values):
    """Largest of the values, element by element.

    Examples
    --------
    >>> maximum(1, 2.5), maximum(3, [1, 4]).tolist()
    (2.5, [3, 4])
    """
    if len(values) == 2:  # nearly every call, of plain numbers: the quick way
        first, second = values
        if type(first) in _PLAIN and type(second) in _PLAIN:
            return second if second > first else first
    return _extreme(values, max, np.maximum, "Max")


def minimum(*values):
    """Smallest of the values, element by element.

    Examples
    --------
    >>> minimum(1, 2.5), minimum(3, [1, 4]).tolist()
    (1, [1, 3])
    """
    if len(values) == 2:
        first, second = values
        if type(first) in _PLAIN and type(second) in _PLAIN:
            return second if second < first else first
    return _extreme(values, min, np.minimum, "Min")


def _extreme(values, plain, array, symbol):
    if _all_plain(values):
        return plain(values)
    if is_symbolic(*values):
        return getattr(sys.modules["sympy"], symbol)(*values)
    result = values[0]
    for value in values[1:]:
        result = array(result, value)
    return result


def ceil(value):
    """Smallest whole number that is not below the value.

    Examples
    --------
    >>> ceil(2.1), ceil(np.array([0.5, 2.0])).tolist()
    (3, [1.0, 2.0])
    """
    if type(value) in _PLAIN:
        return math.ceil(value)
    if is_symbolic(value):
        return sys.modules["sympy"].ceiling(value)
    return np.ceil(value)


def floor(value):
    """Largest whole number that is not above the value.

    Examples
    --------
    >>> floor(2.9)
    2
    """
    if type(value) in _PLAIN:
        return math.floor(value)
    if is_symbolic(value):
        return sys.modules["sympy"].floor(value)
    return np.floor(value)


def log2(value):
    """Logarithm to base 2.

    Examples
    --------
    >>> log2(8.0), log2(np.array([1.0, 4.0])).tolist()
    (3.0, [0.0, 2.0])
    """
    if type(value) in _PLAIN:
        return math.log2(value)
    if is_symbolic(value):
        return sys.modules["sympy"].log(value, 2)
    return np.log2(value)


def where(condition, if_true, if_false):
    """One of two values by a condition, element by element; both are evaluated.

    Examples
    --------
    >>> where(True, 1, 2), where(np.array([True, False]), 1, 2).tolist()
    (1, [1, 2])
    """
    if condition is True or condition is False:
        return if_true if condition else if_false
    if is_symbolic(condition):
        sympy = sys.modules["sympy"]
        return sympy.Piecewise((if_true, condition), (if_false, True))
    return np.where(condition, if_true, if_false)


def require(condition, message: str) -> None:
    """Raise SpecError with the message unless the condition holds everywhere; symbols pass.

    Examples
    --------
    >>> require(np.array([1, 2]) > 0, "must be positive")
    """
    if condition is True or is_symbolic(condition):
        return
    if not np.all(condition):
        raise SpecError(message)
