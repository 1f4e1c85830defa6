"""Matrix products: rows with m, n, k."""

from collections.abc import Mapping

from calc.work.op import Op, gemm
from validate.points.formats import weights_precision


def gemm_op(rows: Mapping) -> Op:
    """Return the Op of rows of one dtype: ``m x k`` activations in 16 bits times a ``k x n`` weight."""
    precision = weights_precision(rows, "feedforward")
    return gemm("gemm", "feedforward", rows["m"], rows["n"], rows["k"], precision)
