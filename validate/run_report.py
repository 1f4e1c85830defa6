"""What a run shows: progress while it measures, and the table of errors before and after."""

import sys
from collections.abc import Iterable
from dataclasses import asdict

import numpy as np

from calc.cli.text import table
from validate.profile import Accepted, Point, Profile
from validate.reports.variants import HEADER, variant_cells, variant_rows


class Progress:
    """One line that says how far a run is and how long it takes yet; lines far apart where none can move.

    Parameters
    ----------
    stream : file
        Where it is shown, usually standard error.
    """

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._moves = self._stream.isatty()
        self._round, self._cases, self._target, self._done, self._shown = 0, 0, 0, 0, -1

    def __call__(self, event: str, **about) -> None:
        """Show an event of the protocol."""
        if event == "round":
            self._round, self._cases, self._target = about["round"], about["cases"], about["target"]
            self._done = 0
        elif event == "visit":
            self._done += 1
            self._show(about["left_s"])
        elif event == "fail":
            self.line(f"{about['case']}: {about['flag']}: {about['note']}")
        elif event == "say":
            self.line(about["text"])

    def _show(self, left_s: float) -> None:
        share = min(1.0, (self._round - 1 + self._done / max(self._cases, 1)) / max(self._target, 1))
        text = f"round {self._round}, {self._done}/{self._cases} cases, {_clock(left_s)} left"
        if self._moves:
            full = round(24 * share)
            self._stream.write(f"\r[{'#' * full}{'.' * (24 - full)}] {text} ")
            self._stream.flush()
        elif int(10 * share) > self._shown:
            self._shown = int(10 * share)
            self.line(f"{100 * share:3.0f} %  {text}")

    def line(self, text: str) -> None:
        """Show a line of its own."""
        start = "\r\033[K" if self._moves else ""
        self._stream.write(f"{start}{text}\n")
        self._stream.flush()


def _clock(seconds: float) -> str:
    """Return minutes and seconds.

    Examples
    --------
    >>> _clock(125.0)
    '2:05'
    """
    whole = max(0, int(seconds))
    return f"{whole // 60}:{whole % 60:02d}"


def errors_table(profile: Profile) -> str:
    """Return the table of kinds: errors of shapes left out, beside those without the profile."""
    header = ["op", "format", "form", "points", "after %", "p90 %", "before %", "roofline %"]
    rows = [
        [
            kind, fmt, row["form"], f"{row['error']['n']}", _pct(row["error"]["cv_median_pct"]),
            _pct(row["error"]["cv_p90_pct"]), _pct(row["before"]["default_median_pct"]),
            _pct(row["before"]["roofline_median_pct"]),
        ]
        for kind, formats in profile.ops.items()
        for fmt, row in formats.items()
    ]  # fmt: skip
    return table(header, rows, right=(3, 4, 5, 6, 7))


def _pct(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def acceptance_table(rows: Iterable[Accepted]) -> str:
    """Return the table of decoders by phase: median errors of the prediction and of the roofline."""
    rows = list(rows)
    groups: dict[str, list[Accepted]] = {}
    for row in rows:
        groups.setdefault(f"{row.decoder} {row.phase}", []).append(row)
    groups["all"] = rows
    header = ["decoder", "steps", "median %", "p90 %", "bias %", "in 80 % range", "roofline %"]
    return table(
        header,
        [_accepted(name, members) for name, members in groups.items() if members],
        right=(1, 2, 3, 4, 5, 6),
    )


def _accepted(name: str, rows: list[Accepted]) -> list[str]:
    errors = np.array([row.error_pct for row in rows])
    inside = np.mean([row.low_s <= row.measured_s <= row.high_s for row in rows])
    roofline = np.median([abs(row.roofline_error_pct) for row in rows])
    return [
        name, f"{len(rows)}", f"{np.median(abs(errors)):.1f}", f"{np.quantile(abs(errors), 0.9):.1f}",
        f"{np.median(errors):+.1f}", f"{100 * inside:.0f}", f"{roofline:.1f}",
    ]  # fmt: skip


def variants_table(points: Iterable[Point]) -> str:
    """Return the table of other kernels beside the fitted ones; empty where none was asked for."""
    rows = [variant_cells(asdict(row)) for row in variant_rows(list(points))]
    return table(HEADER, rows, right=(3, 4, 5, 6)) if rows else ""


def summary(profile: Profile) -> list[str]:
    """Return the lines after the tables: what was skipped, how steady it was, how to use it."""
    p = profile.protocol
    lines = []
    if profile.skipped:
        lines.append(f"not measured or wrong: {len(profile.skipped)}")
        lines += [
            f"  {row.probe}{' ' + row.case if row.case else ''}: {row.reason}" for row in _by_reason(profile)
        ]
    state = "steady" if p.steady else "unsteady: times are less certain"
    lines.append(
        f"{p.wall_s:.0f} s, {p.rounds} rounds, load {p.load_before:.1f} before and {p.load_after:.1f} after, "
        f"{profile.machine.threads} threads, drift {p.drift_pct:.0f} % ({state}), "
        f"{p.stalls} stalled visits repeated"
    )
    if p.stopped:
        lines.append(f"stopped early: {p.stopped}; --resume goes on")
    return lines


def _by_reason(profile: Profile):
    """One row for each probe and reason."""
    seen = {}
    for row in profile.skipped:
        seen.setdefault((row.probe, row.reason), row)
    return seen.values()
