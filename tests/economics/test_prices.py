"""Prices: every row dated, sourced and plausible; the default is a median; old rows say so."""

from datetime import date

import pytest

from calc.economics import prices
from calc.economics.prices import STALE_AFTER_DAYS, Price, all_prices, device_price, seen_on
from calc.specs.device import device_ids
from calc.specs.errors import SpecError
from calc.specs.facts import Fact, spec_files
from calc.specs.schema import check_file
from calc.specs.strict_yaml import read_yaml

ROWS = all_prices()
NAMED = [f"{row.provider}-{row.device}-{row.term}-{index}" for index, row in enumerate(ROWS)]


def test_many_rows_of_many_providers_are_shipped():
    assert len(ROWS) >= 80
    assert len({row.provider for row in ROWS}) >= 8


@pytest.mark.parametrize("row", ROWS, ids=NAMED)
def test_a_row_is_dated_and_belongs_to_a_device_that_exists(row):
    assert date(2024, 1, 1) <= seen_on(row.fact.date) <= date.today()
    assert row.device in device_ids()
    assert row.fact.unit == "USD/h"


@pytest.mark.parametrize("row", ROWS, ids=NAMED)
def test_a_row_is_plausible_so_that_no_placeholder_slips_in(row):
    """Catalogues write 700.0 for an unknown price; the dearest device-hour seen is about 14 USD."""
    assert 0.1 < row.usd_per_hour < 16


@pytest.mark.parametrize("row", ROWS, ids=NAMED)
def test_a_row_has_a_source_or_says_that_it_is_assumed(row):
    if row.fact.kind in ("assumed", "derived"):
        assert row.fact.note
    else:
        assert row.fact.sources


def test_spot_is_cheaper_than_on_demand_at_the_same_provider():
    on_demand = {}
    for row in ROWS:
        if row.term == "on-demand":
            key = row.provider, row.device
            on_demand[key] = max(row.usd_per_hour, on_demand.get(key, 0))
    spot = [row for row in ROWS if row.term == "spot" and (row.provider, row.device) in on_demand]
    assert len(spot) >= 15
    for row in spot:
        assert row.usd_per_hour < on_demand[row.provider, row.device]


def test_the_shipped_files_are_named_after_their_provider_and_cite_what_they_list():
    for name, path in spec_files("prices").items():
        data = read_yaml(path)
        assert data["provider"] == name
        cited = set()
        for row in data["prices"]:
            cited |= {row["source"]} if isinstance(row["source"], str) else set(row["source"])
        assert cited == set(data["sources"])


# As read from the providers' catalogues and pages; USD per device-hour.
@pytest.mark.parametrize(
    ("provider", "device", "term", "usd"),
    [
        ("lambda", "h100-sxm", "on-demand", 3.99),  # SkyPilot catalogue v9: 31.92 for 8
        ("nebius", "h100-sxm", "on-demand", 2.95),
        ("verda", "h100-sxm", "spot", 0.8015),
        ("crusoe", "mi300x", "on-demand", 3.45),
        ("aws", "b200-sxm", "on-demand", 14.24),  # p6-b200: 113.93 for 8
        ("aws", "h200-sxm", "capacity-block", 4.975),
        ("spheron", "gb200", "on-demand", 4.54),  # 9.08 per superchip of two GPUs
        ("google-cloud", "tpu-v5e", "on-demand", 1.2),
        ("market", "h100-sxm", "market", 2.95),  # AIMultiple median, May 2026
    ],
)
def test_golden_prices(provider, device, term, usd):
    found = [
        row.usd_per_hour for row in ROWS if (row.provider, row.device, row.term) == (provider, device, term)
    ]
    assert usd in found


def test_the_list_price_before_the_cut_of_2025_is_not_shipped():
    """AWS cut p5 by up to 45 % in June 2025; pages still quote 98.3 / 8 = 12.29."""
    assert not [row for row in ROWS if row.device == "h100-sxm" and row.usd_per_hour > 10]


def made(usd, kind="published", device="h100-sxm", term="on-demand", seen="2026-08"):
    return Price("somebody", device, term, Fact(usd, "USD/h", kind, date=seen))


@pytest.mark.parametrize(
    ("rows", "usd"),
    [
        ([made(3.0)], 3.0),
        ([made(4.0), made(2.0), made(3.0)], 3.0),
        ([made(4.0), made(1.0), made(3.0), made(2.0)], 2.0),  # the lower median
        ([made(9.0, "assumed"), made(2.0)], 2.0),
        ([made(9.0, "assumed"), made(5.0, "assumed"), made(7.0, "assumed")], 7.0),
        ([made(1.0, term="spot"), made(2.0, device="l4"), made(3.0)], 3.0),
    ],
)
def test_the_default_price_is_the_lower_median_of_rows_that_are_not_assumed(rows, usd, monkeypatch):
    monkeypatch.setattr(prices, "all_prices", lambda: tuple(rows))
    assert device_price("h100-sxm").usd_per_hour == usd


def test_the_default_h100_price_is_a_real_row():
    """On-demand rows that are not assumed: 2.29, 2.95, 3.90, 3.99."""
    price = device_price("h100-sxm")
    assert price in ROWS
    assert price.usd_per_hour == 2.95
    assert device_price("h100-sxm", "spot").usd_per_hour < price.usd_per_hour


def test_no_price_is_none_and_not_zero():
    assert device_price("tpu-v7") is None
    assert device_price("gaudi3") is None


def test_an_unknown_term_is_refused_with_the_allowed_ones():
    with pytest.raises(SpecError, match=r"price term 'on_demand' is not known: allowed are on-demand, spot"):
        device_price("h100-sxm", "on_demand")


@pytest.mark.parametrize(
    ("text", "day"),
    [("2026", date(2026, 1, 1)), ("2026-05", date(2026, 5, 1)), ("2026-05-20", date(2026, 5, 20))],
)
def test_a_date_means_its_earliest_day(text, day):
    assert seen_on(text) == day


def test_a_row_turns_stale_after_half_a_year():
    row = made(3.0, seen="2026-01-01")
    assert not row.is_stale(date(2026, 1, 1))
    assert not row.is_stale(date.fromordinal(date(2026, 1, 1).toordinal() + STALE_AFTER_DAYS))
    assert row.is_stale(date.fromordinal(date(2026, 1, 1).toordinal() + STALE_AFTER_DAYS + 1))


FILE = {
    "provider": "me",
    "name": "Me",
    "sources": {"list": {"title": "Price list"}},
    "prices": [
        {
            "device": "l4",
            "value": 0.7,
            "term": "on-demand",
            "date": "2026-05",
            "kind": "published",
            "source": "list",
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"value": 700.0}, "prices.0.value: input should be less than 200"),
        ({"value": 0}, "prices.0.value: input should be greater than 0"),
        ({"unit": "EUR/h"}, "prices.0.unit: input should be 'USD/h'"),
        ({"term": "on_demand"}, "prices.0.term: input should be 'on-demand'"),
        ({"date": "v9"}, "prices.0.date: string should match pattern"),
        ({"date": "2026-13"}, "prices.0.date: string should match pattern"),
        ({"note2": "x"}, "prices.0.note2: extra inputs are not permitted"),
    ],
)
def test_a_price_file_is_checked_strictly(change, message, tmp_path):
    data = {**FILE, "prices": [{**FILE["prices"][0], **change}]}
    if message is None:
        assert check_file("prices", data, tmp_path / "me.yaml").prices[0].value == 0.7
        return
    with pytest.raises(SpecError) as caught:
        check_file("prices", data, tmp_path / "me.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_without_a_date_is_refused(tmp_path):
    row = {key: value for key, value in FILE["prices"][0].items() if key != "date"}
    with pytest.raises(SpecError, match=r"prices.0.date: field required"):
        check_file("prices", {**FILE, "prices": [row]}, tmp_path / "me.yaml")
