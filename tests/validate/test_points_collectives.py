"""Rows of collectives become the operations that the predictor counts."""

import numpy as np
import pytest

from calc.work.op import Precision, allreduce
from validate.points.collectives import collective_op, exchange_op

BF16 = Precision({}, kv_bytes=2, math="bf16")


def table(op, kernel="NCCL", **columns):
    texts = {"op": op, "kernel": kernel} | {k: v for k, v in columns.items() if isinstance(v, str)}
    numbers = {k: np.array(v, dtype=float) for k, v in columns.items() if not isinstance(v, str)}
    size = len(next(iter(numbers.values())))
    return numbers | {k: np.array([v] * size, dtype=object) for k, v in texts.items()}


@pytest.mark.parametrize("kind", ["allreduce", "custom_allreduce"])
def test_a_sum_is_the_operation_of_the_product(kind):
    measured = collective_op(table(kind, gpus=[2, 8], elems=[256, 1 << 20]))
    for i, (world, elements) in enumerate([(2, 256), (8, 1 << 20)]):
        op = allreduce("sum", elements, world, BF16)
        assert measured.kind == kind
        assert measured.comm_bytes[i] == op.comm_bytes
        assert (measured.shape["world"][i], measured.shape["rounds"]) == (world, op.shape["rounds"])


def test_a_gather_counts_what_results():
    """NCCL's tables count it so, oneCCL's what one device contributes."""
    nccl = collective_op(table("allgather", gpus=[4], elems=[1000]))
    one = collective_op(table("allgather", "oneCCL", gpus=[4], elems=[250]))
    assert nccl.comm_bytes[0] == one.comm_bytes[0] == 2000
    assert nccl.shape["rounds"] == 1


@pytest.mark.parametrize("kind", ["reduce_scatter", "alltoall"])
def test_others_go_round_once(kind):
    op = collective_op(table(kind, gpus=[8], elems=[1024]))
    assert (op.kind, op.shape["rounds"], op.comm_bytes[0]) == (kind, 1, 2048)


def test_low_latency_kernels_send_a_row_for_each_expert():
    columns = {"gpus": [8], "m": [128], "topk": [8], "hidden": [7168], "experts": [256]}
    low = exchange_op(table("deepep_ll_dispatch", "deepep", dtype="fp8", variant="", **columns))
    high = exchange_op(
        table("moe_a2a", "deepep", dtype="bfloat16", variant="deepep_ht/combine", **columns)
    )  # fmt: skip
    assert low.comm_bytes[0] == pytest.approx(128 * 8 * 7168 * (1 + 4 / 128))
    assert high.comm_bytes[0] == pytest.approx(128 * 5.25 * 7168 * 2, rel=0.01)
    assert (low.kind, high.kind) == ("deepep_ll_dispatch", "deepep_ht_combine")
