"""The roofline and what kernels lose on it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc

PEAK, BANDWIDTH = 989e12, 4.8e12


@pytest.mark.parametrize(
    ("tokens", "bound"), [(1, "memory"), (206, "memory"), (207, "compute"), (4096, "compute")]
)
def test_weights_stop_being_the_limit_at_the_ridge(tokens, bound):
    """On an H200 in bf16, 989e12 / 4.8e12 = 206.04 tokens share one read of the weights."""
    params = 70e9
    t = calc.roofline_time_s(2 * params * tokens, 2 * params, PEAK, BANDWIDTH)
    sides = {"compute": 2 * params * tokens / PEAK, "memory": 2 * params / BANDWIDTH}
    assert t == sides[bound]


def test_arrays_give_what_scalars_give():
    tokens = np.array([1, 206, 207, 4096])
    together = calc.roofline_time_s(2e9 * tokens, 2e9, PEAK, BANDWIDTH)
    assert together.tolist() == [calc.roofline_time_s(2e9 * int(n), 2e9, PEAK, BANDWIDTH) for n in tokens]


@pytest.mark.parametrize(("name", "index"), [("peak_flops_per_s", 2), ("bandwidth_bytes_per_s", 3)])
def test_a_ceiling_of_zero_is_refused(name, index):
    values = [1.0, 1.0, 1.0, 1.0]
    values[index] = 0.0
    with pytest.raises(calc.SpecError, match=name):
        calc.roofline_time_s(*values)


@given(
    flops=st.floats(0, 1e18),
    moved=st.floats(0, 1e13),
    fixed=st.floats(0, 1e-3),
    e_compute=st.floats(0.01, 1),
    e_memory=st.floats(0.01, 1),
)
def test_a_kernel_never_beats_the_roofline(flops, moved, fixed, e_compute, e_memory):
    t = calc.op_time_s(flops, moved, PEAK, BANDWIDTH, fixed, e_compute, e_memory)
    assert t >= calc.roofline_time_s(flops, moved, PEAK, BANDWIDTH) * (1 - 1e-12)


def test_an_efficiency_above_one_is_refused():
    with pytest.raises(calc.SpecError, match="e_compute must be at most 1"):
        calc.op_time_s(1.0, 1.0, PEAK, BANDWIDTH, 0.0, 1.1, 1.0)
