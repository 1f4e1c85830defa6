"""The highest rate against full replicas."""

import numpy as np
import pytest


@pytest.mark.parametrize(("model", "device"), [("llama-3.1-8b", "l40s"), ("gpt-oss-120b", "h100-sxm")])
def test_unlike_prompts_make_the_highest_rate_that_of_a_full_replica(both, model, device):
    """The time of a step is no line through its tokens, so that their spread counts."""
    chain, s, requests = both(model, device, "geometric", 1.2, 40_000, 1024, 256, max_sequences=32)
    assert not chain.steady
    finished = np.sort(requests.arrival_s[s.index] + s.e2e_latency_s)
    middle = finished[12_000:32_000]
    assert chain.max_requests_per_s == pytest.approx(len(middle) / (middle[-1] - middle[0]), rel=0.015)


def test_prompts_longer_than_a_step_are_preempted_and_computed_again(both):
    """Let in with their first piece, they use up the cache that is left: most where steps are short."""
    chain, s, requests = both("llama-3.1-8b", "l40s", "geometric", 1.1, 40_000, 1024, 256)
    assert s.preemptions > 200
    finished = np.sort(requests.arrival_s[s.index] + s.e2e_latency_s)
    middle = finished[12_000:32_000]
    assert chain.max_requests_per_s == pytest.approx(len(middle) / (middle[-1] - middle[0]), rel=0.03)
