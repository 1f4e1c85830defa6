"""Number formats: bits per weight, which module classes they leave alone, and math dtype."""

from collections.abc import Mapping
from dataclasses import dataclass

from calc.specs.errors import unknown_name

#: module classes that quantised checkpoints usually leave in 16 bits
USUALLY_KEPT = ("embedding", "lm_head", "norm", "bias", "router", "vision", "mtp")


@dataclass(frozen=True)
class WeightFormat:
    """A weight format.

    ``bits`` are effective bits per quantised weight, block scales included; ``kept`` the
    module classes left in 16 bits; ``math`` the dtype in which matrix products run.
    """

    name: str
    bits: float
    math: str
    kept: tuple[str, ...] = USUALLY_KEPT
    note: str = ""


def _formats() -> dict[str, WeightFormat]:
    rows = (
        WeightFormat("fp32", 32, "fp32", kept=()),
        WeightFormat("bf16", 16, "bf16", kept=()),
        WeightFormat("fp16", 16, "fp16", kept=()),
        WeightFormat("fp8", 8, "fp8", note="per-tensor or per-channel scales, under 0.01 bit"),
        WeightFormat("fp8-block", 8 + 32 / 128**2, "fp8", note="fp32 scale per 128x128 block"),
        WeightFormat("int8", 8, "int8", note="per-channel scales, under 0.01 bit"),
        WeightFormat("int4", 4 + 16 / 128, "bf16", note="GPTQ symmetric, groups of 128, fp16 scale"),
        WeightFormat("int4-awq", 4 + 16 / 128 + 4 / 128, "bf16", note="AWQ, groups of 128, scale and zero"),
        WeightFormat("int4-g32", 4 + 16 / 32, "bf16", note="groups of 32, 16-bit scale"),
        WeightFormat("mxfp4", 4 + 8 / 32, "bf16", note="blocks of 32, 8-bit scale"),
        WeightFormat("nvfp4", 4 + 8 / 16, "fp4", note="blocks of 16, fp8 scale"),
        WeightFormat("q4_k_m", 4.83, "fp16", kept=("norm", "bias"), note="llama.cpp, 7B-70B average"),
    )
    return {row.name: row for row in rows}


WEIGHT_FORMATS: Mapping[str, WeightFormat] = _formats()
_ALIASES = {"fp4": "nvfp4", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "float32": "fp32"}

#: bytes per cached element
KV_BYTES: Mapping[str, float] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}


def weight_format(name: str) -> WeightFormat:
    """Return a weight format by name.

    Raises
    ------
    SpecError
        If the name is not known.

    Examples
    --------
    >>> weight_format("fp4").bits, weight_format("mxfp4").bits
    (4.5, 4.25)
    """
    key = _ALIASES.get(str(name).lower(), str(name).lower())
    if key not in WEIGHT_FORMATS:
        raise unknown_name("weight_dtype", name, [*WEIGHT_FORMATS, "fp4"])
    return WEIGHT_FORMATS[key]


def kv_bytes(name: str) -> float:
    """Return bytes per cached element of a KV dtype.

    Examples
    --------
    >>> kv_bytes("fp8")
    1
    """
    key = _ALIASES.get(str(name).lower(), str(name).lower())
    if key not in KV_BYTES:
        raise unknown_name("kv_dtype", name, KV_BYTES)
    return KV_BYTES[key]


@dataclass(frozen=True)
class Checkpoint:
    """How the published checkpoint stores its weights.

    ``weight_dtype`` is the format a deployment uses when none is asked for; ``kept``
    overrides the format's own list of module classes left in 16 bits.
    """

    weight_dtype: str = "bf16"
    kept: tuple[str, ...] | None = None


def stored_bits(role: str, fmt: WeightFormat, kept: tuple[str, ...] | None = None) -> float:
    """Return bits per parameter of a module class in a checkpoint of a format.

    Examples
    --------
    >>> stored_bits("expert", weight_format("mxfp4")), stored_bits("norm", weight_format("mxfp4"))
    (4.25, 16)
    """
    left_alone = fmt.kept if kept is None else kept
    return 16 if role in left_alone else fmt.bits
