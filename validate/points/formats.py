"""Formats as published kernel tables name them, in the names of ``calc``."""

from collections.abc import Mapping

from calc.specs.quantization import weight_format
from calc.work.op import Precision

#: dtype of a table -> weight or cache format
FORMATS = {
    "bfloat16": "bf16",
    "half": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8-block",
    "nvfp4": "nvfp4",
    "int4_wo": "int4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4-mxfp8",
}
#: weight format -> dtype in which the products run
MATH = {
    "bf16": "bf16", "fp8": "fp8", "fp8-block": "fp8", "nvfp4": "fp4", "int4": "bf16", "mxfp4": "bf16",
    "mxfp4-mxfp8": "fp8",
}  # fmt: skip


def weight_bits(name: str) -> float:
    """Return effective bits per weight of a format.

    Examples
    --------
    >>> weight_bits("nvfp4")
    4.5
    """
    return weight_format(name.split("-mxfp8")[0]).bits


def weights_precision(rows: Mapping, role: str) -> Precision:
    """Return the precision of rows of one dtype whose weights all have one role."""
    name = FORMATS[rows["dtype"][0]]
    return Precision(
        bits={role: weight_bits(name)},
        kv_bytes=2,
        math=MATH[name],
        math_by_role={role: MATH[name]},
        formats={role: name},
    )
