"""Open loop: the chain against the simulator, its limits, and its place in an estimate."""

import json

import numpy as np
import pytest

import calc
from calc.serving.open_loop.demand import demand_of, places
from calc.serving.requests import poisson_requests
from calc.serving.simulate import ready
from calc.specs.lengths import Lengths


@pytest.mark.parametrize("kind", ["constant", "geometric", "lognormal"])
@pytest.mark.parametrize("load", [0.2, 0.5, 0.7])
def test_the_chain_agrees_with_the_simulator(both, kind, load):
    chain, s, _ = both("llama-3.1-8b", "h100-sxm", kind, load, 12_000, 1024, 256)
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.03)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.15)
    assert chain.ttft.p50 == pytest.approx(s.percentile("ttft_s", 50), rel=0.10)


@pytest.mark.parametrize(
    ("model", "device", "tp"), [("llama-3.1-70b", "h100-sxm", 4), ("gpt-oss-20b", "l40s", 1)]
)
def test_the_chain_agrees_on_other_deployments(both, model, device, tp):
    chain, s, _ = both(model, device, "geometric", 0.6, 12_000, 512, 200, tp=tp)
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.03)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.15)


def test_the_chain_agrees_where_prompts_go_first_and_are_cached(both):
    rules = {"policy": "prefill_first", "cached_share": 0.5}
    chain, s, _ = both("llama-3.1-8b", "h100-sxm", "constant", 0.4, 12_000, 1024, 256, rules)
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.04)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.15)


def estimate(rate, **load):
    return calc.estimate("llama-3.1-8b", "h100-sxm", None, calc.Workload(requests_per_s=rate, **load))


def test_an_idle_deployment_answers_like_one_user():
    idle, alone = estimate(0), calc.estimate("llama-3.1-8b", "h100-sxm")
    assert idle.ttft_s == pytest.approx(alone.ttft_s, rel=0.01)
    assert idle.tpot_s == pytest.approx(alone.tpot_s, rel=0.01)
    assert idle.cost is None


def test_above_the_highest_rate_there_is_no_steady_state_and_it_says_so():
    most = estimate(1).open_loop.max_requests_per_s
    e = estimate(1.2 * most)
    assert not e.open_loop.steady
    assert e.open_loop.statement() == f"no steady state above {most:.3g} requests/s"
    assert e.ttft_s == e.tpot_s == np.inf
    assert e.requests_per_s == pytest.approx(most)
    assert not e.meets(calc.SLO(ttft_s=1000))
    assert json.loads(json.dumps(e.to_dict(), allow_nan=False))["ttft_s"] is None


def test_the_simulator_keeps_up_just_below_the_highest_rate_and_not_above(both):
    chain, below, _ = both("llama-3.1-8b", "h100-sxm", "constant", 0.95, 12_000, 1024, 256)
    _, above, _ = both("llama-3.1-8b", "h100-sxm", "constant", 1.3, 12_000, 1024, 256)
    assert below.requests_per_s == pytest.approx(chain.requests_per_s, rel=0.03)
    assert above.requests_per_s < 1.15 * chain.max_requests_per_s


def test_more_requests_are_never_faster():
    e = estimate(np.array([0.5, 4.0, 10.0, 18.0]))
    assert (np.diff(e.ttft_s) > 0).all()
    assert (np.diff(e.tpot_s) > 0).all()
    assert [o.requests_per_s for o in e.open_loop] == [0.5, 4.0, 10.0, 18.0]


def test_littles_law_holds_for_sequences_that_decode():
    found = estimate(8.0).open_loop
    assert found.mean_in_flight == pytest.approx(8.0 * 255 * found.tpot.mean, rel=0.01)
    assert found.in_flight.sum() == pytest.approx(1)


def test_percentiles_are_in_order_and_the_breakdown_sums_to_the_mean():
    e = estimate(12.0, prompt_lengths="lognormal", output_lengths="geometric")
    for each in (e.open_loop.ttft, e.open_loop.tpot, e.open_loop.queue):
        assert each.p50 <= each.p90 <= each.p99
    assert sum(row[1] for row in e.breakdown("ttft_s")) == pytest.approx(e.ttft_s)
    assert sum(row[1] for row in e.breakdown("tpot_s")) == pytest.approx(e.tpot_s)


def test_few_places_make_requests_queue():
    load = calc.Workload(requests_per_s=2.2)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(max_sequences=6), load)
    assert e.open_loop.bottleneck == "places"
    assert e.open_loop.queue_probability > 0.1
    assert e.open_loop.queue.p99 > 0.2


def test_observed_lengths_bring_their_mean():
    observed = Lengths("empirical", values=(100, 200, 900))
    e = estimate(2.0, prompt_lengths=observed, output_lengths=Lengths("empirical", values=(1, 7)))
    assert (e.workload.prompt_tokens, e.workload.output_tokens) == (400, 4)
    assert e.open_loop.ttft.p99 > 1.5 * e.open_loop.ttft.p50


def test_a_budget_that_decodes_can_fill_leaves_prompts_their_share():
    deployment = calc.Deployment(max_sequences=512, max_batched_tokens=512)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", deployment, calc.Workload(requests_per_s=3))
    assert e.open_loop.bottleneck == "prefill"
    assert e.open_loop.load == pytest.approx(3 / e.open_loop.max_requests_per_s)
    assert e.open_loop.max_requests_per_s > 10


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "llama.cpp"])
def test_requests_of_one_token_have_no_time_per_token(engine):
    deployment = calc.Deployment(engine=engine)
    load = calc.Workload(requests_per_s=2, output_tokens=1)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", deployment, load)
    assert e.tpot_s == 0
    assert e.e2e_latency_s == e.ttft_s > 0


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ({"requests_per_s": -1}, "requests_per_s: -1 is not allowed"),
        ({"requests_per_s": "fast"}, "requests_per_s: 'fast' is not allowed"),
        ({"requests_per_s": 1, "concurrency": 3}, "concurrency: 3 contradicts requests_per_s"),
        ({"requests_per_s": 1, "mode": "static"}, "mode 'static' does not take a rate"),
        ({"mode": "open_loop"}, "mode 'open_loop' needs a rate"),
        ({"prompt_lengths": "geometric"}, "prompt_lengths: 'geometric' needs requests_per_s"),
        ({"requests_per_s": 1, "prompt_lengths": "zipf"}, "lengths: 'zipf' is not known"),
        ({"requests_per_s": 1, "prompt_lengths": 7}, "prompt_lengths: 7 is not allowed"),
    ],
)
def test_loads_that_contradict_themselves_are_named(load, message):
    with pytest.raises(calc.SpecError, match=message):
        calc.Workload(**load)


def test_what_an_open_loop_does_not_answer_is_said():
    with pytest.raises(calc.SpecError, match="tpot_s at a rate of 0 is not explained"):
        calc.explain(estimate(0.0), "tpot_s")
    with pytest.raises(calc.SpecError, match="open_loop: mode 'closed_loop' has none"):
        _ = calc.estimate("llama-3.1-8b", "h100-sxm").open_loop


def test_models_without_attention_are_answered_at_a_rate():
    """A pure state-space model: no context makes a step longer."""
    e = calc.estimate("mamba2-2.7b", "h100-sxm", workload=calc.Workload(requests_per_s=2.0))
    loop = calc.estimate("mamba2-2.7b", "h100-sxm", workload=calc.Workload(concurrency=1))
    assert loop.tpot_s <= e.tpot_s < 1.5 * loop.tpot_s
    assert loop.ttft_s * 0.5 < e.ttft_s < 2 * loop.ttft_s


def test_replicas_of_a_dense_model_share_the_load_out():
    """Two data ranks of a dense model are two deployments: twice the rate, the same times."""
    one = estimate(4.0)
    both = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(dp=2), calc.Workload(requests_per_s=8.0))
    assert both.ttft_s == pytest.approx(one.ttft_s, rel=0.01)
    assert both.open_loop.max_requests_per_s == pytest.approx(2 * one.open_loop.max_requests_per_s, rel=0.02)


def decoding(s, requests):
    """Mean and standard deviation over time of the requests that decode in a simulation."""
    arrival = requests.arrival_s[s.index]
    times = np.concatenate([arrival + s.ttft_s, arrival + s.e2e_latency_s])
    order = np.argsort(times)
    count = np.cumsum(np.repeat([1, -1], len(arrival))[order])[:-1]
    lasting = np.diff(times[order])
    mean = np.average(count, weights=lasting)
    return mean, np.sqrt(np.average((count - mean) ** 2, weights=lasting))


@pytest.mark.parametrize("kind", ["constant", "geometric"])
def test_decodes_fluctuate_as_far_as_in_the_simulator(both, kind):
    """Bursts of prompts spread them: random lengths by their number, like lengths by their ends."""
    chain, s, requests = both("gpt-oss-20b", "l40s", kind, 0.8, 100_000, 512, 256)
    shares, simulated = chain.in_flight, decoding(s, requests)
    level = np.arange(len(shares))
    mean = (shares * level).sum()
    assert mean == pytest.approx(simulated[0], rel=0.03)
    assert np.sqrt((shares * (level - mean) ** 2).sum()) == pytest.approx(simulated[1], rel=0.15)


@pytest.mark.parametrize("kind", ["constant", "geometric"])
def test_the_queue_for_places_is_as_long_as_in_the_simulator(both, kind):
    chain, s, _ = both("llama-3.1-8b", "h100-sxm", kind, 0.8, 40_000, 512, 128, max_sequences=16)
    assert chain.bottleneck == "places"
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.03)
    assert chain.ttft.p99 == pytest.approx(s.percentile("ttft_s", 99), rel=0.2)


def test_lengths_say_how_steadily_requests_end_and_what_a_place_costs():
    rules = ready(calc.steps_of("llama-3.1-8b", "h100-sxm"), poisson_requests(1, 10, 1024, 256))[1]
    alike = demand_of(np.full(9, 1024.0), np.full(9, 256.0), rules)
    geometric = Lengths("geometric").table(256).astype(float)
    random = demand_of(np.full(9, 1024.0), geometric, rules)
    assert alike.steadiness == pytest.approx(1)
    assert random.steadiness == pytest.approx(0.5, abs=0.01)
    assert places(rules, alike).variation == pytest.approx(0, abs=1e-9)
    assert places(rules, random).variation > 1
    assert places(rules, alike).cap > places(rules, random).cap


def test_one_place_serves_one_request_after_another():
    load = calc.Workload(requests_per_s=0, prompt_tokens=1)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(max_sequences=1), load)
    assert e.open_loop.max_requests_per_s == pytest.approx(1 / e.e2e_latency_s, rel=0.1)
