"""Rows of latent attention become the operations that the predictor counts."""

import numpy as np
import pytest

from calc.work.latent_attention import LatentAttention
from calc.work.op import Precision, Sequences
from validate.points.mla import decode_mla_op, mla_bmm_op, prefill_mla_op

DEEPSEEK_V3 = LatentAttention(7168, 128, 1536, 512, 128, 64, 128)
PARTS = ("kind", "dtype", "format", "flops", "cache_bytes", "activation_bytes", "weight_bytes")


def rows(**columns):
    size = max(len(value) for value in columns.values() if isinstance(value, list))
    return {
        name: np.array(value if isinstance(value, list) else [value] * size, dtype=object)
        if isinstance(value, str) or isinstance(value[0], str)
        else np.array(value, dtype=float)
        for name, value in columns.items()
    }


def same(measured, predicted, i):
    for part in PARTS:
        value = getattr(measured, part)
        value = value[i] if isinstance(value, np.ndarray) else value
        assert value == getattr(predicted, part), part


@pytest.mark.parametrize(("kv_dtype", "kv_bytes", "fmt"), [("bfloat16", 2, "bf16"), ("fp8", 1, "fp8")])
def test_rows_are_the_operations_of_the_product(kv_dtype, kv_bytes, fmt):
    """Four ranks hold 32 heads each."""
    precision = Precision({"attention": 16}, kv_bytes=kv_bytes, math="bf16", kv_format=fmt)
    table = rows(
        batch=[4.0, 2.0], seq=[700.0, 64.0], past=[0.0, 128.0], heads=[32.0, 32.0], kv_dtype=kv_dtype
    )
    for i, (batch, new, past) in enumerate([(4.0, 700.0, 0.0), (2.0, 64.0, 128.0)]):
        group = Sequences("prefill", batch, new, past)
        ops = [op for op in DEEPSEEK_V3.ops((group,), precision, 4) if op.kind == "prefill_mla"]
        same(prefill_mla_op(table), ops[0], i)
        group = Sequences("decode", batch, 1.0, past)
        ops = [op for op in DEEPSEEK_V3.ops((group,), precision, 4) if op.kind == "decode_mla"]
        same(decode_mla_op(table), ops[0], i)


def test_products_per_head_are_those_that_decode_absorbs():
    precision = Precision({"attention": 16}, kv_bytes=2, math="bf16")
    table = rows(
        m=[16.0, 16.0], heads=[128.0, 128.0], variant=["mla_gen_pre", "mla_gen_post"], dtype="bfloat16"
    )
    ops = DEEPSEEK_V3.ops((Sequences("decode", 16.0, 1.0, 99.0),), precision, 1)
    absorbed = [op for op in ops if op.kind == "bmm"]
    for i, op in enumerate(absorbed):
        same(mla_bmm_op(table), op, i)
    assert mla_bmm_op(table).shape["k"].tolist() == [128, 512]


def test_flops_are_those_of_the_table():
    """Published beside the latencies: 32 heads, 2,048 tokens; and 8 x 1,024 latents."""
    prompt = rows(batch=[1.0], seq=[2048.0], past=[0.0], heads=[32.0], kv_dtype=["bfloat16"])
    assert prefill_mla_op(prompt).flops[0] == pytest.approx(4.297064e10, rel=1e-6)
    token = rows(batch=[8.0], seq=[1.0], past=[1023.0], heads=[32.0], kv_dtype=["bfloat16"])
    assert decode_mla_op(token).flops[0] == pytest.approx(5.704253e8, rel=1e-6)
