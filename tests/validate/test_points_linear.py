"""Rows of linear attention become the operations that the predictor counts."""

import numpy as np
import pytest

from calc.work.linear_attention import GatedDeltaNet
from calc.work.mamba import Mamba2
from calc.work.op import Precision, Sequences
from validate.points.linear import linear_op

BF16 = Precision({"attention": 16}, kv_bytes=2, math="bf16")
QWEN3_NEXT = GatedDeltaNet(2048, 16, 32, 128, 128, 4)
NEMOTRON_H = Mamba2(4096, 128, 64, 128, 8, 4)
KERNELS = {
    "causal_conv1d_update": ("decode", "conv1d_update"),
    "causal_conv1d_fn": ("prefill", "conv1d"),
    "fused_recurrent_gated_delta_rule_packed_decode": ("decode", "recurrent_update"),
    "chunk_gated_delta_rule_flashinfer": ("prefill", "chunk_scan"),
}


def table(kernel, heads, kv_heads, head_dim, new):
    columns = {"batch": 8.0, "seq": new, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
    return {"kernel": np.array([kernel], dtype=object)} | {k: np.array([v]) for k, v in columns.items()}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("tp", [1, 4])
def test_rows_are_the_operations_of_the_product(kernel, tp):
    phase, kind = KERNELS[kernel]
    new = 1.0 if phase == "decode" else 1000.0
    measured = linear_op(table(kernel, 32.0 / tp, 16.0 / tp, 128.0, new))
    (op,) = [o for o in QWEN3_NEXT.ops((Sequences(phase, 8.0, new, 0.0),), BF16, tp) if o.kind == kind]
    for part in ("kind", "dtype", "flops", "cache_bytes", "activation_bytes", "weight_bytes"):
        assert np.all(getattr(measured, part) == getattr(op, part)), part
    assert {name: float(np.max(size)) for name, size in measured.shape.items()} == pytest.approx(op.shape)


def test_a_convolution_without_key_heads_is_that_of_mamba_2():
    measured = linear_op(table("causal_conv1d_fn", 128.0, np.nan, 64.0, 100.0))
    ops = NEMOTRON_H.ops((Sequences("prefill", 8.0, 100.0, 0.0),), BF16, 1)
    (op,) = [o for o in ops if o.kind == "conv1d"]
    assert measured.bytes == op.bytes


def test_sglangs_convolution_is_counted_at_the_width_it_moves():
    """Its measured times are the same for 16 to 64 heads, so the heads it names are not what it ran."""
    rows = [table("causal_conv1d_fn", heads, 16.0, 128.0, 100.0) for heads in (16.0, 64.0)]
    few, many = (linear_op(row | {"engine": np.array(["sglang"], dtype=object)}) for row in rows)
    assert few.bytes == many.bytes
    assert few.shape["channels"] == 2048


def test_a_rank_of_mamba_2_holds_its_share_of_the_groups():
    nano = Mamba2(2688, 64, 64, 128, 8, 4)
    measured = linear_op(table("causal_conv1d_fn", 16.0, np.nan, 64.0, 100.0))
    ops = nano.ops((Sequences("prefill", 8.0, 100.0, 0.0),), BF16, 4)
    (op,) = [o for o in ops if o.kind == "conv1d"]
    assert measured.shape["channels"] == op.shape["channels"] == 16 * 64 + 2 * 2 * 128
