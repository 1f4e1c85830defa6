"""A profile as plain data: machine, errors by op, acceptance, what was skipped."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from calc.timing.calibration import Calibration, OpFit, load_calibration
from validate.profile import Accepted, Point, Profile
from validate.reports.variants import variant_rows

SCHEMA_VERSION = 1
#: fewer points than this fix a form only roughly; errors above this say that it does not describe the kernel
FEW_POINTS, LARGE_ERROR_PCT = 12, 25.0


@dataclass(frozen=True)
class OpRow:
    """One fitted op and format: errors in percent, before and after, and what to think of it."""

    op: str
    format: str
    form: str
    kernel: str
    n: int
    fit_median_pct: float | None
    left_out_median_pct: float | None
    left_out_p90_pct: float | None
    bias_pct: float | None
    roofline_median_pct: float | None
    default_median_pct: float | None
    range: dict[str, list[float]]
    trust: str
    remark: str


def op_rows(calibration: Calibration, profile: Profile | None = None) -> list[OpRow]:
    """Return a row for each fit of a calibration file, with errors before it where a profile has them."""
    rows = []
    for kind, fits in calibration.ops.items():
        for fmt, fit in fits.items():
            before = (profile.ops[kind][fmt].get("before") if profile else None) or {}
            rows.append(_op_row(kind, fmt, fit, before))
    return rows


def _op_row(kind: str, fmt: str, fit: OpFit, before) -> OpRow:
    error = fit.error or {}
    return OpRow(
        op=kind,
        format=fmt,
        form=fit.form.name,
        kernel=fit.kernel,
        n=int(error.get("n", 0)),
        fit_median_pct=error.get("fit_median_pct"),
        left_out_median_pct=error.get("cv_median_pct"),
        left_out_p90_pct=error.get("cv_p90_pct"),
        bias_pct=error.get("bias_pct"),
        roofline_median_pct=before.get("roofline_median_pct"),
        default_median_pct=before.get("default_median_pct"),
        range={name: list(ends) for name, ends in fit.range.items()},
        trust=fit.trust,
        remark=remark(error, before),
    )


def remark(error, before) -> str:
    """Return in a few words what speaks against a fit, empty where nothing does.

    Examples
    --------
    >>> remark({"n": 8, "cv_median_pct": 6.0}, {"roofline_median_pct": 60.0})
    'few points'
    >>> remark({"n": 40, "cv_median_pct": 30.0}, {"roofline_median_pct": 28.0})
    'large error; no better than the roofline'
    """
    found, left_out = [], error.get("cv_median_pct")
    if error and error["n"] < FEW_POINTS:
        found.append("few points")
    if left_out is not None and left_out > LARGE_ERROR_PCT:
        found.append("large error")
    if left_out is not None and left_out > before.get("roofline_median_pct", np.inf):
        found.append("no better than the roofline")
    return "; ".join(found)


@dataclass(frozen=True)
class AcceptanceGroup:
    """Steps of one decoder and phase, which took no part in the fit: errors in percent."""

    decoder: str
    phase: str
    n: int
    median_pct: float
    p90_pct: float
    bias_pct: float
    roofline_median_pct: float
    inside80_pct: float


def acceptance_groups(rows: Sequence[Accepted]) -> list[AcceptanceGroup]:
    """Return the rows by decoder and phase, and all of them together last."""
    groups: dict[tuple[str, str], list[Accepted]] = {}
    for row in rows:
        groups.setdefault((row.decoder, row.phase), []).append(row)
    found = [_group(*key, members) for key, members in groups.items()]
    return [*found, _group("all", "", rows)] if len(found) > 1 else found


def _group(decoder: str, phase: str, rows: Sequence[Accepted]) -> AcceptanceGroup:
    errors = np.array([row.error_pct for row in rows])
    inside = [row.low_s <= row.measured_s <= row.high_s for row in rows]
    return AcceptanceGroup(
        decoder, phase, len(rows),
        median_pct=float(np.median(abs(errors))),
        p90_pct=float(np.quantile(abs(errors), 0.9)),
        bias_pct=float(np.median(errors)),
        roofline_median_pct=float(np.median([abs(row.roofline_error_pct) for row in rows])),
        inside80_pct=100 * sum(inside) / len(inside),
    )  # fmt: skip


def point_counts(points: Sequence[Point]) -> dict[str, int]:
    """Return how many points there are by what became of them; ``timed`` is the empty flag."""
    return dict(Counter(point.flag or "timed" for point in points))


def profile_record(profile: Profile, points: Sequence[Point]) -> dict:
    """Return a profile as plain data, as ``report --json`` prints it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": profile.id,
        "name": profile.name,
        "device": profile.device,
        "date": profile.date,
        "machine": asdict(profile.machine),
        "versions": dict(profile.versions),
        "protocol": asdict(profile.protocol),
        "ceilings": dict(profile.ceilings),
        "ops": [asdict(row) for row in op_rows(load_calibration(profile.path), profile)],
        "acceptance": [asdict(group) for group in acceptance_groups(profile.acceptance)],
        "variants": [asdict(row) for row in variant_rows(points)],
        "points": point_counts(points),
        "skipped": [asdict(row) for row in profile.skipped],
    }


def calibration_record(calibration: Calibration) -> dict:
    """Return a calibration that no run wrote as plain data: its ops only."""
    return {
        "schema_version": SCHEMA_VERSION,
        "id": calibration.id,
        "name": calibration.name,
        "device": calibration.device,
        "ops": [asdict(row) for row in op_rows(calibration)],
    }
