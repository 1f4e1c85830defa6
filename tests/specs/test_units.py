"""Units: one list, conversion at the border, formats for people."""

import pytest

from calc.specs.errors import SpecError
from calc.specs.units import (
    UNITS,
    format_bytes,
    format_seconds,
    parse_bytes,
    parse_seconds,
    parse_tokens,
    significant,
    to_si,
)


@pytest.mark.parametrize(
    ("value", "unit", "si"),
    [
        (80, "GB", 80e9),
        (80, "GiB", 80 * 2**30),
        (81559, "MiB", 81559 * 2**20),
        (3.35, "TB/s", 3.35e12),
        (989.4, "TFLOP/s", 989.4e12),
        (20, "PFLOP/s", 20e15),
        (1978.9, "TOP/s", 1978.9e12),
        (1830, "MHz", 1.83e9),
        (5, "us", 5e-6),
        (2.95, "USD/h", 2.95),
        (132, "count", 132),
    ],
)
def test_a_printed_value_becomes_si(value, unit, si):
    assert to_si(value, unit) == pytest.approx(si, rel=1e-12)


def test_decimal_and_binary_sizes_are_never_mixed():
    assert to_si(1, "GiB") / to_si(1, "GB") == pytest.approx(1.073741824)
    assert parse_bytes("80GiB") > parse_bytes("80GB")


@pytest.mark.parametrize("unit", ["gb", "Gb/s", "GBps", "TFLOPS", "tflop/s", "", "USD/hour"])
def test_an_unknown_unit_is_refused_with_the_list_of_allowed_ones(unit):
    with pytest.raises(SpecError, match=r"is not known: allowed are B, kB, MB, GB") as caught:
        to_si(1, unit)
    assert "\n" not in str(caught.value)


def test_bits_per_second_are_not_a_unit_so_nobody_can_confuse_them_with_bytes():
    assert not [unit for unit in UNITS if unit.endswith("b/s")]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("8k", 8192), ("8K", 8192), ("1M", 2**20), ("1000", 1000), (300, 300), ("1.5k", 1536)],
)
def test_token_counts_are_read_with_binary_suffixes(text, tokens):
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["8kb", "-5", "", "many", "1e3", "1,000", "0.3"])
def test_what_is_not_a_token_count_is_refused_by_name(text):
    with pytest.raises(SpecError, match=r"^prompt: "):
        parse_tokens(text, "prompt")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("2s", 2), ("300us", 3e-4), (0.5, 0.5), ("0.5", 0.5), (5e-5, 5e-5), (2, 2)],
)
def test_times_are_read_as_text_and_as_plain_seconds(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["2 h", "fast", "-1s", "50 MS"])
def test_what_is_not_a_time_is_refused_with_examples(text):
    with pytest.raises(SpecError, match=r"allowed are e.g. 50ms, 2s or 0.05"):
        parse_seconds(text)


@pytest.mark.parametrize("text", ["80gb", "80 G", "eighty GB"])
def test_a_size_without_a_known_unit_is_refused(text):
    with pytest.raises(SpecError, match=r"allowed are e.g. 80GB"):
        parse_bytes(text)


def test_a_size_needs_its_unit():
    with pytest.raises(SpecError, match=r"is not a size"):
        parse_bytes("80")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (512, "512.0 B"), (131072, "131.1 kB"), (17_179_869_184, "17.2 GB"), (3.35e12, "3.35 TB")],
)
def test_bytes_are_shown_in_decimal_units(value, text):
    assert format_bytes(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0312, "31.2 ms"), (2.5, "2.5 s"), (4e-6, "4 us"), (0, "0 us")]
)
def test_seconds_are_shown_in_a_unit_that_fits(value, text):
    assert format_seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (123.45, "123.5"), (17.17987, "17.2"), (0.01234, "0.0123")],
)
def test_numbers_are_shown_with_three_digits(value, text):
    assert significant(value) == text
