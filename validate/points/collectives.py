"""Collectives and exchanges with experts: rows with gpus, elems; or tokens, topk, experts."""

from collections.abc import Mapping

import numpy as np

from calc.work.communication import FP8_ROW_BYTES, collective, expert_exchange
from calc.work.expert_load import expert_ranks
from calc.work.op import Op, Precision

_PRECISION = Precision(bits={}, kv_bytes=2, math="bf16")
#: dtype of a table -> bytes per element sent
_ROW_BYTES = {
    "bfloat16": 2.0, "default": 2.0, "fp8": FP8_ROW_BYTES, "nvfp4": 0.5 + 1 / 16, "fp4": 0.5 + 1 / 16,
}  # fmt: skip


def collective_op(rows: Mapping) -> Op:
    """Return the Op of rows of one collective: ``elems`` elements of 2 bytes over ``gpus``.

    oneCCL counts the elements that one device contributes to an all-gather, NCCL those that
    result; here those that result.
    """
    kind, world, elements = str(rows["op"][0]), rows["gpus"], rows["elems"]
    if kind == "allgather":
        elements = np.where(np.asarray(rows["kernel"]).astype(str) == "oneCCL", world, 1.0) * elements
    return collective(kind, kind, elements, world, _PRECISION)


def exchange_op(rows: Mapping) -> Op:
    """Return the Op of rows of one kernel and dtype that sends ``m`` tokens to experts or back.

    Low-latency kernels send a row for each expert, the others one for each device visited.
    """
    variant = str(rows["variant"][0]) if "variant" in rows else ""
    name = str(rows["op"][0]) if not variant else variant.replace("/", "_")
    world, top_k = rows["gpus"], rows["topk"]
    copies = top_k if "_ll" in name or "generation" in name else expert_ranks(top_k, world)
    row_bytes = _ROW_BYTES[str(rows["dtype"][0])]
    return expert_exchange(
        name, name, rows["m"], copies, rows["hidden"], row_bytes, rows["experts"], world
    )  # fmt: skip
