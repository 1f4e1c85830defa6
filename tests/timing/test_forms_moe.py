"""The form of routed experts: order, symbols, arrays, parameters found again."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.specs.model import ROLES
from calc.specs.workload import MAX_EXPERT_SKEW
from calc.timing.forms.base import Ceilings
from calc.timing.forms.moe import MOE, computed_rows
from calc.work.expert_load import expert_load
from calc.work.experts import ExpertSizes, routed_experts
from calc.work.op import Precision

CEILINGS = Ceilings(989e12, 3.35e12, 132)
PARAMETERS = {p.name: p.start for p in MOE.parameters}
FP8 = Precision(bits=dict.fromkeys(ROLES, 8), kv_bytes=1, math="fp8")


def work(tokens, d_model=4096, d_expert=1536, top_k=8, n_experts=128, ep=1, skew=0.0):
    sizes = ExpertSizes(d_model, d_expert, n_experts, top_k)
    op = routed_experts(tokens, sizes, expert_load(tokens, n_experts, top_k, ep, skew), FP8)
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}


def seconds(tokens, parameters=PARAMETERS, **sizes):
    return MOE.seconds(work(tokens, **sizes), CEILINGS, parameters)


@st.composite
def parameter_sets(draw):
    """Any parameters within the bounds of a fit."""
    shares = draw(st.lists(st.floats(0, 1), min_size=len(MOE.parameters), max_size=len(MOE.parameters)))
    return {
        p.name: p.low * (p.high / p.low) ** share for p, share in zip(MOE.parameters, shares, strict=True)
    }


@given(
    parameters=parameter_sets(),
    tokens=st.integers(0, 70000),
    sizes=st.fixed_dictionaries(
        {
            "d_model": st.integers(256, 8192),
            "d_expert": st.integers(16, 16384),
            "top_k": st.integers(1, 16),
            "ep": st.sampled_from([1, 4, 32]),
            "skew": st.floats(0, MAX_EXPERT_SKEW),
        }
    ),
    more=st.sampled_from(["tokens", "d_model", "d_expert"]),
    factor=st.floats(1.0, 10.0),
)
def test_more_tokens_or_width_never_take_less_time(parameters, tokens, sizes, more, factor):
    before = {"tokens": tokens, **sizes}
    after = {**before, more: int(before[more] * factor)}
    assert seconds(parameters=parameters, **before) <= seconds(parameters=parameters, **after) * (1 + 1e-6)


@given(parameters=parameter_sets(), tokens=st.integers(1, 70000), top_k=st.integers(1, 15))
def test_more_experts_per_token_never_take_less_time(parameters, tokens, top_k):
    few, many = (seconds(tokens, parameters, top_k=k) for k in (top_k, top_k + 1))
    assert few <= many * (1 + 1e-9)


@given(
    rows=st.floats(0, 1e6), hit=st.floats(0, 512), more=st.floats(1, 10),
    pad=st.floats(0.5, 256), loss=st.floats(0.01, 1.0),
)  # fmt: skip
def test_computed_rows_grow_with_rows_and_with_experts_hit(rows, hit, more, pad, loss):
    base = computed_rows(rows, hit, pad, loss)
    assert base >= rows
    assert computed_rows(rows * more, hit, pad, loss) >= base * (1 - 1e-9)
    assert computed_rows(rows, hit * more, pad, loss) >= base * (1 - 1e-9)


def test_many_small_experts_cost_more_than_few_large_ones_of_the_same_flops():
    few = seconds(1024, d_expert=8192, n_experts=8, top_k=2)
    many = seconds(1024, d_expert=1024, n_experts=64, top_k=16)
    assert many > few


def test_arrays_give_what_scalars_give():
    tokens = np.array([1.0, 7.0, 300.0, 20000.0])
    column = seconds(tokens, ep=8, skew=1.2)
    assert column == pytest.approx([seconds(float(n), ep=8, skew=1.2) for n in tokens])


def test_symbols_pass_through():
    tokens, d_model = sympy.symbols("tokens d_model", positive=True)
    names = {name: sympy.Symbol(name, positive=True) for name in PARAMETERS}
    tree = MOE.seconds(work(tokens, d_model=d_model), CEILINGS, names)
    assert tree.free_symbols == {tokens, d_model, *names.values()}
    values = {tokens: 64.0, d_model: 4096.0, **{names[name]: value for name, value in PARAMETERS.items()}}
    assert float(tree.subs(values)) == pytest.approx(seconds(64.0))


def test_a_fit_finds_the_times_of_known_parameters_again():
    fitting = pytest.importorskip("validate.fitting")
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    n = 200
    tokens = np.round(np.exp(rng.uniform(0, np.log(16384), n)))
    ep, skew = rng.choice([1.0, 8.0, 64.0], n), rng.choice([0.0, 1.0, 1.2], n)
    sizes = {"d_model": rng.choice([2048.0, 6144.0], n), "d_expert": rng.choice([96.0, 1024.0, 4096.0], n)}
    points = work(tokens, ep=ep, skew=skew, **sizes)
    true = {**PARAMETERS, "fixed_s": 3e-5, "e_compute": 0.7, "e_memory": 0.8, "hidden_passes": 4.0}
    exact = MOE.seconds(points, CEILINGS, true)
    noisy = exact * np.exp(rng.normal(0, 0.03, n)) * np.where(rng.random(n) < 0.03, 2.0, 1.0)
    found = fitting.fitted(MOE, points, CEILINGS, noisy)
    error = np.abs(MOE.seconds(points, CEILINGS, found) / exact - 1)
    assert np.median(error) < 0.02
    assert np.quantile(error, 0.9) < 0.05
    for name in ("fixed_s", "e_memory"):
        assert found[name] == pytest.approx(true[name], rel=0.15)


def test_every_parameter_says_what_it_is():
    assert len(MOE.parameters) <= 14
    assert all(0 < p.low < p.start < p.high and p.unit and p.meaning for p in MOE.parameters)
