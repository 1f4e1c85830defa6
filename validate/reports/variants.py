"""Variants beside the kernel that was fitted: ratios of times on the same shapes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from validate.profile import Point, sizes_text


@dataclass(frozen=True)
class VariantRow:
    """One other kernel of a probe: its times over those of the kernel that was fitted.

    ``kernel`` is the variant, ``beside`` the fitted kernel (of the same shapes), ``n`` the shapes
    that both have a time for; ratios are None where there is none, and ``reason`` says why.
    """

    probe: str
    kernel: str
    beside: str
    n: int
    ratio_median: float | None
    ratio_low: float | None
    ratio_high: float | None
    reason: str = ""


HEADER = ["probe", "kernel", "beside", "shapes", "time ratio", "from", "to", "remark"]
LEGEND = """Other kernels on shapes of the fitted one. A ratio below 1 says that the other kernel is faster;
none of them took part in a fit."""


def variant_rows(points: Sequence[Point]) -> list[VariantRow]:
    """Return a row for each probe and other kernel.

    Parameters
    ----------
    points : sequence of Point
        All of a run.
    """
    plain = {_shape(point): point for point in points if point.plain}
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.variant:
            groups.setdefault((point.probe, point.variant), []).append(point)
    return [_row(*key, members, plain) for key, members in groups.items()]


def _shape(point: Point) -> tuple[str, str, str]:
    return point.probe, point.dtype, sizes_text(point.sizes)


def _row(probe: str, kernel: str, members: list[Point], plain: Mapping) -> VariantRow:
    timed = [p for p in members if p.usable]
    pairs = [(p, plain[_shape(p)]) for p in timed if _shape(p) in plain]
    ratios = np.array([p.seconds_min / other.seconds_min for p, other in pairs])
    bad = [p for p in members if not p.usable]
    worst = next((p for p in bad if p.flag == "wrong"), bad[0] if bad else None)
    reason = f"{worst.flag}: {worst.note}" if worst else ""
    if not pairs and not reason:
        reason = "the fitted kernel has no time for these shapes"
    found = [float(f(ratios)) for f in (np.median, np.min, np.max)] if pairs else [None] * 3
    beside = ", ".join(sorted({other.kernel for _, other in pairs}))
    return VariantRow(probe, kernel, beside, len(pairs), *found, reason)


def variant_cells(row: Mapping) -> list[str]:
    """Return the cells of a row of ``variant_rows`` as plain data, in the order of ``HEADER``."""
    ratios = [
        "-" if row[name] is None else f"{row[name]:.2f}"
        for name in ("ratio_median", "ratio_low", "ratio_high")
    ]
    return [row["probe"], row["kernel"], row["beside"] or "-", str(row["n"]), *ratios, row["reason"]]
