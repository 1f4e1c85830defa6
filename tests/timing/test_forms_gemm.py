"""The form of matrix products."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.timing.forms.base import Ceilings
from calc.timing.forms.gemm import GEMM
from validate.fitting import fitted

H100 = Ceilings(989e12, 3.35e12, 132)
START = {p.name: p.start for p in GEMM.parameters}
BEST = {p.name: p.high if p.name.startswith(("e_", "overlap")) else p.low for p in GEMM.parameters}


def work_of(m, n, k, copies=1):
    """Work of a product in 16 bits."""
    moved = 2 * (m * k + k * n + m * n) * copies
    return {"m": m, "n": n, "k": k, "copies": copies, "flops": 2 * m * n * k * copies, "bytes": moved}


def anywhere():
    """Parameters anywhere within their bounds, even in logarithm."""
    return st.fixed_dictionaries(
        {p.name: st.floats(math.log(p.low), math.log(p.high)).map(math.exp) for p in GEMM.parameters}
    )


sizes = st.tuples(st.integers(1, 40000), st.integers(1, 70000), st.integers(1, 70000), st.integers(1, 128))


@given(anywhere(), sizes, st.integers(0, 3), st.sampled_from([1.0, 1.01, 1.3, 8.0]))
def test_more_work_never_takes_less_time(p, shape, which, factor):
    larger = list(shape)
    larger[which] = int(larger[which] * factor) + 1
    assert GEMM.seconds(work_of(*larger), H100, p) >= GEMM.seconds(work_of(*shape), H100, p) * (1 - 1e-9)


@given(sizes)
def test_a_product_inside_a_step_never_beats_the_roofline(shape):
    work = work_of(*shape)
    least = max(work["flops"] / H100.peak_flops_per_s, work["bytes"] / H100.bandwidth_bytes_per_s)
    assert GEMM.seconds(work, H100, GEMM.cold(BEST)) >= least * (1 - 1e-9)


def test_the_loop_over_inner_elements_saturates():
    """Few outputs: latency grows with the loop at first, then processors share it."""
    p = {**BEST, "loop_s": 1e-5, "loop_half": 2000.0}
    short, middle, long = (GEMM.seconds(work_of(1, 64, k), H100, p) for k in (500, 2000, 64000))
    assert middle - short > 2e-6
    assert long < 2.5 * middle


def test_arrays_give_what_numbers_give_and_symbols_their_formula():
    shapes = [(1, 4096, 4096, 1), (300, 1000, 7168, 1), (17, 128, 512, 128)]
    together = GEMM.seconds(
        work_of(*[np.array(c, dtype=float) for c in zip(*shapes, strict=True)]), H100, START
    )
    names = sympy.symbols("m n k c", positive=True)
    formula = GEMM.seconds(work_of(*names), H100, START)
    for i, shape in enumerate(shapes):
        alone = GEMM.seconds(work_of(*shape), H100, START)
        assert together[i] == pytest.approx(alone)
        assert float(formula.subs(dict(zip(names, shape, strict=True)))) == pytest.approx(alone)


def test_a_fit_recovers_what_made_the_points():
    rng = np.random.default_rng(4)
    m, n, k = (2.0 ** rng.integers(low, 15, 200) for low in (0, 6, 6))
    work = work_of(m, n, k)
    exact = GEMM.seconds(work, H100, {**START, "fixed_s": 4e-6, "loop_s": 5e-6, "e_compute": 0.6})
    found = fitted(GEMM, work, H100, exact * np.exp(rng.normal(0, 0.03, 200)))
    assert np.median(np.abs(GEMM.seconds(work, H100, found) / exact - 1)) < 0.02
