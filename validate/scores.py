"""Predicted beside measured: rows, one line a group, and the JSON object that all commands print."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from calc.cli.text import table

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Score:
    """One figure: measured, predicted with its 80 % interval, and why it could not be answered.

    ``row`` is the data row of the input, counted from 0. ``low`` and ``high`` are None where a
    metric has no interval, ``predicted`` is None with a ``reason`` where there is no answer.
    """

    row: int
    id: str
    group: str
    metric: str
    measured: float
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    trust: str | None = None
    reason: str | None = None

    @property
    def error_pct(self) -> float | None:
        """Signed error in percent of the measured value.

        Examples
        --------
        >>> Score(0, "a", "vllm", "weights_bytes", measured=100.0, predicted=103.0).error_pct
        3.0
        """
        if self.predicted is None or not self.measured:
            return None
        return 100 * (self.predicted - self.measured) / self.measured

    @property
    def is_inside(self) -> bool | None:
        """Whether the measured value lies in the 80 % interval; None without one."""
        if self.predicted is None or self.low is None or self.high is None:
            return None
        return self.low <= self.measured <= self.high


@dataclass(frozen=True)
class Group:
    """Scores of one group and metric: median absolute error, 90th percentile, median signed error."""

    group: str
    metric: str
    n: int
    answered: int
    mdape_pct: float | None
    p90_pct: float | None
    bias_pct: float | None
    inside80_pct: float | None


def grouped(scores: Iterable[Score]) -> list[Group]:
    """Return one Group for each group and metric, in order of appearance.

    Examples
    --------
    >>> rows = [Score(i, "a", "vllm", "cache_tokens", 100.0, 100.0 + i) for i in range(3)]
    >>> grouped(rows)[0].mdape_pct, grouped(rows)[0].bias_pct
    (1.0, 1.0)
    """
    parts: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        parts.setdefault((score.group, score.metric), []).append(score)
    return [_group(*key, rows) for key, rows in parts.items()]


def _group(group: str, metric: str, rows: Sequence[Score]) -> Group:
    errors = np.array([row.error_pct for row in rows if row.error_pct is not None])
    inside = [row.is_inside for row in rows if row.is_inside is not None]
    has = bool(errors.size) and metric != "fits"  # a label has no error in percent
    return Group(
        group=group,
        metric=metric,
        n=len(rows),
        answered=sum(row.predicted is not None for row in rows),
        mdape_pct=float(np.median(abs(errors))) if has else None,
        p90_pct=float(np.percentile(abs(errors), 90)) if has else None,
        bias_pct=float(np.median(errors)) if has else None,
        inside80_pct=100 * sum(inside) / len(inside) if inside else None,
    )


def as_record(scores: Sequence[Score], calibration: str = "default") -> dict:
    """Return the JSON object of ``score``, ``kernels`` and ``memory``."""
    return {
        "schema_version": SCHEMA_VERSION,
        "calibration": calibration,
        "groups": [asdict(group) for group in grouped(scores)],
        "rows": [asdict(score) for score in scores],
    }


def as_table(scores: Sequence[Score]) -> str:
    """Return one line a group and metric for people."""
    header = ["group", "metric", "n", "answered", "median %", "p90 %", "bias %", "in 80 % range"]
    rows = [
        [
            g.group, g.metric, g.n, g.answered, _percent(g.mdape_pct), _percent(g.p90_pct),
            _percent(g.bias_pct, "+"), _percent(g.inside80_pct),
        ]
        for g in grouped(scores)
    ]  # fmt: skip
    return table(header, rows, right=tuple(range(2, len(header))))


def _percent(value: float | None, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.2f}"
