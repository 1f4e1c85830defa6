"""The small decoders predicted from the parts that were fitted, beside what was measured."""

from collections.abc import Iterable

import numpy as np

from calc.specs.device import Device
from calc.timing.calibration import Z80, Calibration
from calc.timing.roofline import roofline_time_s
from calc.timing.step_time import Duration, timed_op, work_of
from validate.acceptance.decoder import DECODERS
from validate.profile import Accepted, Point


def accepted(points: Iterable[Point], device: Device, calibration: Calibration) -> tuple[Accepted, ...]:
    """Return a row for each measured step of a decoder."""
    return tuple(
        _row(point, device, calibration) for point in points if point.usable and point.probe in DECODERS
    )


def _row(point: Point, device: Device, calibration: Calibration) -> Accepted:
    probe = DECODERS[point.probe]
    ops = probe.ops(point.sizes, point.dtype)
    duration = Duration(tuple(timed_op(op, device, calibration, cold=True) for op in ops))
    seconds, ratio = float(duration.seconds), float(np.exp(Z80 * duration.sigma))
    return Accepted(
        decoder=probe.config,
        phase="prefill" if point.sizes["past"] == 0 else "decode",
        batch=int(point.sizes["batch"]), tokens=int(point.sizes["new"]), past=int(point.sizes["past"]),
        measured_s=point.seconds_min, median_s=point.seconds_median, predicted_s=seconds,
        low_s=seconds / ratio, high_s=seconds * ratio,
        roofline_s=float(sum(op.count * _least_s(op, device) for op in ops)), trust=duration.trust,
    )  # fmt: skip


def _least_s(op, device: Device):
    if op.is_collective:
        return 0.0
    work, c = work_of(op, device)
    return roofline_time_s(work["flops"], work["bytes"], c.peak_flops_per_s, c.bandwidth_bytes_per_s)
