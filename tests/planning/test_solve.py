"""Inverse questions, checked by asking the direct one on both sides of the answer."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calc

LOAD = calc.Workload(prompt_tokens=7680, output_tokens=512, concurrency=8)
SLO = calc.SLO(ttft_s=2.0, tpot_s=0.04)


def holds(model, device, deployment, load, slo=None):
    m = calc.memory(model, device, deployment, load)
    good = m.fits and m.max_concurrency >= load.concurrency
    if slo is not None:
        good = good and calc.estimate(model, device, deployment, load).meets(slo)
    return bool(good)


@settings(deadline=None, max_examples=25)
@given(
    model=st.sampled_from(["llama-3.1-8b", "gemma-2-9b", "deepseek-v2-lite", "gpt-oss-20b"]),
    device=st.sampled_from(["h100-sxm", "l40s", "rtx-4090", "mi300x"]),
    prompt=st.integers(1, 4000),
    slo=st.sampled_from([None, SLO]),
)
def test_one_user_more_would_not_fit(model, device, prompt, slo):
    load = replace(LOAD, prompt_tokens=prompt)
    answer = calc.solve(model, device, workload=load, for_="concurrency", slo=slo)
    d = calc.Deployment()
    if answer.value is None:
        assert not holds(model, device, d, replace(load, concurrency=1), slo)
        return
    assert holds(model, device, d, replace(load, concurrency=answer.value), slo)
    if answer.value < calc.engine_of(d, calc.load_device(device)).max_sequences:
        assert not holds(model, device, d, replace(load, concurrency=answer.value + 1), slo)


@settings(deadline=None, max_examples=25)
@given(
    model=st.sampled_from(["llama-3.1-8b", "gemma-2-9b", "deepseek-v2-lite"]),
    device=st.sampled_from(["h100-sxm", "l40s", "rtx-4090"]),
    users=st.integers(1, 200),
    slo=st.sampled_from([None, SLO]),
)
def test_a_longer_context_would_not_fit(model, device, users, slo):
    load = replace(LOAD, concurrency=users)
    answer = calc.solve(model, device, workload=load, for_="context", slo=slo)
    d = calc.Deployment()
    if answer.value is None:
        assert not holds(model, device, d, replace(load, prompt_tokens=1), slo)
        return
    prompt = answer.value - 512
    assert holds(model, device, d, replace(load, prompt_tokens=prompt), slo)
    if answer.value < calc.load_model(model).max_context_tokens:
        assert not holds(model, device, d, replace(load, prompt_tokens=prompt + 1), slo)


def test_the_fewest_devices_hold_the_model_and_all_users():
    """681 GB of fp8 weights: eight H100 offer 612 GB in all, so it takes sixteen, over two nodes."""
    answer = calc.solve("deepseek-v3", "h100-sxm", workload=LOAD, for_="n_devices")
    assert answer.value == 16
    assert answer.deployment.pp == 2
    assert answer.estimate.deployment.pp == 2
    assert answer.estimate.tpot_s > 0


def test_limits_are_kept_by_pipelines_too():
    """Sixteen H100 are the fewest that hold it; a limit that they keep does not change that."""
    answer = calc.solve("deepseek-v3", "h100-sxm", workload=LOAD, for_="n_devices", slo=calc.SLO(tpot_s=10.0))
    assert answer.value == 16
    assert answer.estimate.meets(calc.SLO(tpot_s=10.0))


def test_the_widest_weights_that_fit():
    """16 bits of 70B are 141 GB, 8 bits 73 GB: one H100 leaves room for 8 bits and one short request."""
    short = calc.Workload(prompt_tokens=100, output_tokens=10)
    answer = calc.solve("llama-3.1-70b", "h100-sxm", workload=short, for_="weight_dtype")
    assert answer.value == "fp8"
    assert calc.solve("llama-3.1-8b", "h100-sxm", workload=short, for_="weight_dtype").value == "bf16"


@pytest.mark.parametrize("for_", ["concurrency", "context", "weight_dtype", "n_devices"])
def test_what_nothing_solves_has_no_value_and_says_so(for_):
    answer = calc.solve(
        "deepseek-v3", "rtx-3070", workload=calc.Workload(concurrency=4), for_=for_, slo=calc.SLO(tpot_s=1e-6)
    )
    assert answer.value is None
    assert "fits" in answer.sentence


def test_an_unknown_unknown_is_refused_with_the_nearest():
    with pytest.raises(calc.SpecError, match="did you mean 'concurrency'"):
        calc.solve("llama-3.1-8b", "h100-sxm", for_="concurency")
