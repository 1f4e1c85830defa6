"""Measured layers of experts become the predictor's own operation."""

import numpy as np
import pytest

from calc.specs.model import ROLES
from calc.work.expert_load import even_load, expert_load
from calc.work.feedforward import MixtureOfExperts
from calc.work.op import Precision, Sequences
from calc.work.sharding import Split
from validate.points.formats import weight_bits
from validate.points.moe import load_of, matrices, moe_op


def rows(**columns):
    """Two rows of Qwen3-235B-A22B unless told otherwise."""
    base = {
        "dtype": ["bfloat16"] * 2, "kernel": ["any"] * 2, "variant": ["balanced", "power_law_1.2"],
        "m": [16, 4096], "hidden": [4096, 4096], "inter": [1536, 1536], "topk": [8, 8],
        "experts": [128, 128], "tp": [2, 1], "ep": [1, 16],
    }  # fmt: skip
    return {name: np.array(value) for name, value in {**base, **columns}.items()}


def test_a_row_of_uniform_load_is_the_operation_of_the_model():
    part = MixtureOfExperts(4096, 1536, n_experts=128, top_k=8)
    precision = Precision(bits=dict.fromkeys(ROLES, 16), kv_bytes=2, math="bf16")
    group = (Sequences("prefill", 1, 4096.0, 0),)
    mine = next(op for op in part.ops(group, precision, Split(tp=16, ep=16), skew=1.2) if op.kind == "moe")
    measured = moe_op(rows())
    for name in ("flops", "weight_bytes", "activation_bytes", "items"):
        assert getattr(measured, name)[1] == getattr(mine, name)
    assert measured.shape.keys() == mine.shape.keys()
    for name, size in measured.shape.items():
        assert np.broadcast_to(size, 2)[1] == mine.shape[name], name


def test_load_follows_the_variant():
    load = load_of(rows())
    even, law = even_load(16, 128, 8, 1), expert_load(4096, 128, 8, 16, 1.2)
    assert load.rows.tolist() == pytest.approx([even.rows, law.rows])
    assert load.hit.tolist() == pytest.approx([even.hit, law.hit])


def test_weights_are_those_of_the_experts_hit_cut_by_tensor_parallelism():
    op = moe_op(rows())
    assert op.weight_bytes[0] == 2 * 128 * 3 * 4096 * 768
    assert op.flops[0] == 2 * 16 * 8 * 3 * 4096 * 768


def test_experts_without_a_gate_have_two_matrices_except_where_a_kernel_always_gates():
    plain = {"hidden": [2688] * 2, "inter": [1856] * 2, "topk": [6] * 2, "experts": [128] * 2}
    assert matrices(rows(**plain, kernel=["vllm_fused_moe", "other"])).tolist() == [3, 2]
    assert matrices(rows()).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("dtype", "math", "bits"),
    [
        ("bfloat16", "bf16", 16),
        ("fp8", "fp8", 8),
        ("fp8_block", "fp8", weight_bits("fp8-block")),
        ("int4_wo", "bf16", weight_bits("int4")),
        ("nvfp4", "fp4", 4.5),
        ("w4a16_mxfp4", "bf16", 4.25),
        ("w4a8_mxfp4_mxfp8", "fp8", 4.25),
    ],
)
def test_every_dtype_of_the_tables_is_known(dtype, math, bits):
    op = moe_op(rows(dtype=[dtype] * 2))
    assert op.kind == "moe"
    assert op.dtype == math
    assert op.weight_bytes[0] == pytest.approx(bits / 8 * 128 * 3 * 4096 * 768)


def test_all_rows_make_one_operation():
    op = moe_op(rows())
    assert np.shape(op.flops) == np.shape(op.bytes) == np.shape(op.shape["hit"]) == (2,)
