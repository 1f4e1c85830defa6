"""Forms of exchanges between devices."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.timing.forms.base import Ceilings
from calc.timing.forms.collective import COLLECTIVE, CUSTOM_ALLREDUCE, share_of_link
from calc.timing.forms.dispatch import DISPATCH
from calc.timing.forms.ring import RING
from calc.work.communication import collective, expert_exchange
from calc.work.op import Precision
from validate.fitting import fitted

NVLINK = Ceilings(450e9, 3.35e12, 1)
BF16 = Precision(bits={}, kv_bytes=2, math="bf16")
FORMS = (COLLECTIVE, CUSTOM_ALLREDUCE, DISPATCH, RING)
by_name = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def work_of(form, size, world):
    if form is DISPATCH:
        op = expert_exchange("dispatch", "dispatch", size, 8, 7168, 1.03, 256, world)
    else:
        op = collective("allreduce", "sum", size, world, BF16)
    return {**op.shape, "comm_bytes": op.comm_bytes}


def parameters(form, end="start"):
    return {p.name: getattr(p, end) for p in form.parameters}


@by_name
@given(
    size=st.integers(1, 1 << 28), world=st.sampled_from([2, 3, 4, 8, 16, 72]), more=st.integers(1, 1 << 20)
)
def test_more_bytes_never_take_less_time(form, size, world, more):
    for end in ("low", "start", "high"):
        first, second = (
            form.seconds(work_of(form, n, world), NVLINK, parameters(form, end)) for n in (size, size + more)
        )
        assert second >= first * (1 - 1e-12)


@by_name
def test_one_device_alone_takes_no_time(form):
    assert form.seconds(work_of(form, 1000, 1), NVLINK, parameters(form)) == 0


@by_name
def test_arrays_give_what_numbers_give_and_symbols_their_formula(form):
    sizes, worlds = np.array([1.0, 500.0, 3e7]), np.array([2.0, 8.0, 1.0])
    together = form.seconds(work_of(form, sizes, worlds), NVLINK, parameters(form))
    n, w = sympy.symbols("n w", positive=True)
    formula = form.seconds(work_of(form, n, w), NVLINK, parameters(form))
    for i, (size, world) in enumerate(zip(sizes.tolist(), worlds.tolist(), strict=True)):
        alone = form.seconds(work_of(form, size, world), NVLINK, parameters(form))
        assert together[i] == pytest.approx(alone)
        assert float(formula.subs({n: size, w: world})) == pytest.approx(alone)


@by_name
def test_a_fit_recovers_what_made_the_points(form):
    rng = np.random.default_rng(2)
    worlds = rng.choice([2.0, 4.0, 8.0], 90)
    sizes = 2.0 ** rng.uniform(0, 11, 90) if form is DISPATCH else 2.0 ** rng.uniform(8, 28, 90)
    work = work_of(form, sizes, worlds)
    seconds = form.seconds(work, NVLINK, {p.name: 0.8 * p.start for p in form.parameters})
    found = form.seconds(work, NVLINK, fitted(form, work, NVLINK, seconds * np.exp(rng.normal(0, 0.01, 90))))
    assert np.median(np.abs(found / seconds - 1)) < 0.015


def test_between_measured_world_sizes_the_share_lies_between():
    shares = [share_of_link(world, 0.6, 0.25, 0.3) for world in (2, 3, 4, 6, 8, 16)]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] == shares[-2] == pytest.approx(0.6 * 0.25 * 0.3)


def test_small_sums_are_exchanged_at_once_and_large_ones_go_round():
    p = {**parameters(CUSTOM_ALLREDUCE), "fixed_s": 2e-5, "one_shot_s": 3e-6, "one_shot_peer_s": 1e-7}
    small, large = (CUSTOM_ALLREDUCE.seconds(work_of(None, n, 8), NVLINK, p) for n in (1024, 1 << 26))
    assert small == pytest.approx(3.7e-6, rel=0.05)
    assert large < 7 * (2 << 26) / (0.6 * 450e9)


def test_packing_by_few_experts_takes_longer():
    """Tokens for one local expert are packed by one worker, for 32 by as many."""
    few, many = (
        DISPATCH.seconds(
            {"world": 8, "experts": experts, "comm_bytes": 8e6}, NVLINK, parameters(DISPATCH, "start")
        )
        for experts in (8, 256)
    )
    assert few > 2 * many
