"""The highest rate against full replicas, and how a decode step grows."""

import numpy as np
import pytest

from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.demand import demand_of
from calc.serving.scheduler import Scheduler
from calc.serving.step_table import StepTable


def full_rate(s, requests):
    """Requests finished per second between filling up and running empty. [1/s]"""
    finished = np.sort(requests.arrival_s[s.index] + s.e2e_latency_s)
    middle = finished[int(0.3 * len(finished)) : int(0.8 * len(finished))]
    return (len(middle) - 1) / (middle[-1] - middle[0])


@pytest.mark.parametrize("kind", ["constant", "geometric", "lognormal"])
def test_the_highest_rate_is_what_a_full_replica_finishes(both, kind):
    """Where prompts fill most steps: what does not fit into one is computed in others."""
    chain, s, requests = both("llama-3.1-8b", "a100-sxm-80gb", kind, 3.0, 6000, 2048, 256)
    assert chain.max_requests_per_s == pytest.approx(full_rate(s, requests), rel=0.03)


@pytest.mark.parametrize(("model", "device"), [("llama-3.1-8b", "l40s"), ("gpt-oss-120b", "h100-sxm")])
def test_unlike_prompts_make_the_highest_rate_that_of_a_full_replica(both, model, device):
    """The time of a step is no line through its tokens, so that their spread counts."""
    chain, s, requests = both(model, device, "geometric", 1.2, 40_000, 1024, 256, max_sequences=32)
    assert not chain.steady
    assert chain.max_requests_per_s == pytest.approx(full_rate(s, requests), rel=0.015)


def test_prompts_longer_than_a_step_are_preempted_and_computed_again(both):
    """Let in with their first piece, they use up the cache that is left: most where steps are short."""
    chain, s, requests = both("llama-3.1-8b", "l40s", "geometric", 1.1, 40_000, 1024, 256)
    assert s.preemptions > 200
    assert chain.max_requests_per_s == pytest.approx(full_rate(s, requests), rel=0.03)


def capacity_of_a_plane() -> Capacity:
    """A decode step takes 10 ms, 1 ms a decode and 1 us for each token of its context; 64 decodes at most."""
    n, tokens, contexts = np.arange(1.0, 65), np.arange(1.0, 1001), np.array([1.0, 1400.0])
    decode_s = 0.01 + n[:, None] * (0.001 + 1e-6 * contexts)
    surplus_s = np.repeat(0.0001 * tokens[None, :], 65, axis=0)
    none = np.zeros((1000, 2))
    table = StepTable(n, contexts, tokens, decode_s, surplus_s, 0 * tokens, none, sequence_s=0.0)
    rules = Scheduler(max_sequences=64, budget_tokens=1000, blocks=10_000)
    return Capacity(table, rules, demand_of(np.full(9, 1000.0), np.full(9, 601.0), rules))


@pytest.mark.parametrize("n", [1.0, 1.05, 20.0, 62.0, 64.0])
def test_a_step_grows_with_its_decodes_and_their_prompts_up_to_the_ends_of_the_table(n):
    """Of 10 + 2.3 n ms at a context of 1300 tokens, 2.3 n grow with decodes and n with their prompts."""
    grows, by_prompt = capacity_of_a_plane().growth(n)
    assert grows == pytest.approx(2.3 * n / (10 + 2.3 * n), rel=1e-6)
    assert by_prompt == pytest.approx(1.0 / 2.3, rel=1e-6)
