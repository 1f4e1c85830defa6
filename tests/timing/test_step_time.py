"""Time of a step: physics, sums, monotony."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc
from calc.timing.calibration import calibration_for
from calc.timing.overheads import load_overheads
from calc.timing.step_time import step_time, timed_op
from calc.work.memory import precision_of
from calc.work.op import Sequences
from calc.work.sharding import Split
from calc.work.step import step_ops

MODELS = calc.model_ids()
#: announced parts may have no 16-bit peak yet (tpu-8i): they are refused, see test_device
DEVICES = [name for name in calc.device_ids() if {"bf16", "fp16"} & set(calc.load_device(name).peaks)]
DTYPES = ["bf16", "fp8", "int4", "nvfp4", "mxfp4", "int8"]


def ops_of(model, groups, tp=1, dtype=None):
    m = calc.load_model(model)
    return step_ops(m, groups, precision_of(m, calc.Deployment(weight_dtype=dtype)), Split(tp))


def seconds(model, device, *groups, tp=1, dtype=None, overheads=None):
    ops = ops_of(model, groups, tp, dtype)
    d = calc.load_device(device)
    layers = calc.load_model(model).n_layers
    return step_time(ops, d, calibration_for(d), overheads or load_overheads("vllm"), 1, layers).seconds


@given(
    model=st.sampled_from(MODELS),
    device=st.sampled_from(DEVICES),
    dtype=st.sampled_from([None, *DTYPES]),
    tp=st.sampled_from([1, 2, 8]),
    batch=st.integers(1, 1024),
    new=st.integers(1, 8192),
    past=st.integers(0, 100_000),
    phase=st.sampled_from(["prefill", "decode"]),
    engine=st.sampled_from([None, *calc.engine_ids()]),
)
def test_no_operation_beats_the_dense_datasheet_roofline(
    model, device, dtype, tp, batch, new, past, phase, engine
):
    d, group = calc.load_device(device), Sequences(phase, batch, new if phase == "prefill" else 1, past)
    for op in ops_of(model, (group,), tp, dtype):
        if op.is_collective:
            continue
        overheads = load_overheads(engine) if engine else None
        row = timed_op(op, d, calibration_for(d), cold=True, overheads=overheads)
        op = row.op  # in the format that the engine prefers
        bound = max(op.flops / d.peak_flops_per_s(op.dtype), op.bytes / d.bandwidth_bytes_per_s)
        assert row.seconds >= op.count * bound * (1 - 1e-12), op.name


@given(
    model=st.sampled_from(MODELS),
    device=st.sampled_from(["h100-sxm", "mi300x", "l40s"]),
    batch=st.integers(1, 500),
    past=st.integers(0, 50_000),
    more=st.integers(1, 5000),
)
def test_a_decode_step_takes_longer_with_more_sequences_and_more_context(model, device, batch, past, more):
    base = seconds(model, device, Sequences("decode", batch, 1, past))
    assert seconds(model, device, Sequences("decode", batch + more, 1, past)) >= base * (1 - 1e-12)
    assert seconds(model, device, Sequences("decode", batch, 1, past + more)) >= base * (1 - 1e-12)


@given(
    model=st.sampled_from(MODELS),
    tokens=st.integers(1, 20_000),
    past=st.integers(0, 20_000),
    more=st.integers(1, 5000),
)
def test_a_prefill_step_takes_longer_with_more_tokens_and_more_past(model, tokens, past, more):
    base = seconds(model, "h100-sxm", Sequences("prefill", 1, tokens, past))
    assert seconds(model, "h100-sxm", Sequences("prefill", 1, tokens + more, past)) >= base * (1 - 1e-12)
    assert seconds(model, "h100-sxm", Sequences("prefill", 1, tokens, past + more)) >= base * (1 - 1e-12)


@given(batch=st.integers(1, 64), past=st.integers(1, 10_000))
def test_fewer_bytes_a_weight_never_take_longer_when_memory_is_the_limit(batch, past):
    group = Sequences("decode", batch, 1, past)
    tables = replace(load_overheads("vllm"), kernels={}, reach={})
    times = [
        seconds("llama-3.1-70b", "h100-sxm", group, dtype=dtype, overheads=tables)
        for dtype in ("int4", "fp8", "bf16")
    ]
    assert times == sorted(times)


def test_fp8_weights_do_not_speed_up_the_math_of_a_device_without_fp8():
    """An A100 has no fp8 units: a long prefill takes as long as in bf16, never less."""
    group, tables = Sequences("prefill", 1, 8192, 0), replace(load_overheads("vllm"), kernels={}, reach={})
    fp8, bf16 = (
        seconds("llama-3.1-70b", "a100-sxm-80gb", group, dtype=dtype, overheads=tables)
        for dtype in ("fp8", "bf16")
    )
    assert fp8 == pytest.approx(bf16, rel=0.01)


@pytest.mark.parametrize("shape", [(), (5,), (5, 3)])
def test_rows_sum_to_the_step_and_shares_by_bound_sum_to_the_row(shape):
    batch = np.full(shape, 8.0) if shape else 8
    groups = (Sequences("decode", batch, 1, 1000), Sequences("prefill", 1, 512, 0))
    d = calc.load_device("h100-sxm")
    duration = step_time(
        ops_of("llama-3.1-8b", groups, tp=2), d, calibration_for(d), load_overheads("vllm"), batch, 32
    )
    assert np.shape(duration.seconds) == shape
    assert np.allclose(sum(row.seconds for row in duration.merged().rows), duration.seconds, rtol=1e-12)
    assert np.allclose(sum(duration.by_bound().values()), duration.seconds, rtol=1e-12)
    for row in duration.rows:
        assert np.allclose(sum(row.by_bound().values()), row.seconds, rtol=1e-9, atol=1e-15), row.name
        assert all(np.all(np.asarray(part) >= -1e-15) for part in row.by_bound().values()), row.name


def test_the_ops_in_time_are_the_ops_of_the_work():
    """Prediction and breakdown use one list: each op appears once, plus the engine's overhead."""
    ops = ops_of("llama-3.1-8b", (Sequences("decode", 1, 1, 10),))
    d = calc.load_device("h100-sxm")
    rows = step_time(ops, d, calibration_for(d), load_overheads("vllm"), 1, 32).rows
    assert [row.name for row in rows] == [*(op.name for op in ops), "engine overhead"]
