"""Rows of attention become the operations that the predictor counts."""

import numpy as np
import pytest

from calc.timing.forms.decode import DECODE
from calc.timing.forms.prefill import ENCODER, PREFILL
from calc.work.encoder_decoder import EncoderAttention
from calc.work.grouped_query import GroupedQuery
from calc.work.op import Precision, Sequences
from validate.points.attention import decode_op, encoder_op, prefill_op

PARTS = ("name", "kind", "dtype", "format", "flops", "cache_bytes", "activation_bytes", "items")
#: batch, seq, past, heads, kv_heads, head_dim, window
ROWS = [
    (4, 700, 0, 32, 8, 128, 0),
    (1, 16, 3000, 48, 8, 64, 128),
    (256, 1, 0, 8, 1, 256, 1024),
    (2, 100, 28, 12, 12, 128, 128),
]
FP8 = Precision(bits=dict.fromkeys(("attention",), 16), kv_bytes=1, math="bf16", kv_format="fp8")
BF16 = Precision(bits=dict.fromkeys(("attention",), 16), kv_bytes=2, math="bf16")


def table(rows, kv_dtype="bfloat16"):
    names = ("batch", "seq", "past", "heads", "kv_heads", "head_dim", "window")
    columns = {
        name: np.array(values, dtype=float)
        for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }
    return {**columns, "kv_dtype": np.array([kv_dtype] * len(rows), dtype=object)}


def layer(heads, kv_heads, width, window, kind=GroupedQuery):
    return kind(4096, heads, kv_heads, width, window=window or None)


def same(measured, predicted, i):
    for part in PARTS:
        value = getattr(measured, part)
        value = value[i] if isinstance(value, np.ndarray) else value
        assert value == getattr(predicted, part), part
    for name, value in measured.shape.items():
        assert np.broadcast_to(value, (len(ROWS),))[i] == predicted.shape[name], name


@pytest.mark.parametrize(("kv_dtype", "precision"), [("bfloat16", BF16), ("fp8", FP8)])
@pytest.mark.parametrize(("phase", "build"), [("prefill", prefill_op), ("decode", decode_op)])
def test_rows_are_the_operations_of_the_product(phase, build, kv_dtype, precision):
    measured = build(table(ROWS, kv_dtype))
    for i, (batch, new, past, heads, kv_heads, width, window) in enumerate(ROWS):
        group = Sequences(phase, batch, new if phase == "prefill" else 1, past)
        ops = layer(heads, kv_heads, width, window).ops((group,), precision, 1)
        (core,) = [op for op in ops if op.kind == f"{phase}_attention"]
        same(measured, core, i)


def test_rows_of_an_encoder_are_its_operations():
    measured = encoder_op(table(ROWS))
    for i, (batch, new, _, heads, kv_heads, width, _) in enumerate(ROWS):
        ops = layer(heads, kv_heads, width, 0, EncoderAttention).ops(
            (Sequences("prefill", batch, new, 0),), BF16, 1
        )
        (core,) = [op for op in ops if op.kind == "encoder_attention"]
        same(measured, core, i)


def test_flops_are_those_of_the_table():
    """32 heads of 128: 2,048 tokens causally, and one token after 1,023 cached ones, 8 times."""
    assert prefill_op(table([(1, 2048, 0, 32, 8, 128, 0)])).flops[0] == 4 * 32 * 128 * 2048 * 2049 / 2
    assert decode_op(table([(8, 1, 1023, 32, 8, 128, 0)])).flops[0] == 4 * 8 * 32 * 128 * 1024
    assert encoder_op(table([(2, 1500, 0, 20, 20, 64, 0)])).flops[0] == 4 * 2 * 20 * 64 * 1500**2


@pytest.mark.parametrize(
    ("form", "build"), [(PREFILL, prefill_op), (DECODE, decode_op), (ENCODER, encoder_op)]
)
def test_the_forms_take_their_sizes_from_these_operations(form, build):
    from calc.timing.forms.base import Ceilings

    op, start = build(table(ROWS)), {p.name: p.start for p in form.parameters}
    work = {**op.shape, "flops": op.flops, "bytes": op.bytes}
    seconds = form.seconds(work, Ceilings(989e12, 3.35e12, 132), start)
    assert seconds.shape == (len(ROWS),)
    assert (seconds > 0).all()
