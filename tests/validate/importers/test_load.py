"""How a load stands in the schema."""

import math

import pytest

import calc
from validate.importers.load import Load, in_flight

AT_ONCE = math.inf


def test_a_limit_that_a_finite_rate_does_not_reach_is_not_the_number_in_flight():
    found = in_flight(Load(limit=64, requests_per_s=2.0, mean_in_flight=5.1, requests=400))
    assert (found.mode, found.concurrency, found.is_inferred) == ("closed_loop", 5, True)


def test_a_limit_caps_the_number_in_flight():
    assert in_flight(Load(limit=4, requests_per_s=9.0, mean_in_flight=5.1)).concurrency == 4


def test_as_many_requests_as_the_limit_are_one_batch():
    found = in_flight(Load(limit=64, requests_per_s=AT_ONCE, mean_in_flight=63.0, requests=64))
    assert (found.mode, found.concurrency, found.is_steady) == ("static", 64, False)


def test_one_request_after_the_other_is_steady():
    assert in_flight(Load(limit=1, requests_per_s=AT_ONCE, requests=1)).is_steady
    assert in_flight(Load(limit=1)) == in_flight(Load(limit=1, requests=20))


def test_few_waves_are_noted():
    assert "only 100 requests" in in_flight(Load(limit=64, requests_per_s=AT_ONCE, requests=100)).note
    assert in_flight(Load(limit=64, requests_per_s=AT_ONCE, requests=640)).note == ""


def test_requests_that_waited_for_others_are_a_maximum_load():
    found = in_flight(Load(requests_per_s=AT_ONCE, mean_in_flight=520.0, requests=1000))
    assert (found.mode, found.concurrency) == ("max_load", 1000)


def test_a_load_that_nothing_says_asks_for_concurrency():
    for load in (Load(), Load(requests_per_s=4.0)):
        with pytest.raises(calc.SpecError, match="give --concurrency"):
            in_flight(load)


def test_what_the_user_says_wins():
    assert in_flight(Load(limit=8), mode="static").mode == "static"
    assert in_flight(Load(limit=8), mode="max_load").concurrency is None
    assert in_flight(Load(limit=8), concurrency=9).concurrency == 9
