"""Steps before and after a first token against the simulator."""

import numpy as np
import pytest

import calc
from calc.serving.open_loop.arrivals import open_loop
from calc.serving.requests import poisson_requests
from calc.serving.simulate import ready, simulate_requests
from calc.specs.deployment import Deployment
from calc.specs.lengths import Lengths


def both(model, device, kind, load, n, prompt, output, **deployment):
    """Chain and simulation at a load; lengths are those of the sample."""
    lengths = Lengths(kind)
    drawn = poisson_requests(1, n, prompt, output, prompt_lengths=lengths, output_lengths=lengths)
    table, rules = ready(calc.steps_of(model, device, Deployment(**deployment)), drawn)
    every = n // 2000
    thinned = [np.sort(each)[every // 2 :: every] for each in (drawn.prompt_tokens, drawn.output_tokens)]
    most = open_loop(table, rules, *thinned, 0)[0].max_requests_per_s
    requests = drawn.faster(load * most / drawn.requests_per_s)
    chain = open_loop(table, rules, *thinned, load * most)[0]
    return chain, simulate_requests(table, rules, requests), requests


@pytest.mark.parametrize(("device", "load"), [("l40s", 0.4), ("l40s", 0.7), ("a100-sxm-80gb", 0.4)])
def test_prompts_of_one_length_that_do_not_share_a_step_wait_for_each_other(device, load):
    """Two of 1024 tokens beside decodes are just more than 2048: who comes first decides."""
    chain, s, _ = both("llama-3.1-8b", device, "constant", load, 40_000, 1024, 256)
    assert chain.ttft.mean == pytest.approx(s.mean("ttft_s"), rel=0.02)
    for share, seconds in ((50, chain.ttft.p50), (90, chain.ttft.p90), (99, chain.ttft.p99)):
        assert seconds == pytest.approx(s.percentile("ttft_s", share), rel=0.06)


def test_short_outputs_see_the_long_steps_that_follow_a_prompt():
    """Prompts that fill most steps: the mean over requests is some 5 % above that over tokens."""
    chain, s, _ = both("llama-3.1-8b", "a100-sxm-80gb", "geometric", 0.7, 40_000, 2048, 256)
    steps = s.output_tokens - 1
    several = steps > 0
    over_tokens = (s.tpot_s[several] * steps[several]).sum() / steps.sum()
    assert s.mean("tpot_s") > 1.04 * over_tokens
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.04)


@pytest.mark.parametrize(("model", "device"), [("llama-3.1-8b", "l40s"), ("gpt-oss-120b", "h100-sxm")])
def test_unlike_prompts_make_the_highest_rate_that_of_a_full_replica(model, device):
    """The time of a step is no line through its tokens, so that their spread counts."""
    chain, s, requests = both(model, device, "geometric", 1.2, 40_000, 1024, 256, max_sequences=32)
    assert not chain.steady
    finished = np.sort(requests.arrival_s[s.index] + s.e2e_latency_s)
    middle = finished[12_000:32_000]
    assert chain.max_requests_per_s == pytest.approx(len(middle) / (middle[-1] - middle[0]), rel=0.015)
