"""What a run keeps on disk while it measures: a journal of visits, and finished points.

Every visit is written before the next one starts; a run that is killed goes on from there.
"""

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from validate.probes.base import Case
from validate.profile import POINTS_SUFFIX, Point, PointsFile, read_points

#: fewest visits of a point that a fit may use
LEAST_VISITS = 2
#: flags that --resume tries again
AGAIN = ("no-time", "few-visits")


@dataclass
class Record:
    """What is known of one case: its check, and the seconds, calls and load of its visits."""

    kernel: str = ""
    error: float = 0.0
    limit: float = 0.0
    checked: bool = False
    seconds: list[float] = field(default_factory=list)
    calls: int = 0
    loads: list[float] = field(default_factory=list)


class Store:
    """Journal and points of one run.

    Parameters
    ----------
    folder : Path
    run_id : str
        Name of the files.
    work : callable
        Case -> ``(op kind, format, flops, bytes)``.
    resume : bool
        Go on from what is there; else older files are moved aside, never overwritten.
    """

    def __init__(self, folder: Path, run_id: str, work, resume: bool = False):
        folder.mkdir(parents=True, exist_ok=True)
        self.points_path = folder / f"{run_id}{POINTS_SUFFIX}"
        self.journal_path = folder / f"{run_id}.visits.jsonl"
        self._work = work
        self.records: dict[str, Record] = {}
        self.points: dict[str, Point] = {}
        if resume:
            self._read()
        else:
            self._move_aside(folder, run_id)
        self._file = PointsFile(self.points_path)

    def _move_aside(self, folder: Path, run_id: str) -> None:
        if self.points_path.exists():
            stamp = datetime.fromtimestamp(self.points_path.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%S")
            os.replace(self.points_path, folder / f"{run_id}.{stamp}{POINTS_SUFFIX}")
        self.journal_path.unlink(missing_ok=True)

    def _read(self) -> None:
        if self.points_path.exists() and self.points_path.stat().st_size:
            self.points = {point.case: point for point in read_points(self.points_path)}
        if self.journal_path.exists():
            text = self.journal_path.read_text(encoding="utf-8", errors="replace")
            for line in text.splitlines():
                self._replay(line)
            if text and not text.endswith("\n"):  # torn by a kill
                with open(self.journal_path, "a", encoding="utf-8") as stream:
                    stream.write("\n")

    def _replay(self, line: str) -> None:
        try:
            row = json.loads(line)
            record = self.record(row["case"])
            if "seconds" in row:
                record.seconds.append(row["seconds"])
                record.loads.append(row["load"])
                record.calls = row["calls"]
            else:
                record.kernel, record.error, record.limit = row["kernel"], row["error"], row["limit"]
                record.checked = True
        except (ValueError, KeyError, TypeError):
            return

    def record(self, key: str) -> Record:
        """Return the record of a case."""
        return self.records.setdefault(key, Record())

    def is_done(self, case: Case) -> bool:
        """Whether a case needs nothing more."""
        point = self.points.get(case.key)
        return point is not None and point.flag not in AGAIN

    def visits(self, case: Case) -> int:
        """Visits of a case so far."""
        return len(self.record(case.key).seconds)

    def _write(self, row: dict) -> None:
        with open(self.journal_path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")

    def checked(self, case: Case, kernel: str, error: float, limit: float) -> None:
        """Keep the result of a check."""
        record = self.record(case.key)
        record.kernel, record.error, record.limit, record.checked = kernel, error, limit, True
        self._write({"case": case.key, "kernel": kernel, "error": error, "limit": limit})

    def visited(self, case: Case, seconds: float, calls: int, load: float) -> None:
        """Keep the time of a visit."""
        record = self.record(case.key)
        record.seconds.append(seconds)
        record.loads.append(load)
        record.calls = calls
        self._write({"case": case.key, "seconds": seconds, "calls": calls, "load": round(load, 2)})

    def finish(self, case: Case, flag: str = "", note: str = "") -> Point:
        """Append the point of a case: what its visits say, or why there are none."""
        record = self.record(case.key)
        timed = flag in ("", "few-visits")
        if flag == "few-visits" and len(record.seconds) < LEAST_VISITS:
            flag, timed = "no-time", False
        point = self._point(case, record, flag, note)
        if timed:
            low, median, high = np.quantile(record.seconds, [0.25, 0.5, 0.75])
            point = replace(
                point, seconds_min=min(record.seconds), seconds_p25=float(low), seconds_median=float(median),
                seconds_p75=float(high), n=len(record.seconds), calls=record.calls,
            )  # fmt: skip
        old = self.points.get(case.key)
        if old and (old.flag, old.n) == (point.flag, point.n):
            return old
        self._file.append(point)
        self.points[case.key] = point
        return point

    def _point(self, case: Case, record: Record, flag: str, note: str) -> Point:
        kind, fmt, flops, moved = self._work(case)
        return Point(
            case=case.key, probe=case.probe, op=kind, format=fmt, kernel=record.kernel or case.kernel,
            dtype=case.dtype, sizes=dict(case.sizes), flops=flops, bytes=moved, error=record.error,
            limit=record.limit, flag=flag, note=" ".join(note.split())[:200],
            load=float(np.mean(record.loads)) if record.loads else 0.0,
            when=datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip

    def close(self, done: bool, cases: Iterable[Case] = ()) -> None:
        """End the run; the journal goes when every case is done."""
        if done and all(self.is_done(case) for case in cases):
            self.journal_path.unlink(missing_ok=True)
