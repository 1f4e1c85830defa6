"""The queue for places against M/M/c and M/D/c."""

from dataclasses import replace
from heapq import heappop, heappush
from math import exp

import numpy as np
import pytest

import calc
from calc.serving.open_loop.arrivals import open_loop
from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.demand import demand_of, places
from calc.serving.open_loop.place_queue import PlaceQueue
from calc.serving.open_loop.rate_chain import flow_of, place_queue
from calc.serving.open_loop.step_chain import step_chain
from calc.serving.requests import poisson_requests
from calc.serving.scheduler import Scheduler
from calc.serving.simulate import ready, simulate_requests
from calc.specs.lengths import Lengths


def queue(works, load=0.9, places=31, **other) -> PlaceQueue:
    """Places that each end one request a second; ends at random at first, prompts take no time."""
    known = {
        "deviation": 0.0,
        "is_one_by_one": True,
        "sizes": 0.0,
        "prompts": 0.0,
        "prefill_share": 0.0,
        "ends": 1.0,
        "kept_s": 1.0,
        "lasting": 0.0,
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
    assert longer(queue(1.0, prefill_share=0.5), at) < 0.01


def test_a_number_of_places_that_fluctuates_is_taken_more_often():
    """Normal by normal: the exponent falls by the share that the other variance has in their sum."""
    assert queue(1.0).raised(0.1, 100.0) == 1
    # at 10 beyond the mean of a variance of 100: exp(-10**2 / 200) against exp(-10**2 / 400)
    for load in (0.5, 0.95):
        many = queue(1.0, load=load, places=1000, deviation=10.0)
        assert many.raised(0.1, 100.0) == pytest.approx(exp(0.25), rel=0.02)


def admitted_s(pool_tokens, prompts, outputs) -> np.ndarray:
    """Times at which requests start that reserve their full length of a full pool, one step a second. [s]"""
    free, now, running, times = pool_tokens, 0.0, [], []
    for held, steps in zip((prompts + outputs).tolist(), (outputs - 1).tolist(), strict=True):
        while free < held:
            now, given_back = heappop(running)
            free += given_back
        times.append(now)
        free -= held
        heappush(running, (now + steps, held))
    return np.array(times[len(times) // 20 :])


@pytest.mark.parametrize("prompt", [512, 2048])
def test_noise_of_reserved_lengths_is_that_of_a_full_pool(prompt):
    """Requests that come and end are of random sizes; long ones are kept longer, which shows late."""
    outputs = np.random.default_rng(0).geometric(1 / 512, 300_000).astype(float)
    prompts = np.full(len(outputs), float(prompt))
    rules = Scheduler(64_000, 2048, 70 * (prompt + 1024) // 16, reserve="request")
    found = places(rules, demand_of(prompts, outputs, rules))
    started = admitted_s(rules.pool_tokens, prompts, outputs)
    rate = (len(started) - 1) / (started[-1] - started[0])
    lasting = found.kept * found.number / rate
    one = queue(found.variation, places=found.number, sizes=found.sizes, kept_s=lasting, lasting=1.0)
    one = replace(one, requests_per_s=rate, max_requests_per_s=rate)
    for seconds in (50.0, 500.0, 2000.0):
        counts = np.histogram(started, np.arange(started[0], started[-1], seconds))[0]
        noise = float(one.noise_per_s(seconds)) / rate - 1  # less that of arrivals
        assert noise == pytest.approx(counts.var() / counts.mean(), rel=0.12)


@pytest.mark.parametrize("load", [0.8, 0.95])
def test_prompts_that_hold_up_ends_make_full_places_likelier(both, load):
    """Half of the time goes to prompts: who comes to full places is met twice as often as without them."""
    chain, s, _ = both("llama-3.1-8b", "l40s", "geometric", load, 200_000, 2048, 64, max_sequences=16)
    assert chain.ttft.mean == pytest.approx(s.mean("ttft_s"), rel=0.15)
    assert chain.ttft.p50 == pytest.approx(s.percentile("ttft_s", 50), rel=0.1)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.15)


def test_noise_of_long_prompts_is_that_of_full_places():
    """Long prompts take longer to compute, and every step that reads their cache does."""
    lengths = Lengths("geometric")
    drawn = poisson_requests(1, 100_000, 1024, 256, prompt_lengths=lengths, output_lengths=lengths)
    table, rules = ready(calc.steps_of("llama-3.1-8b", "l40s", calc.Deployment(max_sequences=128)), drawn)
    thinned = [np.sort(each)[25::50] for each in (drawn.prompt_tokens, drawn.output_tokens)]
    capacity = Capacity(table, rules, demand_of(*thinned, rules))
    requests = drawn.faster(1.15 * capacity.max_rate / drawn.requests_per_s)
    s = simulate_requests(table, rules, requests)
    started = np.sort(requests.arrival_s[s.index] + s.queue_s)[25_000:95_000]
    found = place_queue(capacity, flow_of(capacity, 0.9 * capacity.max_rate))
    for lives, share in ((3.0, 0.2), (10.0, 0.15)):
        seconds = lives * found.kept_s
        counts = np.histogram(started, np.arange(started[0], started[-1], seconds))[0]
        noise = (float(found.noise_per_s(seconds)) - found.requests_per_s) / found.max_requests_per_s
        assert noise == pytest.approx(counts.var() / counts.mean(), rel=share)


def test_requests_that_reserve_their_output_queue_as_long_as_in_the_simulator(both):
    lengths = {"output_kind": "geometric", "rules": {"reserve": "request"}}
    chain, s, _ = both("llama-3.1-8b", "l40s", "constant", 0.9, 200_000, 512, 2048, **lengths)
    assert chain.ttft.mean == pytest.approx(s.mean("ttft_s"), rel=0.15)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.15)


@pytest.fixture(scope="module")
def sixteen():
    """Step table, scheduler and lengths of 16 places."""
    drawn = poisson_requests(1, 4000, 512, 256)
    steps = calc.steps_of("llama-3.1-8b", "l40s", calc.Deployment(max_sequences=16))
    return *ready(steps, drawn), np.full(9, 512.0), np.full(9, 256.0)


@pytest.mark.parametrize("drift", [1e-3, 1e-5, 1e-8])
def test_queues_near_the_highest_rate_are_as_long_as_in_heavy_traffic(sixteen, drift):
    """M/D/c: noise is that of arrivals, so that half a request over the drift is the mean."""
    most = open_loop(*sixteen, 0)[0].max_requests_per_s
    near = open_loop(*sixteen, (1 - drift) * most)[0]
    assert near.mean_in_flight == pytest.approx(0.5 / drift, rel=0.1)
    assert near.in_flight.sum() == pytest.approx(1)
    assert len(near.in_flight) < 100_000


@pytest.mark.parametrize("ranks", [3, 7, 11, 49])
def test_the_highest_rate_of_batches_side_by_side_has_no_steady_state(sixteen, ranks):
    table, rules, *lengths = sixteen
    rules = replace(rules, ranks=ranks)
    most = open_loop(table, rules, *lengths, 0)[0].max_requests_per_s
    assert not open_loop(table, rules, *lengths, most)[0].steady


def test_a_chain_of_few_levels_knows_that_places_beyond_them_are_free(sixteen):
    """None of three waits for one of 16 places, whatever prompts are computed."""
    table, rules, *lengths = sixteen
    capacity = Capacity(table, rules, demand_of(*lengths, rules))
    chain = step_chain(flow_of(capacity, 0.1 * capacity.max_rate), 3, 4096.0)
    assert chain.mean_running == pytest.approx((chain.in_flight * np.arange(4)).sum(), rel=1e-9)
