"""The queue for places against M/M/c and M/D/c."""

from math import exp

import numpy as np
import pytest

from calc.serving.open_loop.place_queue import PlaceQueue


def queue(works, load=0.9, places=31, **other) -> PlaceQueue:
    """Places that each end one request a second; ends at random at first, prompts take no time."""
    known = {
        "deviation": 0.0,
        "is_cache": False,
        "sizes": 0.0,
        "prompts": 0.0,
        "prompt_share": 0.0,
        "ends": 1.0,
    } | other
    return PlaceQueue(float(places), load * places, float(places), works=works, **known)


def longer(found: PlaceQueue, wait_s) -> np.ndarray:
    """Share of the requests in the queue that wait longer."""
    _, share, waits_s = found.tail()
    return np.interp(wait_s, waits_s, share)


@pytest.mark.parametrize("load", [0.8, 0.9, 0.95])
def test_waits_for_random_services_are_exponential(load):
    """M/M/c: those who wait do so longer than t with probability exp(-(mu - lambda) t)."""
    found = queue(1.0, load)
    for wait_s in (0.1, 0.5, 1.0):
        assert longer(found, wait_s) == pytest.approx(exp(-(1 - load) * 31 * wait_s), rel=0.05)


def waits_of_alike(requests_per_s, places, n=200_000) -> np.ndarray:
    """Waits in M/D/c with services of a second: each place takes every c-th request."""
    arrival = np.cumsum(np.random.default_rng(0).exponential(1 / requests_per_s, n)).tolist()
    start = arrival[:places]
    for i in range(places, n):
        start.append(max(arrival[i], start[i - places] + 1.0))
    return np.array(start) - arrival


@pytest.mark.parametrize(("places", "load"), [(16, 0.8), (31, 0.8), (31, 0.9), (128, 0.95)])
def test_waits_for_services_of_one_length_are_those_of_m_d_c(places, load):
    waits = waits_of_alike(load * places, places)
    waits = waits[waits > 0]
    found = queue(0.0, load, places)
    for share in (0.5, 0.1, 0.03):
        exact = float(np.quantile(waits, 1 - share))
        assert np.interp(-share, -found.tail()[1], found.tail()[2]) == pytest.approx(exact, rel=0.15)


def test_more_unlike_services_make_longer_queues_and_prompts_even_them_out():
    _, share, waits_s = queue(1.0).tail()
    at = waits_s[np.searchsorted(-share, -0.01)]
    assert longer(queue(3.0), at) > 0.01 > longer(queue(0.3), at)
    assert longer(queue(1.0, prompt_share=0.5), at) < 0.01


def test_a_number_of_places_that_fluctuates_is_taken_more_often():
    """Normal by normal: the exponent falls by the share that the other variance has in their sum."""
    assert queue(1.0).raised(0.1, 100.0) == 1
    # at 10 beyond the mean of a variance of 100: exp(-10**2 / 200) against exp(-10**2 / 400)
    many = queue(1.0, load=0.5, places=1000, deviation=10.0)
    assert many.raised(0.1, 100.0) == pytest.approx(exp(0.25), rel=0.02)
    assert queue(1.0, load=0.95, places=1000, deviation=10.0).raised(0.1, 100.0) > many.raised(0.1, 100.0)
