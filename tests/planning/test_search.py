"""The smallest tensor parallelism that fits and meets the limits."""

import pytest

import calc

LOAD = calc.Workload(prompt_tokens=1024, output_tokens=256, concurrency=64)


def test_the_smallest_size_that_fits_is_taken_when_no_limit_is_given():
    """141 GB of bf16 weights: two H100 hold them, one does not."""
    assert calc.plan("llama-3.1-70b", "h100-sxm", workload=LOAD).n_devices == 2


def test_a_limit_that_the_smallest_misses_takes_more_devices_and_says_why():
    result = calc.plan("llama-3.1-70b", "h100-sxm", workload=LOAD, slo=calc.SLO(ttft_s=2, tpot_s=0.05))
    assert result.meets
    assert result.estimate.meets(result.slo)
    assert [n for n, _ in result.rejected] == [1, 2]
    assert "does not fit" in result.rejected[0][1]
    assert "TTFT" in result.rejected[1][1]


def test_every_smaller_size_really_misses():
    result = calc.plan("llama-3.1-70b", "h100-sxm", workload=LOAD, slo=calc.SLO(tpot_s=0.03))
    for n, _ in result.rejected:
        e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=n), LOAD)
        assert not e.meets(result.slo)


def test_an_impossible_limit_is_a_value_and_shows_the_closest():
    result = calc.plan("llama-3.1-70b", "h100-sxm", workload=LOAD, slo=calc.SLO(tpot_s=1e-4))
    assert not result.meets
    assert result.estimate.fits
    assert "TPOT" in result.rejected[-1][1]


def test_only_sizes_that_divide_the_heads_are_tried():
    """Qwen2.5-14B has 40 heads: 16 is no choice even where the link reaches that far."""
    result = calc.plan("qwen2.5-14b", "gb200", workload=LOAD, slo=calc.SLO(tpot_s=1e-4))
    assert [n for n, _ in result.rejected] == [1, 2, 4, 8]


def test_a_size_asked_for_is_the_only_one_tried():
    result = calc.plan("llama-3.1-70b", "h100-sxm", workload=LOAD, tp=8)
    assert result.n_devices == 8
    assert result.rejected == ()


@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_that_is_not_above_zero_is_refused(value):
    with pytest.raises(calc.SpecError, match="tpot_s"):
        calc.SLO(tpot_s=value)
