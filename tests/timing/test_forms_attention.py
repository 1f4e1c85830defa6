"""Forms of attention: they grow with the work, take symbols and arrays, and can be recovered."""

import math

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.timing.forms.attention import head_width, memory_bytes, width_factor
from calc.timing.forms.base import Ceilings
from calc.timing.forms.decode import DECODE, by_window, visited_tiles
from calc.timing.forms.prefill import ENCODER, PREFILL, causal_keys, keys_per_query
from calc.work.attention_core import attention_core, encoder_core
from calc.work.op import Precision, Sequences
from validate.fitting import fitted

H100 = Ceilings(989e12, 3.35e12, 132)
BF16 = Precision(bits={}, kv_bytes=2, math="bf16")
FORMS = (PREFILL, DECODE, ENCODER)
NAMED = {"argvalues": FORMS, "ids": lambda form: form.name}


def work_of(op):
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}


def prefill(batch, new, past, heads, kv_heads, d_head=128, **limit):
    group = Sequences("prefill", batch, new, past)
    return work_of(attention_core(group, heads, kv_heads, (d_head, d_head), BF16, **limit))


def decode(batch, new, past, heads, kv_heads, d_head=128, **limit):
    group = Sequences("decode", batch, new, past)
    return work_of(attention_core(group, heads, kv_heads, (d_head, d_head), BF16, **limit))


def encoder(batch, new, past, heads, kv_heads, d_head=128):
    group = Sequences("prefill", batch, new, past)
    return work_of(encoder_core(group, heads, kv_heads, (d_head, d_head), BF16))


WORK = {PREFILL: prefill, DECODE: decode, ENCODER: encoder}
START = {form: {p.name: p.start for p in form.parameters} for form in FORMS}


def within_bounds(form):
    """Parameters anywhere within their bounds, even in logarithm."""
    ranges = {p.name: st.floats(math.log(p.low), math.log(p.high)).map(math.exp) for p in form.parameters}
    return st.fixed_dictionaries(ranges)


batches, tokens = st.integers(1, 300), st.integers(1, 20_000)
limits = st.sampled_from([{}, {"window": 128}, {"window": 1000}, {"chunk": 512}])
shapes = st.tuples(
    batches, tokens, st.integers(0, 100_000), st.integers(1, 16), st.integers(1, 12),
    st.sampled_from([64, 80, 128, 192, 256]),
)  # fmt: skip


def seconds(form, p, shape, limit, in_group=None):
    """``shape`` is batch, new, past, heads of a group, groups, width; ``in_group`` the heads otherwise."""
    batch, new, past, group, kv_heads, d_head = shape
    heads = in_group or group * kv_heads
    return form.seconds(WORK[form](batch, new, past, heads, kv_heads, d_head, **limit), H100, p)


@pytest.mark.parametrize("form", **NAMED)
@given(data=st.data(), shape=shapes, which=st.integers(0, 4), factor=st.sampled_from([1.0, 1.3, 2.0, 10.0]))
def test_more_work_never_takes_less_time(form, data, shape, which, factor):
    """Batch, new tokens, cached tokens, heads of a group, groups: each alone.

    Except cached tokens of chunked attention, where a query just behind a boundary sees little.
    """
    p = data.draw(within_bounds(form))
    limit = {} if form is ENCODER else data.draw(limits)
    if form is DECODE:
        shape = (shape[0], 1, *shape[2:])
    if form is DECODE and which == 1:
        which = 2
    if "chunk" in limit and which == 2:
        which = 0
    larger = list(shape)
    larger[which] = int(larger[which] * factor) + 1
    assert seconds(form, p, larger, limit) >= seconds(form, p, shape, limit) * (1 - 1e-9)


@pytest.mark.parametrize("form", **NAMED)
@given(data=st.data(), shape=shapes, more=st.integers(1, 12))
def test_more_key_heads_for_as_many_query_heads_never_take_less_time(form, data, shape, more):
    p = data.draw(within_bounds(form))
    batch, new, past, _, kv_heads, d_head = shape
    first, second = (
        seconds(form, p, (batch, 1 if form is DECODE else new, past, 1, n, d_head), {}, in_group=48)
        for n in (kv_heads, kv_heads + more)
    )
    assert second >= first * (1 - 1e-9)


@given(tokens, st.integers(0, 100_000), st.sampled_from([None, 128, 4096]))
def test_tiles_hold_at_least_the_pairs_and_a_window_never_adds_any(new, past, window):
    work, full = prefill(1, new, past, 8, 2, window=window), prefill(1, new, past, 8, 2)
    assert keys_per_query(work) <= causal_keys(work, 100.0) <= causal_keys(full, 100.0) * (1 + 1e-12)


@given(st.floats(1, 1e12), st.floats(1e5, 4e8))
def test_traffic_from_the_cache_is_at_most_five_times_faster(moved, warm):
    assert moved / 5 <= memory_bytes(moved, warm) <= moved * (1 + 1e-12)
    assert memory_bytes(2 * moved, warm) > memory_bytes(moved, warm)


def test_tiles_count_what_a_window_touches():
    work = {"seen": np.array([128, 129, 128]), "past": np.array([127, 128, 128]), "new": 1}
    assert visited_tiles({**work, "window": 0}).tolist() == [1, 2, 1]
    assert visited_tiles({**work, "window": 128}).tolist() == [1, 3, 2]
    assert by_window({**work, "window": 128}, "none", "idle", "cuts").tolist() == ["idle", "cuts", "cuts"]


def test_widths_are_whole_steps_and_other_kernels_serve_the_unusual_ones():
    assert [head_width({"d_head": width, "d_value": width}) for width in (64, 72, 192)] == [64, 96, 192]
    assert head_width({"d_head": 192, "d_value": 128}) == 160
    factors = [width_factor({"d_head": width}, 3.0, 2.0) for width in (64, 128, 192, 256)]
    assert factors == [1.0, 1.0, 3.0, 2.0]


def test_short_decode_is_a_fixed_cost_and_long_decode_reads_the_cache():
    p = START[DECODE]
    short = DECODE.parts(decode(1, 1, 10, 32, 8), H100, p)
    assert short.seconds < 1.5 * short.fixed_s
    long = DECODE.parts(decode(64, 1, 100_000, 32, 8), H100, p)
    assert long.memory_s == pytest.approx(64 * 100_002 * 8 * 256 * 2 / (0.8 * 3.35e12), rel=0.01)


def test_few_new_tokens_over_a_long_cached_prefix_take_about_as_long_as_decode():
    """Idle processors share the cached keys, as in decode, which reads the same bytes."""
    p = {**START[PREFILL], "fixed_s": 1e-5}
    few = PREFILL.parts(prefill(1, 16, 32768, 32, 8), H100, PREFILL.cold(p))
    one = DECODE.parts(decode(1, 1, 32768, 32, 8), H100, DECODE.cold(START[DECODE]))
    assert few.seconds - few.fixed_s < 2 * (one.seconds - one.fixed_s)
    assert few.seconds > 32768 * 8 * 256 * 2 / H100.bandwidth_bytes_per_s


def test_a_cached_prefix_that_fills_the_processors_is_not_shared():
    """With tiles for all of them, the last one visits all its keys: at least as long as without sharing."""
    p = {**START[PREFILL], "tail": 6.0}
    short, long = (PREFILL.seconds(prefill(64, 64, past, 32, 8), H100, p) for past in (0, 64 * 1000))
    block_s = 4.0 * 64 * 64 * 128 * 132 / (0.7 * H100.peak_flops_per_s)
    assert long - short > 6.0 * 1000 * block_s


@pytest.mark.parametrize("form", **NAMED)
def test_no_work_takes_no_more_than_the_fixed_cost(form):
    parts = form.parts(WORK[form](0, 16, 0, 32, 8), H100, START[form])
    assert parts.compute_s >= 0
    assert parts.seconds <= 1e-4


@pytest.mark.parametrize("form", **NAMED)
def test_arrays_give_what_numbers_give(form):
    shapes = [(1, 1, 0, 8, 1, 64), (4, 700, 3000, 48, 8, 192), (256, 128, 127, 64, 4, 256)]
    columns = [np.array(column, dtype=float) for column in zip(*shapes, strict=True)]
    limit = {} if form is ENCODER else {"window": 128}
    together = form.seconds(WORK[form](*columns, **limit), H100, START[form])
    for i, shape in enumerate(shapes):
        alone = form.seconds(WORK[form](*shape, **limit), H100, START[form])
        assert together[i] == pytest.approx(alone)


@pytest.mark.parametrize("window", [None, 128])
@pytest.mark.parametrize("form", **NAMED)
def test_symbols_give_formulas(form, window):
    names = sympy.symbols("B S P H K d", positive=True)
    sizes = (4, 700, 3000, 32, 8, 128)
    limit = {"window": window} if window and form is not ENCODER else {}
    formula = form.seconds(WORK[form](*names, **limit), H100, START[form])
    number = form.seconds(WORK[form](*sizes, **limit), H100, START[form])
    assert float(formula.subs(dict(zip(names, sizes, strict=True)))) == pytest.approx(number)


@pytest.mark.parametrize("form", **NAMED)
def test_a_fit_recovers_what_made_the_points(form):
    rng = np.random.default_rng(3)
    n = 150
    batch, kv_heads = 2.0 ** rng.integers(0, 9, n), 2.0 ** rng.integers(0, 4, n)
    context = 2.0 ** rng.integers(4, 15, n)
    new, past = (np.ones(n), context - 1) if form is DECODE else (context, np.zeros(n))
    heads, d_head = kv_heads * 2.0 ** rng.integers(0, 5, n), rng.choice([64.0, 128.0, 192.0, 256.0], n)
    work = WORK[form](batch, new, past, heads, kv_heads, d_head)
    if form is not ENCODER:
        limit = np.where(rng.random(n) < 0.4, 128.0, new + past)
        work = WORK[form](batch, new, past, heads, kv_heads, d_head, window=limit)
        work["window"] = np.where(limit == 128, 128.0, 0.0)
    true = {p.name: min(1.4 * p.start, 0.9 * p.high) for p in form.parameters}
    exact = form.seconds(work, H100, true)
    found = fitted(form, work, H100, exact * np.exp(rng.normal(0, 0.05, n)))
    assert np.median(np.abs(form.seconds(work, H100, found) / exact - 1)) < 0.02
