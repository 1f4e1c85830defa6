"""The points of a profile beside what its own calibration predicts for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import calc
from calc.specs.device import Device
from calc.timing.calibration import calibration_for
from calc.timing.collectives import moved_share
from calc.timing.roofline import roofline_time_s
from calc.timing.step_time import timed_op, work_of
from calc.work.op import Op
from validate.collectives.fits import collective_op
from validate.probes import PROBES
from validate.profile import Point, Profile
from validate.profile_fit import op_of


@dataclass(frozen=True)
class Predicted:
    """One measured point: what was predicted with its 80 % interval, and the bare roofline. [s]"""

    point: Point
    seconds: float
    low: float
    high: float
    roofline: float
    trust: str

    @property
    def error_pct(self) -> float:
        """Signed error in percent of what was measured."""
        return 100 * (self.seconds / self.point.seconds_min - 1)


def device_of(profile: Profile) -> Device:
    """Return the device that a profile was measured on: a shipped one, or its own."""
    return calc.load_device(profile.path if profile.own_device else profile.device)


def predictions(profile: Profile, points: Sequence[Point]) -> list[Predicted]:
    """Return the points of fitted kinds and formats, beside their predictions."""
    device = device_of(profile)
    calibration = calibration_for(device, profile.path)
    groups: dict[tuple, list[Point]] = {}
    for point in points:
        if point.plain and point.format in profile.ops.get(point.op, {}):
            groups.setdefault((point.probe, point.dtype, point.op, point.format), []).append(point)
    return [row for members in groups.values() for row in _of_group(members, device, calibration)]


def operation(points: Sequence[Point]) -> Op:
    """Return points of one probe and dtype as one operation with array sizes.

    Raises
    ------
    SpecError
        If no probe of this version has that name.
    """
    name = points[0].probe
    if name == "collective":
        return collective_op(points)
    if name not in PROBES:
        raise calc.unknown_name("probe", name, PROBES)
    return op_of(list(points))


def _of_group(points: Sequence[Point], device: Device, calibration) -> list[Predicted]:
    op = operation(points)
    timed = timed_op(op, device, calibration, cold=True)
    shape = (len(points),)
    seconds, outside, least = (
        np.broadcast_to(each, shape) for each in (timed.seconds, timed.outside, roofline_s(op, device))
    )
    return [
        Predicted(
            point, float(s), float(s * timed.fit.low), float(s * timed.fit.high), float(r),
            "extrapolated" if beyond else timed.fit.trust,
        )
        for point, s, beyond, r in zip(points, seconds, outside, least, strict=True)
    ]  # fmt: skip


def roofline_s(op: Op, device: Device):
    """Return the least time by the device's ceilings alone: arithmetic, traffic, or the link. [s]"""
    work, ceilings = work_of(op, device)
    if op.is_collective:
        return work["rounds"] * moved_share(work["world"]) * op.comm_bytes / ceilings.peak_flops_per_s
    return roofline_time_s(op.flops, op.bytes, ceilings.peak_flops_per_s, ceilings.bandwidth_bytes_per_s)
