"""The plan: budgets, ranges, what the decoders and models ask for; without torch."""

import numpy as np
import pytest

import calc
from calc.work.op import Sequences
from calc.work.sharding import Split
from calc.work.step import step_ops
from validate.acceptance import DECODERS
from validate.plan import budget_seconds, level_of, measuring_seconds, planned_cases, work
from validate.probes import PROBES
from validate.probes.base import Plan, precision
from validate.probes.gemm import model_shapes

#: a processor and a GPU
PLANS = [Plan(), Plan("cuda", 1, 0.2, 2e9, 8e14, 4e12, 8192)]


@pytest.mark.parametrize("text", ["", "5", "x", "-3m", "0s", "nans", "5d"])
def test_a_wrong_budget_is_refused(text):
    with pytest.raises(calc.SpecError, match="--budget"):
        budget_seconds(text)


def test_a_budget_leaves_time_for_the_fit():
    for budget_s in (30, 60, 300, 1800):
        assert 0.8 * budget_s <= measuring_seconds(budget_s) < budget_s


def test_more_time_means_more_cases():
    counts = [len(planned_cases(Plan(level=level))) for level in (0, 1, 2)]
    assert counts == sorted(counts)
    assert [level_of(seconds) for seconds in (60, 300, 1800)] == [0, 1, 2]


@pytest.mark.parametrize("plan", PLANS, ids=["processor", "gpu"])
def test_keys_are_unique_and_calls_short_and_small(plan):
    cases = planned_cases(plan)
    assert len({case.key for case in cases}) == len(cases)
    for case in cases:
        _, _, flops, moved = work(case)
        assert np.isfinite(flops + moved)
        assert flops + moved > 0


@pytest.mark.parametrize("plan", PLANS, ids=["processor", "gpu"])
def test_what_decoders_ask_lies_in_the_planned_range(plan):
    """The prototype was 45-126 % off on prompts of experts beyond its calibrated token count."""
    ranges: dict = {}
    for probe in PROBES.values():
        for case in probe.cases(plan):
            op = probe.op(case.sizes, case.dtype)
            ends = ranges.setdefault((op.kind, op.format), {})
            for name, size in (op.shape or {"bytes": op.bytes}).items():
                low, high = ends.get(name, (np.inf, -np.inf))
                ends[name] = min(low, float(size)), max(high, float(size))
    for decoder in DECODERS.values():
        for case in decoder.cases(plan):
            for op in decoder.ops(case.sizes):
                if op.is_collective:
                    continue
                for name, size in (op.shape or {"bytes": op.bytes}).items():
                    low, high = ranges[op.kind, op.format][name]
                    assert low / 2 <= float(size) <= 2 * high, (case.key, op.name, name, size, low, high)


@pytest.mark.parametrize("plan", PLANS, ids=["processor", "gpu"])
@pytest.mark.parametrize("tp", [1, 8])
def test_what_a_latent_model_asks_lies_in_the_planned_range(plan, tp):
    model = calc.load_model("deepseek-v3")
    groups = (Sequences("prefill", 1, plan.tokens, 0), Sequences("prefill", 4, 64, 256))
    groups += (Sequences("decode", 4, 1, plan.tokens),)
    for group in groups:
        ops = step_ops(model, (group,), precision("bf16"), Split(tp=tp))
        (core,) = {op.kind: op for op in ops if op.kind.endswith("_mla")}.values()
        probe = PROBES["mla_prefill" if group.phase == "prefill" else "mla_decode"]
        planned = [probe.op(case.sizes, "bf16").shape for case in probe.cases(plan)]
        for name, size in core.shape.items():
            sizes = [float(shape[name]) for shape in planned]
            assert min(sizes) / 2 <= float(size) <= 2 * max(sizes), (name, size)


def test_a_latent_probe_has_the_work_that_a_model_asks():
    model = calc.load_model("deepseek-v3")
    ops = step_ops(model, (Sequences("prefill", 2, 96, 32),), precision("bf16"))
    asked = next(op for op in ops if op.kind == "prefill_mla")
    probed = PROBES["mla_prefill"].op({"batch": 2, "new": 96, "past": 32, "heads": 128}, "bf16")
    assert (probed.flops, probed.bytes, probed.format) == (asked.flops, asked.bytes, asked.format)
    assert dict(probed.shape) == dict(asked.shape)


def test_pages_have_the_work_of_decode_attention_and_a_format_of_their_own():
    sizes = {"batch": 4, "past": 100, "heads": 8, "kv_heads": 2, "d_head": 64}
    paged = PROBES["paged_decode"].op({**sizes, "page": 16}, "bf16")
    plain = PROBES["decode"].op({**sizes, "new": 1, "window": 0}, "bf16")
    assert (paged.kind, paged.flops, paged.bytes) == (plain.kind, plain.flops, plain.bytes)
    assert (plain.format, paged.format) == ("bf16", "bf16-paged")


def test_new_probes_leave_most_of_the_plan_to_the_others():
    for level in (0, 1, 2):
        cases = planned_cases(Plan(level=level))
        new = [case for case in cases if case.probe in ("paged_decode", "mla_prefill")]
        assert 24 <= len(new) <= 0.1 * len(cases)


def test_the_shapes_of_a_named_model_are_measured():
    model = calc.load_model("llama-3.1-8b")
    plan = Plan(models=(model,), case_bytes=2e9, call_s=2.0)
    shapes = {(case.sizes["n"], case.sizes["k"]) for case in planned_cases(plan, ["gemm"], ["bf16"])}
    assert set(model_shapes(plan)) <= shapes
    heads = {(c.sizes["heads"], c.sizes["kv_heads"]) for c in planned_cases(plan, ["decode"])}
    assert (32, 8) in heads


def test_arrays_of_sizes_give_the_work_of_each_case():
    for probe in PROBES.values():
        cases = [case for case in probe.cases(Plan()) if case.dtype == probe.dtypes[0]][:6]
        columns = {n: np.array([float(case.sizes[n]) for case in cases]) for n in cases[0].sizes}
        together = probe.op(columns, probe.dtypes[0])
        for i, case in enumerate(cases):
            alone = probe.op(case.sizes, case.dtype)
            assert np.broadcast_to(together.flops, len(cases))[i] == pytest.approx(alone.flops)
            assert np.broadcast_to(together.bytes, len(cases))[i] == pytest.approx(alone.bytes)


def test_an_unknown_probe_is_refused():
    with pytest.raises(calc.SpecError, match="did you mean 'gemm'"):
        planned_cases(Plan(), ["gem"])
