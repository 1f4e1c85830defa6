"""Forms of latent attention: they grow with the work, take symbols and arrays, and can be recovered."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.timing.forms.base import Ceilings
from calc.timing.forms.mla import DECODE_MLA, PREFILL_MLA, latent_reads, padded_rows, tiled_pairs
from calc.work.causal import causal_pairs
from calc.work.latent_attention import decode_core, prefill_core
from calc.work.op import Precision, Sequences
from validate.fitting import fitted

H100 = Ceilings(989e12, 3.35e12, 132)
BF16 = Precision(bits={"attention": 16}, kv_bytes=2, math="bf16")
START = {form: {p.name: p.start for p in form.parameters} for form in (PREFILL_MLA, DECODE_MLA)}
#: parameters at either end of their bounds, and where fits start
SETS = st.sampled_from(["low", "start", "high"])


def prefill(batch, new, past, heads, limit=None):
    op = prefill_core("mla", Sequences("prefill", batch, new, past), heads, 512, (128, 64, 128), BF16, limit)
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}


def decode(batch, past, heads):
    op = decode_core("mla", Sequences("decode", batch, 1, past), past + 1, heads, 512, 64, BF16)
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}


def parameters(form, end):
    return {p.name: getattr(p, end) for p in form.parameters}


sizes = st.integers(1, 20000)


@given(sizes, sizes, st.integers(1, 64), st.sampled_from([1, 16, 32, 64, 128]), st.integers(0, 3), SETS)
def test_more_prefill_never_takes_less_time(new, past, batch, heads, which, end):
    smaller = [new, past, batch]
    larger = list(smaller)
    if which < 3:
        larger[which] += max(1, larger[which] // 3)
    first, second = (
        PREFILL_MLA.seconds(prefill(b, n, p, heads), H100, parameters(PREFILL_MLA, end))
        for n, p, b in (smaller, larger)
    )
    assert second >= first * (1 - 1e-12)


def test_idle_processors_share_the_keys_cached_before():
    """One tile of each of 16 heads on 132 processors: 32k cached keys cost about an eighth of one row."""
    p = {**START[PREFILL_MLA], "tail": 1.0, "balance": 12.0}
    rate = p["e_compute"] * H100.peak_flops_per_s
    row_s = 128 * 32768 * 2 * (192 + 128) * 132 / rate
    assert PREFILL_MLA.parts(prefill(1, 16, 32768, 16), H100, p).compute_s < 0.2 * row_s
    assert PREFILL_MLA.parts(prefill(16, 16, 32768, 16), H100, p).compute_s > row_s


@given(sizes, st.integers(1, 1000))
def test_more_prefill_never_takes_less_time_where_queries_see_few_keys(new, more):
    first, second = (
        PREFILL_MLA.seconds(prefill(1, n, 0, 16, 2048), H100, START[PREFILL_MLA]) for n in (new, new + more)
    )
    assert second >= first * (1 - 1e-12)


@given(sizes, st.integers(1, 512), st.sampled_from([1, 16, 32, 64, 128]), st.booleans(), SETS)
def test_more_decode_never_takes_less_time(past, batch, heads, of_batch, end):
    p = parameters(DECODE_MLA, end)
    first = DECODE_MLA.seconds(decode(batch, past, heads), H100, p)
    more = (batch + 1, past) if of_batch else (batch, 2 * past)
    assert DECODE_MLA.seconds(decode(*more, heads), H100, p) >= first * (1 - 1e-12)


@given(sizes, sizes)
def test_whole_tiles_hold_at_least_the_pairs(new, past):
    assert tiled_pairs(new, past) >= causal_pairs(new, past)
    assert tiled_pairs(1 << 20, past) == pytest.approx(causal_pairs(1 << 20, past), rel=1e-3)


@given(st.integers(1, 1000), st.floats(0.01, 1))
def test_padding_adds_rows_and_never_reads_less_than_once(rows, weight):
    assert padded_rows(rows, weight) >= rows * (1 - 1e-12)
    assert latent_reads(rows, weight) >= 1


@pytest.mark.parametrize("form", [PREFILL_MLA, DECODE_MLA])
def test_no_prediction_beats_the_roofline(form):
    for work in (prefill(4, 4096, 0, 16), prefill(64, 128, 0, 128), prefill(1, 1, 9000, 8)):
        work = {**work, **decode(64, 8000, 64), "flops": work["flops"], "bytes": work["bytes"]}
        least = max(work["flops"] / H100.peak_flops_per_s, work["bytes"] / H100.bandwidth_bytes_per_s)
        assert form.seconds(work, H100, parameters(form, "high")) >= least


def test_arrays_give_what_numbers_give():
    batch, new, heads = np.array([1, 4, 256]), np.array([1, 700, 128]), np.array([128.0, 16.0, 2.0])
    together = PREFILL_MLA.seconds(prefill(batch, new, 0 * new, heads), H100, START[PREFILL_MLA])
    read = DECODE_MLA.seconds(decode(batch, new, heads), H100, START[DECODE_MLA])
    for i, case in enumerate(zip(batch.tolist(), new.tolist(), heads.tolist(), strict=True)):
        b, n, h = case
        alone = PREFILL_MLA.seconds(prefill(b, n, 0, h), H100, START[PREFILL_MLA])
        assert together[i] == pytest.approx(alone)
        assert read[i] == pytest.approx(DECODE_MLA.seconds(decode(b, n, h), H100, START[DECODE_MLA]))


def test_symbols_give_formulas():
    batch, tokens, heads = sympy.symbols("B S H", positive=True)
    values = {batch: 4, tokens: 700, heads: 16}
    formula = PREFILL_MLA.seconds(prefill(batch, tokens, 0, heads), H100, START[PREFILL_MLA])
    number = PREFILL_MLA.seconds(prefill(4, 700, 0, 16), H100, START[PREFILL_MLA])
    assert float(formula.subs(values)) == pytest.approx(number)
    formula = DECODE_MLA.seconds(decode(batch, tokens, heads), H100, START[DECODE_MLA])
    number = DECODE_MLA.seconds(decode(4, 700, 16), H100, START[DECODE_MLA])
    assert float(formula.subs(values)) == pytest.approx(number)


@pytest.mark.parametrize("form", [PREFILL_MLA, DECODE_MLA], ids=lambda form: form.name)
def test_a_fit_recovers_what_made_the_points(form):
    rng = np.random.default_rng(3)
    batch, tokens = 2.0 ** rng.integers(0, 9, 80), 2.0 ** rng.integers(4, 16, 80)
    heads = 2.0 ** rng.integers(0, 8, 80)
    work = prefill(batch, tokens, 0 * tokens, heads) if form is PREFILL_MLA else decode(batch, tokens, heads)
    true = {p.name: min(1.5 * p.start, p.high) for p in form.parameters}
    seconds = form.seconds(work, H100, true)
    found = form.seconds(work, H100, fitted(form, work, H100, seconds * np.exp(rng.normal(0, 0.01, 80))))
    assert np.median(np.abs(found / seconds - 1)) < 0.01
