"""Workloads: what is refused, and how."""

import numpy as np
import pytest

import calc


def test_expert_skew_is_a_number_or_an_array_up_to_one_and_a_half():
    assert calc.Workload().expert_skew == 0
    assert calc.Workload(expert_skew=1).expert_skew == 1.0
    assert calc.Workload(expert_skew=[0, 1.5]).expert_skew.tolist() == [0, 1.5]


@pytest.mark.parametrize("wrong", [-0.1, 1.6, float("nan"), "high", None, [0, 2]])
def test_other_skews_are_refused_in_one_line(wrong):
    with pytest.raises(calc.SpecError, match=r"^expert_skew: .*allowed are numbers from 0 to 1\.5$"):
        calc.Workload(expert_skew=wrong)


def test_a_skewed_router_makes_experts_slower_and_nothing_else():
    loads = [calc.Workload(concurrency=16, expert_skew=skew) for skew in (0.0, 1.2)]
    even, skewed = (calc.estimate("mixtral-8x7b", "h100-sxm", calc.Deployment(tp=4), load) for load in loads)
    rows = [{name: seconds for name, seconds, _ in e.breakdown("tpot_s")} for e in (even, skewed)]
    assert {name for name in rows[0] if not np.isclose(rows[0][name], rows[1][name])} == {"moe.experts"}
