"""Times to first token against the simulator."""

import pytest


@pytest.mark.parametrize(("device", "load"), [("l40s", 0.4), ("l40s", 0.7), ("a100-sxm-80gb", 0.4)])
def test_prompts_of_one_length_that_do_not_share_a_step_wait_for_each_other(both, device, load):
    """Two of 1024 tokens beside decodes are just more than 2048: who comes first decides."""
    chain, s, _ = both("llama-3.1-8b", device, "constant", load, 40_000, 1024, 256)
    assert chain.ttft.mean == pytest.approx(s.mean("ttft_s"), rel=0.02)
    for share, seconds in ((50, chain.ttft.p50), (90, chain.ttft.p90), (99, chain.ttft.p99)):
        assert seconds == pytest.approx(s.percentile("ttft_s", share), rel=0.06)
