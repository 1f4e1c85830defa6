"""Time of one step: every Op through its calibrated form, plus the engine's overhead.

The only place where a calibration meets the work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from calc.specs.device import Device
from calc.specs.numeric import maximum, minimum
from calc.timing.calibration import TRUST, Calibration, OpFit
from calc.timing.exchange import exchange, exchange_work, least_exchange_s
from calc.timing.forms import Ceilings, Parts
from calc.timing.forms.attention import CACHE_SPEED
from calc.timing.overheads import Overheads, host_time_s, kernel_group, own_kernels_s
from calc.timing.roofline import roofline_time_s
from calc.work.op import Op

#: assumed where a device's number of processors is not known
ASSUMED_PROCESSORS = 100
#: assumed spread of an engine's host time and of waits, which no table of kernels speaks for:
#: 80 % within a factor of 1.5
HOST_SIGMA = 0.32
#: (kind, format) -> format and dtype that engines run it in where the device has such kernels
PREFERRED = {("moe", "mxfp4"): ("mxfp4-mxfp8", "fp8")}
#: what can limit a step, in the words shown to people
BOUNDS = ("memory bandwidth", "compute", "interconnect", "overhead")


@dataclass(frozen=True, eq=False)
class TimedOp:
    """Seconds of all calls of one Op in a step, and their parts.

    ``fixed_s`` is the launch cost, ``compute_s`` and ``memory_s`` the two sides of the
    roofline, which overlap; ``link_s`` a collective's transfer. ``sigma`` is the spread of
    the logarithm of measured over predicted, ``trust`` how far the calibration speaks for
    it, ``outside`` whether a size lies beyond its fitted range, ``calls`` how many calls the
    seconds are of. [s]
    """

    name: str
    seconds: object
    fixed_s: object = 0.0
    compute_s: object = 0.0
    memory_s: object = 0.0
    link_s: object = 0.0
    op: Op | None = None
    fit: OpFit | None = None
    outside: object = False
    calls: object = 0

    @property
    def sigma(self) -> float:
        """Spread of the logarithm of measured over predicted."""
        return self.fit.sigma if self.fit else HOST_SIGMA

    @property
    def has_work(self) -> bool:
        """Whether it computes or moves data on the device (waits, overheads and collectives do not)."""
        return self.op is not None and not self.op.is_collective

    def times(self, factor) -> "TimedOp":
        """Return the same row counted ``factor`` times; cheaper than a new one."""
        other = object.__new__(TimedOp)
        other.__dict__.update(
            self.__dict__, seconds=factor * self.seconds, fixed_s=factor * self.fixed_s,
            compute_s=factor * self.compute_s, memory_s=factor * self.memory_s,
            link_s=factor * self.link_s, calls=factor * self.calls,
        )  # fmt: skip
        return other

    def by_bound(self) -> dict[str, object]:
        """Seconds by what limits them; they sum to ``seconds``.

        What compute and memory overlap to counts for the longer of the two.
        """
        overlapped = self.seconds - self.fixed_s - self.link_s
        is_compute = np.asarray(self.compute_s) > self.memory_s
        compute = np.where(is_compute, overlapped, 0.0)
        return {
            "memory bandwidth": overlapped - compute,
            "compute": compute,
            "interconnect": self.link_s,
            "overhead": self.fixed_s,
        }


class RooflinePoint(NamedTuple):
    """One operation under the roofline.

    ``intensity`` is flops per byte, ``ridge`` the intensity at which the device turns from
    memory to compute; ``attained_flops_per_s`` and ``attained_bytes_per_s`` what one call
    reaches, ``share`` its time over the least possible, inverted: 1 is the roofline itself.
    """

    name: str
    intensity: object
    ridge: float
    attained_flops_per_s: object
    attained_bytes_per_s: object
    share: object
    bound: object


def roofline_point(row: "TimedOp", device: Device) -> RooflinePoint:
    """Return where a timed operation stands under the datasheet roofline of a device."""
    op = row.op
    work, ceilings = work_of(op, device)
    each = row.seconds / maximum(row.calls, 1e-30)
    moved = maximum(work["bytes"], 1e-30)
    least = roofline_time_s(
        op.flops, work["bytes"], ceilings.peak_flops_per_s, ceilings.bandwidth_bytes_per_s
    )
    return RooflinePoint(
        name=row.name,
        intensity=op.flops / moved,
        ridge=ceilings.peak_flops_per_s / ceilings.bandwidth_bytes_per_s,
        attained_flops_per_s=op.flops / maximum(each, 1e-30),
        attained_bytes_per_s=work["bytes"] / maximum(each, 1e-30),
        share=least / maximum(each, 1e-30),
        bound=longest(row.by_bound()),
    )


@dataclass(frozen=True, eq=False)
class Duration:
    """A time as the sum of its rows. [s]"""

    rows: tuple[TimedOp, ...] = field(default=())

    @cached_property
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
    def sigma(self):
        """Spread of the logarithm of measured over predicted time, from the rows' spreads.

        Rows of one kind of op err together, different kinds independently.
        """
        kinds: dict[str, object] = {}
        for row in self.rows:
            key = row.op.kind if row.op else row.name
            kinds[key] = kinds.get(key, 0.0) + row.seconds * row.sigma
        total = self.seconds
        return np.sqrt(sum(each**2 for each in kinds.values())) / total

    @property
    def trust(self) -> str:
        """The weakest label among operations that take a tenth of the time or more."""
        total, found = self.seconds, "calibrated"
        for row in self.rows:
            if row.fit is None or not np.any(row.seconds >= 0.1 * total):
                continue
            label = "extrapolated" if np.any(row.outside & (row.seconds >= 0.1 * total)) else row.fit.trust
            found = max(found, label, key=TRUST.index)
        return found

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
    if len(rows) == 1:
        return rows[0]
    parts = ("seconds", "fixed_s", "compute_s", "memory_s", "link_s")
    calls = sum(row.calls for row in rows)
    outside = rows[0].outside
    for row in rows[1:]:
        outside = outside | np.asarray(row.outside)
    sums = (sum(getattr(row, part) for row in rows) for part in parts)
    return TimedOp(name, *sums, op=rows[0].op, fit=rows[0].fit, outside=outside, calls=calls)


def waiting(name: str, seconds) -> Duration:
    """Return time spent waiting (for a step, in a queue) as a Duration of one row."""
    return Duration((TimedOp(name, seconds, fixed_s=seconds),))


def step_time(
    ops: list[Op], device: Device, calibration: Calibration, overheads: Overheads, n_sequences, n_layers
) -> Duration:
    """Return the time of one step on one device, row by row.

    Parameters
    ----------
    ops : list of Op
        Work of the step, from ``calc.work.step.step_ops``.
    device : Device
    calibration : Calibration
        Fixed costs and efficiencies per op kind.
    overheads : Overheads
        Of the engine: host time, and factors on the time of its kernels.
    n_sequences, n_layers : number or array
        Sequences in the step, and layers they pass.
    """
    rows = tuple(timed_op(op, device, calibration, cold=True, overheads=overheads) for op in ops)
    host = host_time_s(overheads, n_sequences, n_layers, n_exchanges(rows))
    return Duration((*rows, TimedOp("engine overhead", host, fixed_s=host)))


def n_exchanges(rows):
    """Exchanges between several devices among the rows of a step. [count]"""
    return sum(row.op.count * (row.seconds != 0) for row in rows if is_exchange(row))


def is_exchange(row: TimedOp) -> bool:
    """Whether a row is an exchange between several devices."""
    if row.op is None or not row.op.is_collective:
        return False
    return bool(np.any(row.seconds))


def timed_op(
    op: Op,
    device: Device,
    calibration: Calibration,
    *,
    cold: bool = False,
    overheads: Overheads | None = None,
) -> TimedOp:
    """Return the time of all calls of one Op, by the form that the calibration names.

    As a benchmark measures it, one call repeated, or ``cold``: inside a step, where the
    device's own cache holds data of other operations; with ``overheads`` inside an engine, with
    the kernels and exchanges it would use. Never faster than the dense datasheet roofline, but
    for kernels whose data a benchmark leaves in the device's own cache (``Form.resident``); an
    op without work takes no time.
    """
    factor = overheads.factor(op, device) if overheads else 1.0
    op = _as_engines_run(op, calibration) if overheads else op
    if op.is_collective:
        return _timed_exchange(op, device, calibration, overheads, factor)
    fit = calibration.fit(op.kind, op.format)
    work, ceilings = work_of(op, device)
    parts = call_parts(fit, work, ceilings, cold=cold)
    if factor != 1.0:
        parts = Parts(*(factor * part for part in parts))
    outside = fit.is_outside(work)
    moved = work["bytes"]
    from_cache = CACHE_SPEED if fit.form.resident and not cold else 1.0
    bandwidth = from_cache * ceilings.bandwidth_bytes_per_s
    least = roofline_time_s(op.flops, moved, ceilings.peak_flops_per_s, bandwidth)
    launch = minimum(parts.fixed_s, factor * launch_s(fit))
    each = call_s(parts.seconds, launch, least, reach_of(op, device, calibration, overheads))
    count = op.count * (moved > 0)
    return TimedOp(
        name=op.name,
        seconds=count * each,
        fixed_s=count * minimum(parts.fixed_s, each),
        compute_s=count * parts.compute_s,
        memory_s=count * parts.memory_s,
        op=op,
        fit=fit,
        outside=outside,
        calls=count,
    )


def call_parts(fit: OpFit, work: Mapping, ceilings: Ceilings, *, cold: bool) -> Parts:
    """Return the parts of one call by the form of a fit, with no engine around it. [s]

    ``work`` and ``ceilings`` are those of ``work_of``.
    """
    parameters = fit.form.cold(fit.parameters) if cold else fit.parameters
    return fit.form.parts(work, ceilings, parameters)


def launch_s(fit: OpFit) -> float:
    """Fixed cost of a call that an engine's own kernels have too: its launch alone. [s]"""
    return fit.parameters.get("fixed_s", 0.0)


def call_s(table_s, fixed_s, least_s, reach):
    """Time of one call: by the tables or the engine's own kernels, never below the roofline. [s]

    Examples
    --------
    >>> call_s(2e-3, 1e-5, 8e-4, 0.0), call_s(7e-4, 1e-5, 8e-4, 0.0)
    (0.002, 0.0008)
    """
    return maximum(own_kernels_s(table_s, fixed_s, least_s, reach), least_s)


def _as_engines_run(op: Op, calibration: Calibration) -> Op:
    """Return an op in the format that engines prefer for it, where that was measured."""
    fmt, dtype = PREFERRED.get((op.kind, op.format), ("", ""))
    return replace(op, format=fmt, dtype=dtype) if fmt in calibration.ops.get(op.kind, {}) else op


def reach_of(op: Op, device: Device, calibration: Calibration, overheads: Overheads | None) -> float:
    """Share of the roofline that the engine's own kernels reach; 0 where it has none of its own.

    What links of a box reach is known best from a measurement of that box: a user's own file.
    """
    if overheads is None or (op.is_collective and op.kind in calibration.own_kinds):
        return 0.0
    return overheads.reach.get(kernel_group(op, device), 0.0)


def _timed_exchange(
    op: Op, device: Device, calibration: Calibration, overheads: Overheads | None, factor
) -> TimedOp:
    parts, fit, outside = exchange(op, device, calibration, overheads.engine if overheads else "")
    each = factor * parts.seconds
    if reach := reach_of(op, device, calibration, overheads):
        each = own_kernels_s(each, factor * parts.fixed_s, least_exchange_s(op, device), reach)
    seconds, fixed = op.count * each, op.count * minimum(factor * parts.fixed_s, each)
    return TimedOp(op.name, seconds, fixed, link_s=seconds - fixed, op=op, fit=fit, outside=outside)


def work_of(op: Op, device: Device) -> tuple[dict, Ceilings]:
    """Return what a form is given: sizes, flops and bytes of one call, and the device's ceilings.

    A collective's first ceiling is the link that the topology offers. [byte/s]
    """
    if op.is_collective:
        return exchange_work(op, device)
    processors = device.processors.value if device.processors else ASSUMED_PROCESSORS
    peak, bandwidth = device.peak_flops_per_s(op.dtype), device.bandwidth_bytes_per_s
    return {**op.shape, "flops": op.flops, "bytes": op.bytes}, Ceilings(peak, bandwidth, processors)
