"""Fitting ``collective/1`` to the points of one run, and the calibration file that holds it."""

from collections.abc import Sequence

import numpy as np

import calc
from calc.specs.device import Device
from calc.timing.collectives import moved_share
from calc.timing.exchange import exchange_work
from calc.timing.forms import FORMS, Ceilings
from calc.work.communication import collective
from calc.work.op import Op, Precision
from validate.fit import FORM_OF, LEAST_POINTS
from validate.fitting import error_row, fitted, left_out
from validate.profile import Point
from validate.yaml_text import document

_PRECISION = Precision(bits={}, kv_bytes=2, math="bf16")


def collective_op(points: Sequence[Point]) -> Op:
    """Return the points of one kind as one operation with array sizes."""
    kind, world = points[0].op, np.array([point.sizes["world"] for point in points], dtype=float)
    elements = np.array([point.sizes["elements"] for point in points], dtype=float)
    return collective(kind, kind, elements, world, _PRECISION)


def bus_bytes_per_s(points: Sequence[Point]) -> float:
    """Return the highest rate at which a device of these points sent, counted as a ring sends. [byte/s]"""
    op, seconds = collective_op(points), _seconds(points)
    moved = op.shape["rounds"] * moved_share(op.shape["world"]) * op.comm_bytes
    return float(np.max(moved / seconds))


def fit_collective(points: Sequence[Point], link: Device | float) -> dict | None:
    """Return the fitted row of one kind, None where there are too few points.

    Parameters
    ----------
    points : sequence of Point
        Usable ones of one kind.
    link : Device or float
        The device whose link the points went over, or what to take for its link. [byte/s]
    """
    if len(points) < LEAST_POINTS:
        return None
    op, seconds = collective_op(points), _seconds(points)
    form = FORMS[FORM_OF[op.kind]]
    work, ceilings = work_with_link(op, link)
    parameters = fitted(form, work, ceilings, seconds)
    held = left_out(form, work, ceilings, seconds, np.arange(len(seconds)), folds=4)
    world = op.shape["world"]
    return {
        "form": form.name,
        "kernel": points[0].kernel,
        "parameters": parameters,
        "error": error_row(form.seconds(work, ceilings, parameters), held, held, seconds),
        "range": {
            "world": [float(world.min()), float(world.max())],
            "comm_bytes": [float(op.comm_bytes.min()), float(op.comm_bytes.max())],
        },
    }


def work_with_link(op: Op, link: Device | float) -> tuple[dict, Ceilings]:
    """Return what the form is given: sizes and payload, and the link as first ceiling."""
    if isinstance(link, Device):
        return exchange_work(op, link)
    return {**op.shape, "comm_bytes": op.comm_bytes}, Ceilings(float(link), 1.0, 1)


def _seconds(points: Sequence[Point]) -> np.ndarray:
    return np.array([point.seconds_min for point in points])


def by_kind(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the usable points of each kind."""
    kinds: dict[str, list[Point]] = {}
    for point in points:
        if point.usable:
            kinds.setdefault(point.op, []).append(point)
    return kinds


def calibration(points: Sequence[Point], device: Device | None, date: str, software: str) -> dict:
    """Return the calibration of all kinds as data; without a known device the link is what was reached.

    Raises
    ------
    SpecError
        If no kind has points enough.
    """
    kinds = by_kind(points)
    if not any(len(rows) >= LEAST_POINTS for rows in kinds.values()):
        raise calc.SpecError(f"no collective has {LEAST_POINTS} points or more; give more --sizes")
    link = device or max(bus_bytes_per_s(rows) for rows in kinds.values())
    fits = {kind: fit_collective(rows, link) for kind, rows in kinds.items()}
    world, kernel = int(points[0].sizes["world"]), points[0].kernel
    name = f"{device.id if device else 'this-machine'}-{kernel}-{world}"
    return {
        "id": name,
        "name": f"{kernel} between {world} {'x ' + device.name if device else 'processes'}",
        "trust": "calibrated",
        **({"device": device.id} if device else {}),
        "date": date,
        "software": software,
        "note": "Written by python -m validate collective"
        + ("" if device else "; shares are of ceilings.link_bytes_per_s, the highest rate measured"),
        "sources": {"points": {"title": "python -m validate collective on this machine", "date": date}},
        "ceilings": {} if device else {"link_bytes_per_s": link},
        "ops": {kind: {"bf16": row} for kind, row in fits.items() if row},
    }


def calibration_text(data: dict) -> str:
    """Return the YAML of a calibration."""
    return document({key: value for key, value in data.items() if value != {}})
