"""Reading tables of measured kernel latencies, and the list of what is in them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import calc
from calc.work.op import Op
from validate.points.attention import decode_op, encoder_op, prefill_op
from validate.points.collectives import collective_op, exchange_op
from validate.points.gemm import gemm_op
from validate.points.linear import linear_op
from validate.points.mla import decode_mla_op, mla_bmm_op, prefill_mla_op
from validate.points.moe import moe_op

#: system of a table -> our device
DEVICES = {
    "a100_sxm": "a100-sxm-80gb", "h100_sxm": "h100-sxm", "h200_sxm": "h200-sxm", "b200_sxm": "b200-sxm",
    "b300_sxm": "b300-sxm", "gb200": "gb200", "gb300": "gb300", "l40s": "l40s",
    "rtx_pro_6000_server": "rtx-pro-6000-server", "b60": "arc-pro-b60",
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """One op of a table: the form's kind, how rows become an Op, and what a shape is.

    ``shape`` are the columns that make two rows the same shape: left out together in
    cross-validation. ``format_column`` tells formats apart.
    """

    op: str
    build: Callable[[Mapping], Op]
    shape: tuple[str, ...]
    format_column: str = "dtype"


_HEADS = ("heads", "kv_heads", "head_dim")
_WINDOWED = (*_HEADS, "window")
_SIZES = ("gpus", "elems")

#: op of a table -> how its rows are read
KINDS: dict[str, Kind] = {
    kind.op: kind
    for kind in (
        Kind("gemm", gemm_op, ("n", "k")),
        Kind("context_attention", prefill_op, _WINDOWED, "kv_dtype"),
        Kind("generation_attention", decode_op, _WINDOWED, "kv_dtype"),
        Kind("encoder_attention", encoder_op, _HEADS),
        Kind("context_mla", prefill_mla_op, ("heads",), "kv_dtype"),
        Kind("generation_mla", decode_mla_op, ("heads",), "kv_dtype"),
        Kind("moe", moe_op, ("hidden", "inter", "topk", "experts", "tp", "ep")),
        Kind("mla_bmm", mla_bmm_op, ("heads", "variant")),
        Kind("gdn_linear_attention", linear_op, _HEADS, "kernel"),
        Kind("mamba2", linear_op, _HEADS, "kernel"),
        Kind("allreduce", collective_op, _SIZES),
        Kind("allgather", collective_op, _SIZES),
        Kind("reduce_scatter", collective_op, _SIZES),
        Kind("alltoall", collective_op, _SIZES),
        Kind("custom_allreduce", collective_op, _SIZES, "kernel"),
        Kind("deepep_ll_dispatch", exchange_op, ("hidden", "topk", "experts")),
        Kind("deepep_ll_combine", exchange_op, ("hidden", "topk", "experts")),
    )
}


@dataclass(frozen=True, eq=False)
class Points:
    """Rows of one system, op and format, with their row numbers in the table."""

    device: str
    kind: Kind
    format: str
    rows: Mapping[str, np.ndarray]
    index: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """Measured times. [s]"""
        return self.rows["latency_ms"].astype(float) / 1e3

    @property
    def groups(self) -> np.ndarray:
        """One label per shape."""
        columns = [self.rows[name].astype(str) for name in self.kind.shape]
        labels = columns[0].astype(object)
        for column in columns[1:]:
            labels = labels + "|" + column.astype(object)
        return labels.astype(str)

    @property
    def op(self) -> Op:
        """All rows as one operation with array sizes."""
        op = self.kind.build(self.rows)
        if self.kind.format_column != "kernel":
            return op
        # the convolution of Mamba-2 is another kernel of the same name
        return replace(op, format=slug(self.format) + ("-mamba2" if self.kind.op == "mamba2" else ""))


def slug(name: str) -> str:
    """Return a kernel's name as a key of calibration files.

    Examples
    --------
    >>> slug("TRTLLM_MNNVL_oneshot")
    'trtllm-mnnvl-oneshot'
    """
    return name.lower().replace("_", "-")


def read_table(path: str | Path) -> dict[str, np.ndarray]:
    """Return a parquet or CSV table as columns; whole numbers as floats, blanks as NaN or empty text.

    Raises
    ------
    SpecError
        If the file cannot be read.
    """
    try:
        columns = _parquet(path) if str(path).endswith(".parquet") else _csv(path)
    except OSError as error:
        raise calc.SpecError(f"{path}: cannot be read ({error.strerror or error})") from None
    missing = [name for name in ("system", "op", "dtype", "latency_ms") if name not in columns]
    if missing:
        raise calc.SpecError(f"{path}: column {missing[0]!r} is missing")
    return columns


def _parquet(path) -> dict[str, np.ndarray]:
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise calc.SpecError("reading parquet needs pyarrow: pip install 'ullage[validate]'") from None
    try:
        table = pq.read_table(path)
    except (ValueError, OSError) as error:
        raise calc.SpecError(f"{path}: not a parquet table ({str(error).splitlines()[0]})") from None
    return {name: _column(table[name].to_pylist()) for name in table.column_names}


def _csv(path) -> dict[str, np.ndarray]:
    import csv

    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    if not rows:
        raise calc.SpecError(f"{path}: no rows")
    return {name: _column([_value(row[name]) for row in rows]) for name in rows[0]}


def _value(text: str):
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _column(values: list) -> np.ndarray:
    if any(isinstance(value, str) for value in values):
        return np.array(["" if value is None else str(value) for value in values], dtype=object)
    return np.array([np.nan if value is None else float(value) for value in values])


def point_sets(columns: Mapping[str, np.ndarray], *, flagged: bool = False) -> Iterator[Points]:
    """Yield the rows of a table by system, op and format; flagged rows are left out."""
    usable = np.ones(len(columns["op"]), dtype=bool)
    if "flag" in columns and not flagged:
        usable &= columns["flag"].astype(str) == ""
    for system, device in DEVICES.items():
        for name, kind in KINDS.items():
            here = usable & (columns["system"] == system) & (columns["op"] == name)
            formats = columns[kind.format_column][here]
            for fmt in sorted(set(formats)):
                index = np.flatnonzero(here & (columns[kind.format_column] == fmt))
                yield Points(device, kind, fmt, {key: value[index] for key, value in columns.items()}, index)
