"""Facts: numbers that know their unit, kind, source and date; and strict YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from pathlib import Path

from calc.specs.errors import SpecError, short
from calc.specs.units import UNITS, to_si

#: how a number is known, from best to weakest
KINDS = {
    "published": "printed by the vendor or author, and that page was read",
    "measured": "measured or reported by the device itself",
    "derived": "follows from other facts by the arithmetic in the note",
    "secondary": "another project's figure; the vendor's page was not read",
    "assumed": "a judgement or a figure from memory, not backed by a source that was read",
}


@dataclass(frozen=True)
class Source:
    """Where facts were read: title, address and date."""

    id: str
    title: str
    url: str = ""
    date: str = ""
    note: str = ""


@dataclass(frozen=True)
class Fact:
    """One number in SI units with its origin.

    ``value`` is in ``unit`` (SI); ``printed`` keeps number and unit as the source has them.
    ``sources`` are ids in the file's source list. ``alternatives`` are losing values with
    the reason for losing.
    """

    value: float
    unit: str
    kind: str
    sources: tuple[Source, ...] = ()
    printed: str = ""
    date: str = ""
    note: str = ""
    alternatives: tuple[Mapping, ...] = field(default=(), repr=False)

    def __float__(self) -> float:
        return float(self.value)


def fact_from(row: Mapping, sources: Mapping[str, Source], where: str) -> Fact:
    """Return the Fact of one YAML row ``{value, unit, kind, source, date, note, alternatives}``.

    Raises
    ------
    SpecError
        If the unit or kind is not known or a source id is not in the file's list.
    """
    unit, kind = row["unit"], row["kind"]
    if unit not in UNITS:
        raise SpecError(f"{where}: unit {short(unit)!r} is not known: allowed are {', '.join(UNITS)}")
    if kind not in KINDS:
        raise SpecError(f"{where}: kind {kind!r} is not known: allowed are {', '.join(KINDS)}")
    ids = row.get("source") or ()
    ids = (ids,) if isinstance(ids, str) else tuple(ids)
    missing = [name for name in ids if name not in sources]
    if missing:
        raise SpecError(f"{where}: source {short(missing[0])!r} is not in the file's list of sources")
    if not ids and kind not in ("assumed", "derived"):
        raise SpecError(f"{where}: a {kind} figure needs a source")
    for loser in row.get("alternatives") or ():
        _check_alternative(loser, sources, where)
    return Fact(
        value=to_si(row["value"], unit),
        unit=UNITS[unit][0],
        kind=kind,
        sources=tuple(sources[name] for name in ids),
        printed=f"{row['value']:,} {unit}",
        date=str(row.get("date") or ""),
        note=row.get("note") or "",
        alternatives=tuple(row.get("alternatives") or ()),
    )


def _check_alternative(row: Mapping, sources: Mapping[str, Source], where: str) -> None:
    unit = row["unit"]
    if unit not in UNITS:
        raise SpecError(
            f"{where}: alternatives: unit {short(unit)!r} is not known: allowed are {', '.join(UNITS)}"
        )
    ids = row.get("source") or ()
    for name in (ids,) if isinstance(ids, str) else ids:
        if name not in sources:
            raise SpecError(
                f"{where}: alternatives: source {short(name)!r} is not in the file's list of sources"
            )


def sources_from(rows: Mapping[str, Mapping]) -> dict[str, Source]:
    """Return the source list of a file by id."""
    return {name: Source(id=name, **{k: str(v) for k, v in row.items()}) for name, row in rows.items()}


def data_folder(*parts: str) -> Path:
    """Return a folder of shipped YAML files, in a checkout or an installed package."""
    return Path(str(resources.files(".".join(parts))))


@lru_cache
def spec_files(*parts: str) -> dict[str, Path]:
    """Return the shipped YAML files of a folder by id (the file's name without ``.yaml``)."""
    return {path.stem: path for path in sorted(data_folder(*parts).glob("*.yaml"))}
