"""Time of one step: every Op through its calibrated form, plus the engine's overhead.

The only place where a calibration meets the work.
"""

from dataclasses import dataclass, field

import numpy as np

from calc.specs.device import Device
from calc.specs.engine import Engine
from calc.specs.numeric import maximum
from calc.timing.calibration import Calibration
from calc.timing.collectives import allreduce_time_s, link_bytes_per_s
from calc.timing.roofline import op_time_s
from calc.work.op import Op

#: what can limit a step, in the words shown to people
BOUNDS = ("memory bandwidth", "compute", "interconnect", "overhead")


@dataclass(frozen=True, eq=False)
class TimedOp:
    """Seconds of all calls of one Op in a step, and their parts.

    ``fixed_s`` is the launch cost, ``compute_s`` and ``memory_s`` the two sides of the
    roofline (the longer one counts), ``link_s`` a collective's transfer. [s]
    """

    name: str
    seconds: object
    fixed_s: object = 0.0
    compute_s: object = 0.0
    memory_s: object = 0.0
    link_s: object = 0.0
    op: Op | None = None

    def times(self, factor) -> "TimedOp":
        """Return the same row counted ``factor`` times."""
        scaled = (
            factor * part for part in (self.seconds, self.fixed_s, self.compute_s, self.memory_s, self.link_s)
        )
        return TimedOp(self.name, *scaled, op=self.op)

    def by_bound(self) -> dict[str, object]:
        """Seconds by what limits them; they sum to ``seconds``."""
        limited = maximum(self.compute_s, self.memory_s)
        compute = np.where(np.asarray(self.compute_s) > self.memory_s, limited, 0.0)
        rest = self.seconds - limited - self.link_s
        return {
            "memory bandwidth": limited - compute,
            "compute": compute,
            "interconnect": self.link_s,
            "overhead": rest,
        }


@dataclass(frozen=True, eq=False)
class Duration:
    """A time as the sum of its rows. [s]"""

    rows: tuple[TimedOp, ...] = field(default=())

    @property
    def seconds(self):
        """Sum of all rows. [s]"""
        return sum(row.seconds for row in self.rows)

    def times(self, factor) -> "Duration":
        """Return this duration ``factor`` times."""
        return Duration(tuple(row.times(factor) for row in self.rows))

    def __add__(self, other: "Duration") -> "Duration":
        return Duration(self.rows + other.rows)

    def merged(self) -> "Duration":
        """Return rows of the same name added up, in order of first appearance."""
        groups: dict[str, list[TimedOp]] = {}
        for row in self.rows:
            groups.setdefault(row.name, []).append(row)
        return Duration(tuple(_summed(name, rows) for name, rows in groups.items()))

    def by_bound(self) -> dict[str, object]:
        """Seconds by what limits them; they sum to ``seconds``."""
        totals = dict.fromkeys(BOUNDS, 0.0)
        for row in self.rows:
            for bound, seconds in row.by_bound().items():
                totals[bound] = totals[bound] + seconds
        return totals

    @property
    def bound(self):
        """What most of the time is spent on; an array of names for arrays."""
        return longest(self.by_bound())


def longest(by_bound: dict[str, object]):
    """Return the name of the largest share; an array of names for arrays.

    Examples
    --------
    >>> longest({"compute": 1.0, "overhead": 2.0})
    'overhead'
    """
    shares = np.stack(np.broadcast_arrays(*[np.asarray(value, dtype=float) for value in by_bound.values()]))
    names = np.array(list(by_bound))[np.argmax(shares, axis=0)]
    return str(names) if names.ndim == 0 else names


def _summed(name: str, rows: list[TimedOp]) -> TimedOp:
    parts = ("seconds", "fixed_s", "compute_s", "memory_s", "link_s")
    return TimedOp(name, *(sum(getattr(row, part) for row in rows) for part in parts), op=rows[0].op)


def waiting(name: str, seconds) -> Duration:
    """Return time spent waiting (for a step, in a queue) as a Duration of one row."""
    return Duration((TimedOp(name, seconds, fixed_s=seconds),))


def step_time(
    ops: list[Op], device: Device, calibration: Calibration, engine: Engine, n_sequences
) -> Duration:
    """Return the time of one step on one device, row by row.

    Parameters
    ----------
    ops : list of Op
        Work of the step, from ``calc.work.step.step_ops``.
    device : Device
    calibration : Calibration
        Fixed costs and efficiencies per op kind.
    engine : Engine
        Host overhead per step and per sequence.
    n_sequences : number or array
        Sequences in the step.
    """
    rows = tuple(timed_op(op, device, calibration) for op in ops)
    host = engine.step_overhead + engine.sequence_overhead * n_sequences
    return Duration((*rows, TimedOp("engine overhead", host, fixed_s=host)))


def timed_op(op: Op, device: Device, calibration: Calibration) -> TimedOp:
    """Return the time of all calls of one Op."""
    p = calibration.parameters(op.kind)
    if p.form == "ring/1":
        world = op.shape["world"]
        link = link_bytes_per_s(device, world)
        seconds = op.count * allreduce_time_s(op.comm_bytes, world, link, p.fixed_s, p.e_link)
        fixed = op.count * p.fixed_s * (np.asarray(world) > 1)
        return TimedOp(op.name, seconds, fixed_s=fixed, link_s=maximum(0.0, seconds - fixed), op=op)
    peak, bandwidth = device.peak_flops_per_s(op.dtype), device.bandwidth_bytes_per_s
    moved = op.bytes
    fixed_s = p.fixed_s * (moved > 0)  # a call without work (no sequence of that phase) is not made
    each = op_time_s(op.flops, moved, peak, bandwidth, fixed_s, p.e_compute, p.e_memory)
    return TimedOp(
        name=op.name,
        seconds=op.count * each,
        fixed_s=op.count * fixed_s,
        compute_s=op.count * op.flops / (p.e_compute * peak),
        memory_s=op.count * moved / (p.e_memory * bandwidth),
        op=op,
    )
