"""Dated rental prices per device-hour, each with its provider and source."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

from calc.specs.errors import SpecError
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml

#: rows seen longer ago than this are marked stale
STALE_AFTER_DAYS = 180


@dataclass(frozen=True, eq=False)
class Price:
    """One price row: what a provider asks for one device for one hour. [USD/h]"""

    provider: str
    device: str
    term: str
    fact: Fact
    region: str = ""

    @property
    def usd_per_hour(self) -> float:
        """Price of one device for one hour. [USD/h]"""
        return self.fact.value

    def is_stale(self, today: date | None = None) -> bool:
        """Whether the row was seen more than 180 days ago."""
        return ((today or date.today()) - seen_on(self.fact.date)).days > STALE_AFTER_DAYS


def seen_on(text: str) -> date:
    """Return the day of ``2026``, ``2026-05`` or ``2026-05-20``; the earliest day meant.

    Examples
    --------
    >>> seen_on("2026-05").isoformat()
    '2026-05-01'
    """
    parts = [int(part) for part in text.split("-")]
    return date(*[*parts, 1, 1][:3])


@lru_cache(maxsize=1)
def all_prices() -> tuple[Price, ...]:
    """Every shipped price row."""
    return tuple(price for path in spec_files("prices").values() for price in _prices_in(path))


def _prices_in(path: Path) -> list[Price]:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("prices", data, path)
    sources = sources_from(data["sources"])
    return [
        Price(
            provider=data["provider"],
            device=row["device"],
            term=row["term"],
            region=row.get("region", ""),
            fact=fact_from({"unit": "USD/h", **row}, sources, f"{path}: prices.{index}"),
        )
        for index, row in enumerate(data["prices"])
    ]


def device_price(device_id: str, term: str = "on-demand") -> Price | None:
    """Return the price a calculation uses by default: the median row of a term.

    The lower median of all rows that are not ``assumed`` (of all rows where only such
    exist); ``None`` where no price is known.

    Raises
    ------
    SpecError
        If the term is not known.
    """
    allowed = ("on-demand", "spot", "reserved", "capacity-block", "market")
    if term not in allowed:
        raise SpecError(f"price term {term!r} is not known: allowed are {', '.join(allowed)}")
    rows = [price for price in all_prices() if price.device == device_id and price.term == term]
    rows = [price for price in rows if price.fact.kind != "assumed"] or rows
    rows.sort(key=lambda price: price.usd_per_hour)
    return rows[(len(rows) - 1) // 2] if rows else None
