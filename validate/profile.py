"""Profiles: what a run on one machine leaves behind, as two files.

``<id>.yaml`` is a calibration that ``calc.load_calibration`` reads, with the machine, the
protocol, errors before and after, and the decoders it was accepted with. ``<id>.points.csv``
holds one row for each measured case; rows are appended, the last row of a case counts.
"""

import csv
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import calc
from calc.specs.schema import check_file
from calc.specs.strict_yaml import read_yaml
from validate.yaml_text import document

#: versions of the files
PROFILE, POINTS_SUFFIX = 1, ".points.csv"


@dataclass(frozen=True)
class Fingerprint:
    """The machine that was measured; ``host`` is its processor's name."""

    kind: str  # cpu, cuda, rocm or mps
    name: str
    processors: int
    memory_bytes: float
    cache_bytes: float
    threads: int
    host: str = ""
    driver: str = ""


@dataclass(frozen=True)
class Protocol:
    """How it was measured, and how steady the machine was."""

    statistic: str
    budget_s: float
    wall_s: float
    rounds: int
    clock: str
    steady: bool
    drift_pct: float
    stalls: int
    load_before: float
    load_after: float
    stopped: str = ""
    note: str = ""


@dataclass(frozen=True)
class Accepted:
    """One step of a decoder that took no part in the fit, measured and predicted. [s]"""

    decoder: str
    phase: str  # prefill or decode
    batch: int
    tokens: int  # new ones of each sequence
    past: int  # cached ones of each sequence
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    roofline_s: float
    trust: str
    median_s: float = 0.0  # median of the visits; measured_s is the minimum

    @property
    def error_pct(self) -> float:
        """Signed error of the prediction in percent of what was measured."""
        return 100 * (self.predicted_s / self.measured_s - 1)

    @property
    def roofline_error_pct(self) -> float:
        """Signed error of the roofline with measured ceilings."""
        return 100 * (self.roofline_s / self.measured_s - 1)


@dataclass(frozen=True)
class Skipped:
    """A probe (or one of its cases) without a measurement, or with a wrong kernel, and why."""

    probe: str
    reason: str
    case: str = ""


@dataclass(frozen=True)
class Profile:
    """A profile as read from its file.

    ``ops`` maps kind and format to a row of the file: ``form``, ``parameters``, ``error``
    (after: shapes left out of the fit), ``before`` (``roofline_median_pct``,
    ``default_median_pct``), ``range``, ``kernel``. ``device`` is the id of a shipped device, or
    that of ``own_device``: the machine as a device file.
    """

    id: str
    name: str
    device: str
    date: str
    machine: Fingerprint
    versions: Mapping[str, str]
    protocol: Protocol
    ceilings: Mapping[str, float]
    ops: Mapping[str, Mapping[str, Mapping]]
    acceptance: tuple[Accepted, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    points: str = ""
    own_device: Mapping | None = None
    path: str = ""

    @property
    def points_path(self) -> Path:
        """Path of the points beside the profile."""
        return Path(self.path).parent / self.points


def profile_text(profile: Profile) -> str:
    """Return the YAML of a profile."""
    software = ", ".join(f"{name} {version}" for name, version in profile.versions.items())
    data = {
        "id": profile.id,
        "name": profile.name,
        "trust": "calibrated",
        "device": profile.device,
        "date": profile.date,
        "software": software,
        "note": "Written by python -m validate run; errors are of shapes left out of the fit",
        "sources": {"points": {"title": "python -m validate run on this machine", "date": profile.date}},
        "profile": PROFILE,
        "machine": asdict(profile.machine),
        "versions": dict(profile.versions),
        "protocol": asdict(profile.protocol),
        "ceilings": dict(profile.ceilings),
        "ops": {kind: {fmt: dict(row) for fmt, row in rows.items()} for kind, rows in profile.ops.items()},
        "acceptance": [asdict(row) for row in profile.acceptance],
        "skipped": [asdict(row) for row in profile.skipped],
        "points": profile.points,
    }
    if profile.own_device:
        data["own_device"] = dict(profile.own_device)
    return document(data)


def write_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile: whole or not at all."""
    write_whole(Path(path), profile_text(profile))


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader finds the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with open(beside, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(beside, path)


def read_profile(path: str | Path) -> Profile:
    """Return a profile from its YAML file.

    Raises
    ------
    SpecError
        If the file cannot be read, is not valid, or is a calibration without a machine.
    """
    data = read_yaml(Path(path))
    check_file("calibration", data, Path(path))
    missing = [name for name in ("profile", "machine", "protocol") if not data.get(name)]
    if missing:
        raise calc.SpecError(f"{path}: {missing[0]}: missing; a profile of python -m validate run has it")
    return Profile(
        id=data["id"],
        name=data["name"],
        device=data.get("device", ""),
        date=data.get("date", ""),
        machine=Fingerprint(**data["machine"]),
        versions=data.get("versions", {}),
        protocol=Protocol(**data["protocol"]),
        ceilings=data.get("ceilings", {}),
        ops=data.get("ops", {}),
        acceptance=tuple(Accepted(**row) for row in data.get("acceptance", ())),
        skipped=tuple(Skipped(**row) for row in data.get("skipped", ())),
        points=data.get("points", ""),
        own_device=data.get("own_device"),
        path=str(path),
    )


def mismatch(profile: Profile, machine: Fingerprint, versions: Mapping[str, str] | None = None) -> str:
    """Return in one line how a machine differs from the profile's; empty where it does not.

    Compared are kind, name, memory (within 5 %), processors and threads, and of software the
    minor version of torch.
    """
    was, found = profile.machine, []
    for name in ("kind", "name", "processors", "threads"):
        before, now = getattr(was, name), getattr(machine, name)
        if before != now:
            found.append(f"{name} {before} then, {now} now")
    if abs(machine.memory_bytes / was.memory_bytes - 1) > 0.05:
        found.append(f"memory {was.memory_bytes / 1e9:.0f} GB then, {machine.memory_bytes / 1e9:.0f} GB now")
    before, now = (_minor((each or {}).get("torch", "")) for each in (profile.versions, versions))
    if before and now and before != now:
        found.append(f"torch {before} then, {now} now")
    return f"{profile.id} was measured elsewhere: " + "; ".join(found) if found else ""


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


@dataclass(frozen=True)
class Point:
    """One measured case: a row of the points file.

    ``case`` is its key (probe, dtype, sizes, and before them the kernel of a variant); ``op`` the
    kind and ``format`` the format under which calibrations keep it. ``seconds_min`` is the
    smallest of ``n`` block medians, beside their quartiles; ``calls`` is of one block. ``error``
    is the relative error against the float64 reference, ``limit`` what is allowed. ``flag`` is empty for
    points a fit may use, else one of ``FLAGS``; ``load`` the mean load average of the visits.
    """

    case: str
    probe: str
    op: str
    format: str
    kernel: str
    dtype: str
    sizes: Mapping[str, float]
    seconds_min: float = 0.0
    seconds_p25: float = 0.0
    seconds_median: float = 0.0
    seconds_p75: float = 0.0
    n: int = 0
    calls: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    error: float = 0.0
    limit: float = 0.0
    flag: str = ""
    note: str = ""
    load: float = 0.0
    when: str = ""

    @property
    def correct(self) -> bool:
        """Whether the kernel's result was right where it was checked."""
        return self.flag != "wrong"

    @property
    def variant(self) -> str:
        """The kernel that was asked for to be compared with the plain one; empty for the plain one.

        Examples
        --------
        >>> sizes = {"rows": 1, "width": 64}
        >>> Point("norm bf16 triton_norm rows=1 width=64", "norm", "", "", "", "bf16", sizes).variant
        'triton_norm'
        """
        words = self.case.removeprefix(f"{self.probe} {self.dtype} ").split()
        named = words and self.case.startswith(f"{self.probe} ") and "=" not in words[0]
        return words[0] if named else ""

    @property
    def plain(self) -> bool:
        """Whether a fit may use it: it has a time, of the kernel that is fitted."""
        return self.usable and not self.variant

    @property
    def usable(self) -> bool:
        """Whether it has a time of a right kernel."""
        return self.flag in ("", "few-visits") and self.seconds_min > 0


#: what a flag means; points with any but ``few-visits`` have no time
FLAGS = {
    "wrong": "result differs from the reference, or holds NaN: not timed",
    "out-of-memory": "the device ran out of memory",
    "hung": "no answer within the time allowed; the process was stopped",
    "died": "the process ended by itself",
    "failed": "the kernel raised an error",
    "unavailable": "this machine or build does not have the kernel",
    "no-time": "left out to keep the budget",
    "few-visits": "stopped before all visits: usable, less certain",
}

COLUMNS = [each.name for each in fields(Point)]


class PointsFile:
    """The points of a run: appended one by one, on disk before the next is measured."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def append(self, point: Point) -> None:
        """Append a row and wait until it is on disk; a torn last line is closed first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+", newline="", encoding="utf-8") as stream:
            new = stream.tell() == 0
            if not new and not _ends_a_line(self.path):
                stream.write("\r\n")
            writer = csv.writer(stream)
            if new:
                writer.writerow(COLUMNS)
            writer.writerow([_cell(getattr(point, name)) for name in COLUMNS])
            stream.flush()
            os.fsync(stream.fileno())


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _cell(value) -> str:
    if isinstance(value, Mapping):
        return sizes_text(value)
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def sizes_text(sizes: Mapping) -> str:
    """Return sizes as one cell.

    Examples
    --------
    >>> sizes_text({"m": 16, "n": 4096.0}), sizes_of("m=16 n=4096")
    ('m=16 n=4096', {'m': 16, 'n': 4096})
    """
    return " ".join(
        f"{name}={value:g}" if value < 1e5 else f"{name}={int(value)}" for name, value in sizes.items()
    )


def sizes_of(text: str) -> dict[str, float]:
    """Return the sizes in a cell; whole numbers as integers."""
    pairs = (each.split("=") for each in text.split())
    numbers = {name: float(value) for name, value in pairs}
    return {name: int(value) if value == int(value) else value for name, value in numbers.items()}


def read_points(path: str | Path) -> list[Point]:
    """Return the last row of every case of a points file; torn lines are passed over.

    Raises
    ------
    SpecError
        If the file cannot be read or lacks a column.
    """
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as stream:
            rows = list(csv.reader(stream))
    except OSError as error:
        raise calc.SpecError(f"{path}: cannot be read ({error.strerror or error})") from None
    if not rows or set(COLUMNS) - set(rows[0]):
        missing = sorted(set(COLUMNS) - set(rows[0] if rows else ()))
        raise calc.SpecError(f"{path}: not a file of points; missing columns: {', '.join(missing)}")
    found = {}
    for row in rows[1:]:
        point = _point(dict(zip(rows[0], row, strict=False)), len(row) == len(rows[0]))
        if point:
            found[point.case] = point
    return list(found.values())


_KINDS = {each.name: each.type for each in fields(Point)}


def _point(row: Mapping[str, str], whole: bool) -> Point | None:
    try:
        if not whole or not row["when"]:
            return None
        return Point(**{name: _read(_KINDS[name], row[name]) for name in COLUMNS})
    except (ValueError, KeyError):
        return None


def _read(kind, text: str):
    if kind in (int, float):
        return kind(text)
    return text if kind is str else sizes_of(text)


__all__ = [
    "COLUMNS", "FLAGS", "POINTS_SUFFIX", "Accepted", "Fingerprint", "Point", "PointsFile", "Profile",
    "Protocol", "Skipped", "mismatch", "profile_text", "read_points", "read_profile", "sizes_of",
    "sizes_text", "write_profile", "write_whole",
]  # fmt: skip
