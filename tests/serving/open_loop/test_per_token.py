"""Times per output token against the simulator."""

import pytest


def test_short_outputs_see_the_long_steps_that_follow_a_prompt(both):
    """Prompts that fill most steps: the mean over requests is some 5 % above that over tokens."""
    chain, s, _ = both("llama-3.1-8b", "a100-sxm-80gb", "geometric", 0.7, 40_000, 2048, 256)
    steps = s.output_tokens - 1
    several = steps > 0
    over_tokens = (s.tpot_s[several] * steps[several]).sum() / steps.sum()
    assert s.mean("tpot_s") > 1.04 * over_tokens
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.04)


@pytest.mark.parametrize("kind", ["geometric", "lognormal"])
def test_long_prompts_hold_up_every_step_that_reads_their_cache(both, kind):
    """Attention is most of a step: requests of unlike prompts make its time fluctuate."""
    chain, s, _ = both("llama-3.1-8b", "mi300x", kind, 0.7, 40_000, 4096, 512)
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.04)
    assert chain.tpot.p50 == pytest.approx(s.percentile("tpot_s", 50), rel=0.06)


def test_where_decodes_wait_for_prompts_they_end_as_fast_as_others_come(both):
    rules = {"policy": "prefill_first"}
    chain, s, _ = both("qwen3-32b", "h100-sxm", "lognormal", 0.9, 40_000, 1024, 512, rules, tp=2)
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.04)


@pytest.mark.parametrize(
    ("device", "places", "prompt", "output"), [("l40s", 16, 2048, 64), ("h100-sxm", 64, 4096, 256)]
)
def test_requests_that_queued_go_on_like_any_others_at_full_places(both, device, places, prompt, output):
    """They start as others end: in any step, not in one that is longer than others."""
    chain, s, _ = both(
        "llama-3.1-8b", device, "geometric", 0.95, 40_000, prompt, output, max_sequences=places
    )
    assert chain.queue_probability > 0.2
    assert chain.tpot.mean == pytest.approx(s.mean("tpot_s"), rel=0.06)
    assert chain.tpot.p50 == pytest.approx(s.percentile("tpot_s", 50), rel=0.12)
