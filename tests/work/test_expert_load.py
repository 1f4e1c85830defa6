"""Load of the busiest rank: against drawing it, bounds, order."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.specs.errors import SpecError
from calc.specs.workload import MAX_EXPERT_SKEW
from calc.work.expert_load import even_load, expert_load, expert_ranks, experts_hit, largest_of_normals


def busiest(counts, ep):
    """Experts hit and rows of the rank with most rows."""
    ranks = counts.reshape(ep, -1)
    rank = ranks[ranks.sum(axis=1).argmax()]
    return (rank > 0).sum(), rank.sum()


def drawn_uniform(rng, tokens, n_experts, top_k, ep):
    chosen = np.argsort(rng.random((tokens, n_experts)), axis=1)[:, :top_k]
    return busiest(np.bincount(chosen.ravel(), minlength=n_experts), ep)


def drawn_power_law(rng, tokens, n_experts, top_k, ep, skew):
    """Popularities scaled to the rows, cut at one row a token, rounded; the rest to the idlest."""
    low, high = (1, 0.8 * tokens) if tokens * top_k > n_experts else (0.01, 2)
    power = 1 - skew
    popularity = (low**power + rng.random(n_experts) * (high**power - low**power)) ** (1 / power)
    counts = np.minimum(np.round(popularity / popularity.sum() * tokens * top_k), tokens)
    ranks, missing = counts.reshape(ep, -1), tokens * top_k - counts.sum()
    turn = 0
    while missing:
        rank, step = ranks[turn % ep], np.sign(missing)
        at = rank.argmin() if step > 0 else rank.argmax()
        if 0 <= rank[at] + step <= tokens:
            rank[at] += step
            missing -= step
        turn += 1
    return busiest(counts, ep)


def drawn(draw, *sizes, count=60):
    rng = np.random.default_rng(3)
    return np.mean([draw(rng, *sizes) for _ in range(count)], axis=0)


@pytest.mark.parametrize("ep", [1, 4, 16])
@pytest.mark.parametrize("tokens", [4, 32, 256])
def test_uniform_load_agrees_with_drawing_it(tokens, ep):
    hit, rows = drawn(drawn_uniform, tokens, 64, 6, ep)
    load = expert_load(tokens, 64, 6, ep)
    assert load.rows == pytest.approx(rows, rel=0.1)
    assert load.hit == pytest.approx(hit, rel=0.1)


@pytest.mark.parametrize("skew", [0.5, 1.01, 1.2])
@pytest.mark.parametrize("ep", [1, 4, 16])
@pytest.mark.parametrize("tokens", [8, 64, 1024])
def test_a_power_law_load_agrees_with_drawing_it(tokens, ep, skew):
    hit, rows = drawn(drawn_power_law, tokens, 128, 8, ep, skew)
    load = expert_load(tokens, 128, 8, ep, skew)
    assert load.rows == pytest.approx(rows, rel=0.15)
    assert load.hit == pytest.approx(hit, rel=0.2)


@pytest.mark.parametrize("tokens", [1, 3, 16, 64, 1000])
@pytest.mark.parametrize("ep", [1, 8])
def test_even_load_agrees_with_experts_taken_in_turn(tokens, ep):
    n_experts, top_k = 128, 8
    stride = n_experts // top_k
    spread = 1 if tokens >= stride else stride / tokens
    token, choice = np.arange(tokens)[:, None], np.arange(top_k)
    counts = np.bincount(((token * spread + choice * stride) % n_experts).astype(int).ravel(), minlength=128)
    hit, rows = busiest(counts, ep)
    load = even_load(tokens, n_experts, top_k, ep)
    assert (load.hit, load.rows) == pytest.approx((hit, rows), abs=1 if ep == 1 else 1 + 0.1 * rows)


@given(
    tokens=st.integers(0, 70000),
    more=st.integers(0, 70000),
    top_k=st.integers(1, 22),
    local=st.integers(1, 64),
    ep=st.sampled_from([1, 2, 8, 32, 128]),
    skew=st.floats(0.0, MAX_EXPERT_SKEW),
)
def test_more_tokens_never_load_less_and_bounds_hold(tokens, more, top_k, local, ep, skew):
    n_experts = max(local * ep, top_k)
    n_experts = -(-n_experts // ep) * ep
    few, many = (expert_load(n, n_experts, top_k, ep, skew) for n in (tokens, tokens + more))
    for load, n in ((few, tokens), (many, tokens + more)):
        slack = 1 + 1e-9
        assert load.rows * slack >= n * top_k / ep
        assert load.rows <= n * top_k * slack
        assert load.hit <= min(n_experts / ep, load.rows) * slack
    assert many.rows * (1 + 1e-6) >= few.rows
    assert many.hit * (1 + 1e-6) >= few.hit


def test_without_skew_on_one_rank_every_row_is_there_and_experts_hit_follow_chance():
    assert expert_load(37, 64, 6) == (experts_hit(37, 64, 6), 37 * 6)


def test_skew_loads_the_busiest_rank_more():
    rows = [expert_load(1024, 128, 8, ep=8, skew=skew).rows for skew in (0.0, 0.8, 1.0, 1.2)]
    assert rows == sorted(rows)
    assert rows[0] < 1.1 * 1024 < 1.4 * 1024 < rows[-1]


def test_arrays_give_what_scalars_give():
    tokens, skew = np.array([1.0, 20.0, 300.0, 5000.0]), np.array([0.0, 1.0, 1.2, 1.01])
    column = expert_load(tokens, 256, 8, 16, skew)
    for i, (n, s) in enumerate(zip(tokens.tolist(), skew.tolist(), strict=True)):
        assert (column.hit[i], column.rows[i]) == pytest.approx(expert_load(n, 256, 8, 16, s))


def test_a_symbol_passes_through_uniform_load():
    tokens, ep = sympy.symbols("tokens ep", positive=True)
    for ranks, value in ((1, 1), (8, 8), (ep, 8)):
        load = expert_load(tokens, 64, 6, ranks)
        numbers = {tokens: 100.0, ep: value}
        assert float(sympy.sympify(load.rows).subs(numbers)) == pytest.approx(
            expert_load(100.0, 64, 6, value).rows
        )


def test_the_largest_of_normals_agrees_with_drawing_it():
    rng = np.random.default_rng(0)
    for n in (2, 8, 64, 512):
        mean = rng.standard_normal((4000, n)).max(axis=1).mean()
        assert largest_of_normals(n) == pytest.approx(mean, abs=0.08)


@pytest.mark.parametrize("skew", [-0.1, 3.0, np.array([0.0, 2.0])])
def test_a_skew_beyond_what_is_known_is_refused(skew):
    with pytest.raises(SpecError, match="skew must lie between 0"):
        expert_load(10, 64, 6, 1, skew)


def test_tokens_visit_fewer_devices_than_experts():
    assert expert_ranks(1, 8) == pytest.approx(1)
    assert expert_ranks(8, 8) < 8 < expert_ranks(8, 256) + 0.2
