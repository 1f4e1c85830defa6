"""The scenario: what inputs mean, what would help; no Streamlit here."""

from dataclasses import replace

import numpy as np
import pytest

import calc
from dashboard.scenario import (
    AS_PUBLISHED,
    CUSTOM,
    OUTPUT_STEPS,
    PROMPT_STEPS,
    SLO_LIMITS,
    TP_CHOICES,
    USER_STEPS,
    Scenario,
    nearest_step,
    remedies,
    user_sweep,
)

DEFAULT = Scenario()
TOO_LARGE = Scenario(tp="1")


def test_defaults_are_known_names():
    assert DEFAULT.model in calc.model_ids()
    assert DEFAULT.gpu in calc.device_ids()
    assert DEFAULT.engine in calc.engine_ids()
    assert DEFAULT.kv in calc.KV_BYTES
    assert DEFAULT.slo in SLO_LIMITS
    assert DEFAULT.tp in TP_CHOICES
    assert DEFAULT.prompt in PROMPT_STEPS
    assert DEFAULT.output in OUTPUT_STEPS
    assert DEFAULT.users in USER_STEPS


def test_defaults_fit_and_keep_the_limits():
    plan = DEFAULT.answer()
    assert plan.meets
    assert plan.n_devices > 1


def test_answer_is_that_of_the_calculator():
    e = DEFAULT.answer().estimate
    deployment = calc.Deployment(tp=e.n_devices)
    same = calc.estimate("llama-3.1-70b", "h100-sxm", deployment, calc.Workload(1024, 256, 64))
    assert (e.ttft_s, e.tpot_s) == (same.ttft_s, same.tpot_s)


def test_choices_reach_the_specs():
    scenario = Scenario(weights="fp8", kv="fp8", engine="sglang", tp="8", memory_share=0.8, price=1.5)
    e = scenario.answer().estimate
    assert e.deployment.tp == 8
    assert (e.weight_dtype, e.deployment.kv_dtype, e.engine.id) == ("fp8", "fp8", "sglang")
    assert e.memory.usable_bytes_per_device == pytest.approx(0.8 * e.device.memory_bytes)
    assert e.cost.usd_per_device_hour == 1.5


def test_parallelism_reaches_the_specs():
    e = Scenario(model="deepseek-v3", gpu="h200-sxm", tp="1", dp=8, ep=8, expert_skew=0.5).answer().estimate
    d = e.deployment
    assert (d.tp, d.dp, d.ep, e.n_devices, e.workload.expert_skew) == (1, 8, 8, 8, 0.5)


def test_auto_takes_only_sizes_that_can_share_out_the_experts():
    """Experts on four ranks need at least four devices of a stage."""
    plan = Scenario(model="mixtral-8x7b", gpu="h200-sxm", ep=4, slo="batch").answer()
    assert plan.estimate.deployment.tp == 4
    assert all(n >= 4 for n, _ in plan.rejected)


def test_as_published_is_the_checkpoint_s_own_format():
    assert DEFAULT.deployment().weight_dtype is None
    assert Scenario(weights="bf16").deployment().weight_dtype == "bf16"
    assert AS_PUBLISHED not in calc.WEIGHT_FORMATS


def test_custom_limits_are_in_seconds_inside():
    slo = Scenario(slo=CUSTOM, ttft_s=1.5, tpot_ms=20.0).limits()
    assert (slo.ttft_s, slo.tpot_s) == (1.5, pytest.approx(0.020))
    assert Scenario(slo="batch").limits() == calc.SLO()


def test_wrong_own_file_is_one_line():
    with pytest.raises(calc.SpecError) as caught:
        Scenario(own_model="/nowhere/config.json").answer()
    assert "\n" not in str(caught.value)
    assert Scenario(own_model="x", own_device="y").without_own_files() == DEFAULT


def test_sweep_passes_through_the_scenario():
    plan = DEFAULT.answer()
    sweep = user_sweep(plan)
    users = sweep.workload.concurrency
    assert users[0] == 1
    assert users[-1] == int(plan.estimate.memory.max_concurrency)
    at_64 = np.interp(64, users, sweep.tpot_s)
    assert at_64 == pytest.approx(plan.estimate.tpot_s, rel=0.02)


def test_sweep_keeps_an_own_price():
    plan = replace(DEFAULT, price=7.0).answer()
    assert user_sweep(plan).cost.usd_per_device_hour == 7.0


def test_what_does_not_fit_has_no_sweep():
    assert user_sweep(TOO_LARGE.answer()) is None


@pytest.mark.parametrize("scenario", [TOO_LARGE, Scenario(tp="2"), Scenario(gpu="l4")])
def test_every_remedy_works(scenario):
    assert not scenario.answer().meets
    found = remedies(scenario)
    for _, changes, plan in found:
        assert plan.meets
        assert replace(scenario, **changes).answer().n_devices == plan.n_devices
    costs = [plan.estimate.cost.usd_per_hour for _, _, plan in found if plan.estimate.cost]
    assert costs == sorted(costs)


def test_too_large_has_a_remedy():
    assert remedies(TOO_LARGE)


def test_nearest_step_keeps_steps():
    assert [nearest_step(step, USER_STEPS) for step in USER_STEPS] == list(USER_STEPS)
