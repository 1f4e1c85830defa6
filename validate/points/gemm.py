"""Matrix products: rows with m, n, k."""

from collections.abc import Mapping

from calc.work.op import Op, Precision, gemm
from validate.points.formats import FORMATS, weight_bits


def gemm_op(rows: Mapping) -> Op:
    """Return the Op of rows of one dtype: ``m x k`` activations in 16 bits times a ``k x n`` weight."""
    name = FORMATS[rows["dtype"][0]]
    precision = Precision(
        bits={"feedforward": weight_bits(name)},
        kv_bytes=2,
        math=MATH[name],
        math_by_role={"feedforward": MATH[name]},
        formats={"feedforward": name},
    )
    return gemm("gemm", "feedforward", rows["m"], rows["n"], rows["k"], precision)


#: dtype in which a product with such weights runs
MATH = {"bf16": "bf16", "fp8": "fp8", "fp8-block": "fp8", "nvfp4": "fp4"}
