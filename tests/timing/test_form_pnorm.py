"""The form for any kernel: between the larger of two times and their sum, never falling."""

import numpy as np
import pytest

from calc.timing.forms import Ceilings
from calc.timing.forms.pnorm import PNORM

C = Ceilings(1e12, 1e10, 4)
P = {"fixed_s": 1e-5, "e_compute": 0.5, "e_memory": 0.5}


def seconds(flops, moved, exponent):
    return PNORM.seconds({"flops": flops, "bytes": moved}, C, {**P, "overlap": exponent})


def test_an_exponent_of_one_adds_and_a_large_one_overlaps():
    compute, memory = 1e9 / 5e11, 1e7 / 5e9
    assert seconds(1e9, 1e7, 1.0) == pytest.approx(1e-5 + compute + memory)
    assert seconds(1e9, 4e7, 12.0) == pytest.approx(1e-5 + 4 * memory, rel=1e-3)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 12.0])
def test_more_work_never_takes_less_time(exponent):
    sizes = np.geomspace(1e3, 1e12, 50)
    assert np.all(np.diff(seconds(sizes, 1e6, exponent)) >= 0)
    assert np.all(np.diff(seconds(1e6, sizes, exponent)) >= 0)
    assert seconds(0.0, 0.0, exponent) == 1e-5
