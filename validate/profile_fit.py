"""From points to a calibration: a form for each kind and format, with errors before and after."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from calc.specs.device import Device
from calc.timing.calibration import calibration_for
from calc.timing.forms import FORMS, Form
from calc.timing.roofline import roofline_time_s
from calc.timing.step_time import timed_op, work_of
from calc.work.op import Op
from validate.fit import FORM_OF, LEAST_POINTS
from validate.fitting import error_row, fitted, left_out
from validate.probes import PROBES
from validate.profile import Point

#: what every kind may fall back on
SIMPLE, ADDED = "roofline/1", "pnorm/1"
#: kinds without arithmetic that counts
PASSES = ("elementwise", "embedding")


def groups_of(points: Iterable[Point]) -> dict[tuple[str, str], list[Point]]:
    """Return the points that a fit may use, by kind and format; memory passes, decoders and variants none."""
    found: dict[tuple[str, str], list[Point]] = {}
    fit = [point for point in points if point.plain and point.probe in PROBES and point.op != "memory"]
    order = list(PROBES)  # the first format of a kind speaks for formats that have no fit
    for point in sorted(fit, key=lambda each: order.index(each.probe)):
        found.setdefault((point.op, point.format), []).append(point)
    return found


def op_of(points: list[Point]) -> Op:
    """Return points of one probe as one operation with array sizes."""
    first = points[0]
    sizes = {name: np.array([float(p.sizes[name]) for p in points]) for name in first.sizes}
    return PROBES[first.probe].op(sizes, first.dtype)


def fit_group(points: list[Point], device: Device) -> dict:
    """Return the row of a calibration for points of one kind and format.

    Of the kind's own form and the simple ones, the best on shapes left out is taken.
    """
    op, seconds = op_of(points), np.array([point.seconds_min for point in points])
    work, ceilings = work_of(op, device)
    work = {name: np.broadcast_to(value, seconds.shape).astype(float) for name, value in work.items()}
    shapes = np.array([" ".join(str(p.sizes[n]) for n in PROBES[p.probe].shape) for p in points])
    least = roofline_time_s(
        work["flops"], work["bytes"], ceilings.peak_flops_per_s, ceilings.bandwidth_bytes_per_s
    )
    best = None
    for form in forms_for(op.kind):
        held = np.maximum(left_out(form, work, ceilings, seconds, shapes), least)
        miss = float(np.nanmedian(np.abs(held / seconds - 1)))
        if best is None or miss < best[0]:
            best = miss, form, held
    _, form, held = best
    parameters = fitted(form, work, ceilings, seconds)
    near = np.maximum(left_out(form, work, ceilings, seconds, np.arange(len(seconds))), least)
    predicted = np.maximum(form.seconds(work, ceilings, parameters), least)
    return {
        "form": form.name,
        "kernel": ", ".join(sorted({point.kernel for point in points})),
        "parameters": parameters,
        "error": error_row(predicted, held, near, seconds),
        "before": {
            "roofline_median_pct": _median_pct(least, seconds),
            "default_median_pct": _median_pct(_by_default(op, device), seconds),
        },
        "range": _ranges(points),
    }


def forms_for(kind: str) -> list[Form]:
    """Return the forms that are tried for a kind, inputs taken as cold: that is how they are measured."""
    names = dict.fromkeys((FORM_OF.get(kind, SIMPLE), SIMPLE, *([] if kind in PASSES else [ADDED])))
    return [cold(FORMS[name]) for name in names]


def cold(form: Form) -> Form:
    """Return a form whose traffic never finds the device's own cache warm, under the same name."""
    fixed = [
        replace(p, start=p.low, high=p.low * 1.0001) if p.name == "warm_bytes" else p for p in form.parameters
    ]
    return replace(form, parameters=tuple(fixed))


def _by_default(op: Op, device: Device):
    """Return what calc says without this profile. [s]"""
    return np.asarray(
        timed_op(op, device, calibration_for(device, "default"), cold=True).seconds, dtype=float
    )


def _median_pct(predicted, seconds) -> float:
    return 100 * float(np.median(np.abs(predicted / seconds - 1)))


def _ranges(points: list[Point]) -> dict[str, list[float]]:
    """Return smallest and largest of each size under the names that forms use; of passes, their bytes."""
    op = op_of(points)
    shape = op.shape or {"bytes": op.bytes}
    sizes = {name: np.asarray(value, dtype=float) for name, value in shape.items()}
    return {name: [float(v.min()), float(v.max())] for name, v in sizes.items() if v.size > 1}


def fit_all(
    points: Iterable[Point], device: Device, say=lambda text: None
) -> tuple[dict, list[tuple[str, str]]]:
    """Return rows by kind and format, and what has too few points for a fit, with the reason."""
    rows: dict[str, dict[str, dict]] = {}
    left: list[tuple[str, str]] = []
    for (kind, fmt), members in groups_of(points).items():
        if len(members) < LEAST_POINTS:
            left.append((f"{kind} {fmt}", f"{len(members)} points, a fit needs {LEAST_POINTS}"))
            continue
        say(f"fit {kind} {fmt}")
        rows.setdefault(kind, {})[fmt] = fit_group(members, device)
    return rows, left
