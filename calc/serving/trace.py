"""Request traces: CSV files read row by row, with one clear line about a bad one."""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from calc.serving.requests import Requests
from calc.specs.errors import SpecError, short

#: column names of the trace formats that are known: (arrival, prompt, output)
FORMATS = (("time", "prompt", "output"), ("TIMESTAMP", "ContextTokens", "GeneratedTokens"))
_MOST_TOKENS = 2**24


def read_trace(path: str | Path, limit: int | None = None) -> Requests:
    """Return the requests of a CSV trace, in order of arrival.

    Parameters
    ----------
    path : str or Path
        CSV with a header: ``time`` (seconds, or a date and time), ``prompt`` and ``output``
        (tokens), or the columns of the Azure LLM inference traces, ``TIMESTAMP``,
        ``ContextTokens`` and ``GeneratedTokens``; other columns are ignored.
    limit : int, optional
        Read so many requests only.

    Raises
    ------
    SpecError
        If the file cannot be read, or names the line of the first bad value.
    """
    rows = np.array(list(_rows(Path(path), limit)), dtype=float).reshape(-1, 3)
    if not len(rows):
        raise SpecError(f"{short(str(path))}: no requests; allowed are files with at least one")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return Requests(rows[:, 0] - rows[0, 0], rows[:, 1].astype(int), rows[:, 2].astype(int))


def _rows(path: Path, limit: int | None) -> Iterator[tuple[float, int, int]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = csv.reader(stream)
            columns = _columns(path, next(lines, []))
            for values in lines:
                if limit is not None and limit <= 0:
                    return
                if values:
                    yield _request(path, lines.line_num, columns, values)
                    limit = None if limit is None else limit - 1
    except OSError as error:
        raise SpecError(f"{short(str(path))} cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(f"{short(str(path))} is not a CSV text file ({short(str(error))})") from None


def _columns(path: Path, header: list[str]) -> tuple[tuple[str, int], ...]:
    """Where time, prompt and output are."""
    names = [name.strip() for name in header]
    for wanted in FORMATS:
        if all(name in names for name in wanted):
            return tuple((name, names.index(name)) for name in wanted)
    allowed = " or ".join(",".join(wanted) for wanted in FORMATS)
    raise SpecError(f"{short(str(path))}, line 1: columns {short(','.join(names))!r}; allowed are {allowed}")


def _request(path: Path, line: int, columns, values: list[str]) -> tuple[float, int, int]:
    where = f"{short(str(path))}, line {line}"
    (time, at), *tokens = columns
    if len(values) <= max(place for _, place in columns):
        raise SpecError(f"{where}: {len(values)} values; allowed are as many as columns")
    return (
        _seconds(where, time, values[at]),
        *(_tokens(where, name, values[place]) for name, place in tokens),
    )


def _seconds(where: str, name: str, text: str) -> float:
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        seconds = _moment(text)
    if not -1e15 < seconds < 1e15:
        raise SpecError(f"{where}: {name} {short(repr(text))}; allowed are seconds or a date and time")
    return seconds


def _moment(text: str) -> float:
    """Seconds of a date and time, NaN where it is none; digits beyond a microsecond count as well."""
    whole, dot, rest = text.partition(".")
    digits = len(rest) - len(rest.lstrip("0123456789"))
    try:
        moment = datetime.fromisoformat(whole + rest[digits:])
        zero = datetime(1970, 1, 1, tzinfo=moment.tzinfo)
        return (moment - zero).total_seconds() + (float(f"0.{rest[:digits] or 0}") if dot else 0.0)
    except ValueError:
        return float("nan")


def _tokens(where: str, name: str, text: str) -> int:
    try:
        tokens = int(text)
    except ValueError:
        tokens = 0
    if not 1 <= tokens <= _MOST_TOKENS:
        allowed = f"whole numbers from 1 to {_MOST_TOKENS}"
        raise SpecError(f"{where}: {name} {short(repr(text))}; allowed are {allowed}")
    return tokens
