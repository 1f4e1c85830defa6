"""The form of linear attention's kernels."""

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from calc.timing.forms.base import Ceilings
from calc.timing.forms.linear import LINEAR
from calc.work.linear_kernels import StateHeads, chunk_scan, convolution, recurrent_update
from calc.work.op import Precision
from validate.fitting import fitted

H100 = Ceilings(989e12, 3.35e12, 132)
BF16 = Precision(bits={}, kv_bytes=2, math="bf16")
START = {p.name: p.start for p in LINEAR.parameters}


def work_of(kind, batch, new, heads):
    if kind.startswith("conv"):
        phase = "decode" if kind == "conv1d_update" else "prefill"
        op = convolution(kind, phase, batch, new, 256 * heads, 4, BF16)
    else:
        rule = recurrent_update if kind == "recurrent_update" else chunk_scan
        op = rule(kind, batch, new, StateHeads(heads / 2, heads, 128, 128), BF16)
    assert op.kind == kind
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}


kinds = st.sampled_from(["conv1d_update", "conv1d", "recurrent_update", "chunk_scan"])


@given(kinds, st.integers(1, 512), st.integers(1, 20000), st.integers(1, 64), st.integers(0, 2))
def test_more_work_never_takes_less_time(kind, batch, new, heads, which):
    larger = [batch, new, heads]
    larger[which] += 1 + larger[which] // 4
    for end in ("low", "start", "high"):
        p = {each.name: getattr(each, end) for each in LINEAR.parameters}
        first, second = (
            LINEAR.seconds(work_of(kind, *case), H100, p) for case in ((batch, new, heads), larger)
        )
        assert second >= first * (1 - 1e-12)


def test_chunks_of_one_sequence_wait_for_each_other():
    """Twice the tokens of one sequence take twice the steps, twice the sequences no more steps."""
    p = {**START, "per_step_s": 3e-6}
    once, longer, wider = (
        LINEAR.seconds(work_of("chunk_scan", *case), H100, p)
        for case in ((1, 32768, 4), (1, 65536, 4), (2, 32768, 4))
    )
    assert longer == pytest.approx(2 * once, rel=0.05)
    assert wider < 1.1 * once


def test_an_update_of_many_states_streams_them():
    work = work_of("recurrent_update", 1024, 1, 32)
    p = {**START, "e_memory": 0.9, "per_item_s": 1e-7}
    assert LINEAR.seconds(work, H100, p) == pytest.approx(work["bytes"] / (0.9 * 3.35e12), rel=0.1)


@pytest.mark.parametrize("kind", ["conv1d_update", "conv1d", "recurrent_update", "chunk_scan"])
def test_no_prediction_beats_the_roofline(kind):
    best = {p.name: p.high if p.name.startswith(("e_", "overlap")) else p.low for p in LINEAR.parameters}
    work = work_of(kind, 64, 1 if kind.endswith("update") else 4096, 32)
    least = max(work["flops"] / H100.peak_flops_per_s, work["bytes"] / H100.bandwidth_bytes_per_s)
    assert LINEAR.seconds(work, H100, LINEAR.cold(best)) >= least * (1 - 1e-3)


def test_an_update_that_fits_the_own_cache_is_bounded_by_it_in_benchmarks_and_by_memory_in_steps():
    work = work_of("conv1d_update", 512, 1, 32)
    p = {**START, "fixed_s": 5e-7, "per_item_s": 1e-10, "per_step_s": 1e-9, "e_memory": 1.0}
    least = work["bytes"] / H100.bandwidth_bytes_per_s
    warm, cold = (LINEAR.seconds(work, H100, each) for each in ({**p, "warm_bytes": 4e8}, LINEAR.cold(p)))
    assert least / 5 <= warm < 0.4 * least
    assert cold >= least


def test_arrays_give_what_numbers_give_and_symbols_their_formula():
    batch, new, heads = np.array([1.0, 300.0]), np.array([100.0, 64.0]), np.array([2.0, 32.0])
    together = LINEAR.seconds(work_of("chunk_scan", batch, new, heads), H100, START)
    b, s, h = sympy.symbols("B S H", positive=True)
    formula = LINEAR.seconds(work_of("chunk_scan", b, s, h), H100, START)
    for i, case in enumerate(zip(batch.tolist(), new.tolist(), heads.tolist(), strict=True)):
        alone = LINEAR.seconds(work_of("chunk_scan", *case), H100, START)
        assert together[i] == pytest.approx(alone)
        assert float(formula.subs(dict(zip((b, s, h), case, strict=True)))) == pytest.approx(alone)


@pytest.mark.parametrize("kind", ["conv1d_update", "conv1d", "recurrent_update", "chunk_scan"])
def test_a_fit_recovers_what_made_the_points(kind):
    rng = np.random.default_rng(5)
    batch, heads = 2.0 ** rng.integers(0, 9, 60), 2.0 ** rng.integers(1, 7, 60)
    new = np.ones(60) if kind.endswith("update") else 2.0 ** rng.integers(0, 15, 60)
    work = work_of(kind, batch, new, heads)
    true = {**START, "fixed_s": 7e-6, "e_memory": 0.6, "per_step_s": 3e-6}
    seconds = LINEAR.seconds(work, H100, true)
    found = LINEAR.seconds(work, H100, fitted(LINEAR, work, H100, seconds * np.exp(rng.normal(0, 0.01, 60))))
    assert np.median(np.abs(found / seconds - 1)) < 0.01
