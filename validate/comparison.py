"""Two calibrations side by side: times of the same operations, and parameters that moved."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import calc
from calc.specs.device import Device
from calc.timing.calibration import Calibration, calibration_for
from calc.timing.step_time import timed_op
from calc.work.communication import ONE_ROUND, collective
from calc.work.memory import precision_of
from calc.work.op import Op, Precision, Sequences
from calc.work.step import step_ops

#: sizes of the grid: sequences, cached tokens, prompt tokens, devices, bytes of a payload
BATCHES, CONTEXTS, PROMPTS = (1, 8, 64), (512, 4096, 32768), (128, 1024, 8192)
WORLDS, PAYLOADS = (2, 4, 8), tuple(4.0**power for power in range(4, 15))
#: a parameter that changes by more than this factor has moved
MOVED = 1.1
_EXCHANGES = ("allreduce", *ONE_ROUND)


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two: a calibration on the device it speaks for; ``own`` are its own ops only."""

    device: Device
    own: Calibration

    def seconds(self, op: Op) -> np.ndarray:
        """Return the time of one call inside a step, by its own parameters. [s]"""
        timed = timed_op(op, self.device, calibration_for(self.device, self.own), cold=True)
        return np.asarray(timed.seconds, dtype=float)


@dataclass(frozen=True)
class Ratio:
    """Time with the second over time with the first, of one op and format over the grid."""

    op: str
    format: str
    n: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Move:
    """One parameter that differs; values are None where the form has no such parameter."""

    op: str
    format: str
    parameter: str
    first: float | None
    second: float | None


def grid(models: list[str], formats: list[str]) -> Iterator[Op]:
    """Yield operations of decode and prefill steps of models in weight formats, and exchanges.

    Each op holds arrays: all batches by all contexts, or by all prompts.
    """
    batch, context = (x.ravel() for x in np.meshgrid(BATCHES, CONTEXTS))
    rows, prompt = (x.ravel() for x in np.meshgrid(BATCHES, PROMPTS))
    steps = (Sequences("decode", batch, 1, context),), (Sequences("prefill", rows, prompt, 0),)
    for name in models:
        for fmt in formats:
            model = calc.load_model(name)
            precision = precision_of(model, calc.Deployment(weight_dtype=fmt))
            for groups in steps:
                yield from step_ops(model, groups, precision)
    world, payload = (x.ravel() for x in np.meshgrid(np.array(WORLDS, dtype=float), PAYLOADS))
    for kind in _EXCHANGES:
        yield collective(kind, kind, payload / 2, world, Precision({}, kv_bytes=2, math="bf16"))


def ratios(first: Side, second: Side, ops: Iterator[Op]) -> list[Ratio]:
    """Return the ratios of times by op and format, for what both sides have parameters of."""
    shared: dict[tuple[str, str], list[np.ndarray]] = {}
    for op in ops:
        ratio = _ratio(first, second, op)
        if ratio is not None:
            shared.setdefault((op.kind, op.format), []).append(ratio[np.isfinite(ratio)])
    joined = {key: np.concatenate([each.ravel() for each in rows]) for key, rows in shared.items()}
    return [
        Ratio(*key, len(r), float(np.median(r)), float(r.min()), float(r.max()))
        for key, r in joined.items()
        if len(r)
    ]


def _ratio(first: Side, second: Side, op: Op) -> np.ndarray | None:
    """Return second over first; None where one has no parameters, no such dtype or no link for it."""
    if not (_speaks(first.own, op) and _speaks(second.own, op)):
        return None
    try:
        with np.errstate(all="ignore"):
            return second.seconds(op) / first.seconds(op)
    except calc.SpecError:
        return None


def _speaks(calibration: Calibration, op: Op) -> bool:
    formats = calibration.ops.get(op.kind, {})
    return op.format in formats or "any" in formats


def moves(first: Calibration, second: Calibration) -> list[Move]:
    """Return the parameters that moved by more than a tenth, of forms that both name."""
    found = []
    for kind, fmt in shared_fits(first, second):
        a, b = first.ops[kind][fmt], second.ops[kind][fmt]
        if a.form.name != b.form.name:
            continue
        for name, value in a.parameters.items():
            other = b.parameters[name]
            if max(value, other) > MOVED * min(value, other):
                found.append(Move(kind, fmt, name, value, other))
    return found


def shared_fits(first: Calibration, second: Calibration) -> list[tuple[str, str]]:
    """Return kind and format of what both have."""
    return [
        (kind, fmt) for kind, fits in first.ops.items() for fmt in fits if fmt in second.ops.get(kind, {})
    ]


def only_in(first: Calibration, second: Calibration) -> list[str]:
    """Return what the first has and the second lacks, as ``kind/format``."""
    return [f"{k}/{f}" for k, fits in first.ops.items() for f in fits if f not in second.ops.get(k, {})]


def changed_forms(first: Calibration, second: Calibration) -> list[str]:
    """Return where both use different formulas, whose parameters cannot be compared."""
    pairs = (
        (k, f, first.ops[k][f].form.name, second.ops[k][f].form.name) for k, f in shared_fits(first, second)
    )
    return [f"{kind}/{fmt}: {a} and {b}" for kind, fmt, a, b in pairs if a != b]
