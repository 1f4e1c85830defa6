"""One formula for numbers, columns of numbers and symbols."""

import subprocess
import sys

import numpy as np
import pytest

from calc.specs.errors import SpecError
from calc.specs.numeric import ceil, floor, is_symbolic, maximum, minimum, require, where

sympy = pytest.importorskip("sympy")


def test_plain_numbers_stay_plain():
    assert (maximum(1, 2.5), minimum(1, 2.5), maximum(3), minimum(4, 2, 3)) == (2.5, 1, 3, 2)
    assert (ceil(2.1), floor(2.9), ceil(2), floor(-0.5)) == (3, 2, 2, -1)
    assert type(ceil(2.1)) is int
    assert type(maximum(1, 2)) is int


def test_arrays_are_worked_element_by_element_and_broadcast():
    column, row = np.array([[1.0], [4.0]]), np.array([2.0, 3.0])
    np.testing.assert_array_equal(maximum(column, row, 2.5), [[2.5, 3.0], [4.0, 4.0]])
    np.testing.assert_array_equal(minimum(column, row), [[1.0, 1.0], [2.0, 3.0]])
    np.testing.assert_array_equal(ceil(np.array([0.5, 2.0])), [1, 2])
    np.testing.assert_array_equal(floor(np.array([0.5, 2.0])), [0, 2])


def test_numpy_scalars_count_as_numbers():
    assert maximum(np.float64(1.5), 2) == 2
    assert ceil(np.float64(1.5)) == 2


def test_symbols_give_an_expression_that_evaluates_to_the_same_number():
    batch, context = sympy.symbols("batch context", positive=True)
    numbers = {batch: 7, context: 33}
    for symbolic, plain in [
        (maximum(batch, context, 5), maximum(7, 33, 5)),
        (minimum(batch, context), minimum(7, 33)),
        (ceil(context / 16), ceil(33 / 16)),
        (floor(context / 16), floor(33 / 16)),
        (where(batch > 3, context, 0), where(7 > 3, 33, 0)),
    ]:
        assert is_symbolic(symbolic)
        assert symbolic.subs(numbers) == plain


def test_where_takes_a_bool_an_array_and_a_symbol():
    assert where(True, 1, 2) == 1
    assert where(False, 1, 2) == 2
    np.testing.assert_array_equal(where(np.array([True, False]), 1, np.array([5, 6])), [1, 6])
    x = sympy.Symbol("x")
    assert where(x > 0, 1, 2).subs(x, -1) == 2


def test_require_speaks_when_the_condition_fails_anywhere():
    require(True, "unused")
    require(np.array([True, True]), "unused")
    require(sympy.Symbol("x") > 0, "unused")
    with pytest.raises(SpecError, match=r"must be positive"):
        require(np.array([True, False]), "batch must be positive")
    with pytest.raises(SpecError, match=r"must be positive"):
        require(np.array([1, 0]) > 0, "batch must be positive")


def test_a_plain_number_is_not_symbolic():
    assert not is_symbolic(1, 2.0, np.array([1]))
    assert is_symbolic(1, sympy.Symbol("x"))


def test_the_helpers_do_not_import_sympy():
    code = (
        "import sys\n"
        "from calc.specs.numeric import maximum, is_symbolic\n"
        "maximum(1, 2); is_symbolic(1)\n"
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
