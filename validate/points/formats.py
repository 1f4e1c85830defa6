"""Formats as published kernel tables name them, in the names of ``calc``."""

from calc.specs.quantization import weight_format

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


def weight_bits(name: str) -> float:
    """Return effective bits per weight of a format.

    Examples
    --------
    >>> weight_bits("nvfp4")
    4.5
    """
    return weight_format(name.split("-mxfp8")[0]).bits
