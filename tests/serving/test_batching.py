"""Static batches and a fixed number of requests in flight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calc
from calc.serving.steps import Steps
from calc.specs.engine import load_engine
from calc.timing.calibration import calibration_for
from calc.work.op import Sequences


def estimate(model="llama-3.1-8b", device="h100-sxm", tp=1, engine="vllm", dtype=None, **load):
    deployment = calc.Deployment(tp=tp, engine=engine, weight_dtype=dtype)
    return calc.estimate(model, device, deployment, calc.Workload(**load), usd_per_device_hour=3.0)


def steps(model="llama-3.1-8b", device="h100-sxm", tp=1):
    d = calc.load_device(device)
    return Steps(calc.load_model(model), d, calc.Deployment(tp=tp), load_engine("vllm"), calibration_for(d))


def test_a_static_batch_takes_its_prefill_and_then_one_step_a_token():
    e = estimate(mode="static", concurrency=8, prompt_tokens=512, output_tokens=100)
    assert e.ttft_s == steps().time(Sequences("prefill", 8, 512, 0)).seconds
    assert e.e2e_latency_s == pytest.approx(e.ttft_s + 99 * e.tpot_s)
    assert e.output_tokens_per_s == pytest.approx(8 * 100 / e.e2e_latency_s)


def test_the_step_at_the_mean_context_is_the_mean_step():
    """Sum over every single decode step of a long generation, against the closed form."""
    e = estimate(mode="static", concurrency=32, prompt_tokens=200, output_tokens=4000)
    summed = sum(steps().time(Sequences("decode", 32, 1, 200 + i)).seconds for i in range(1, 4000)) / 3999
    assert e.tpot_s == pytest.approx(summed, rel=0.01)


def test_one_user_in_a_loop_sees_plain_prefill_and_plain_decode():
    loop = estimate(concurrency=1, prompt_tokens=1024, output_tokens=128)
    static = estimate(mode="static", concurrency=1, prompt_tokens=1024, output_tokens=128)
    assert loop.ttft_s == pytest.approx(static.ttft_s, rel=1e-9)
    assert loop.tpot_s == pytest.approx(static.tpot_s, rel=1e-9)


def test_littles_law_holds_for_requests_in_flight():
    e = estimate(concurrency=48)
    assert e.requests_per_s * e.e2e_latency_s == pytest.approx(48)
    assert e.output_tokens_per_s == pytest.approx(256 * e.requests_per_s)


def test_users_beyond_memory_queue_and_are_counted():
    e = estimate("llama-3.1-70b", tp=2, concurrency=64)
    held = int(e.memory.max_concurrency)
    assert held < 64
    assert e.service.concurrency == held
    assert e.service.queued == 64 - held
    assert e.requests_per_s * e.e2e_latency_s == pytest.approx(64)
    assert {name: seconds for name, seconds, _ in e.breakdown("ttft_s")}["queue for memory"] > 0


def test_max_load_runs_as_many_as_memory_and_the_engine_hold():
    e = estimate("llama-3.1-70b", tp=4, mode="max_load")
    assert e.service.concurrency == int(e.memory.max_concurrency)
    small = estimate("llama-3.1-8b", tp=1, mode="max_load", prompt_tokens=8, output_tokens=8)
    assert small.service.concurrency == 1024


def test_prompts_are_not_finished_faster_than_the_token_budget_allows():
    """With one output token everything is prefill: at most max_batched_tokens of prompt a step."""
    e = estimate(concurrency=512, prompt_tokens=8000, output_tokens=2)
    one_prompt = steps().time(Sequences("prefill", 1, 8000, 0)).seconds
    assert e.requests_per_s <= 1 / one_prompt


@pytest.mark.parametrize("output", [1, 2])
def test_the_shortest_requests_have_finite_positive_times(output):
    for mode in ("static", "closed_loop"):
        e = estimate(concurrency=4, prompt_tokens=1, output_tokens=output, mode=mode)
        assert 0 < e.ttft_s < 1
        assert 0 < e.e2e_latency_s < 1
        assert np.isfinite(e.output_tokens_per_s)


@settings(deadline=None)
@given(
    model=st.sampled_from(calc.model_ids()),
    device=st.sampled_from(["h100-sxm", "b200-sxm", "mi300x"]),
    users=st.integers(1, 400),
    more=st.integers(1, 100),
    prompt=st.integers(1, 16_000),
    output=st.integers(1, 2000),
    mode=st.sampled_from(["static", "closed_loop"]),
)
def test_more_users_never_make_a_token_faster_and_never_slow_the_whole(
    model, device, users, more, prompt, output, mode
):
    load = {"prompt_tokens": prompt, "output_tokens": output, "mode": mode}
    few, many = (estimate(model, device, concurrency=n, **load) for n in (users, users + more))
    assert many.tpot_s >= few.tpot_s * (1 - 1e-9)
    assert many.ttft_s >= few.ttft_s * (1 - 1e-9)


@settings(deadline=None)
@given(
    users=st.integers(1, 400),
    prompt=st.integers(1, 16_000),
    output=st.integers(2, 2000),
    more=st.integers(1, 4000),
    mode=st.sampled_from(["static", "closed_loop"]),
)
def test_longer_prompts_take_longer_to_the_first_token(users, prompt, output, more, mode):
    load = {"concurrency": users, "output_tokens": output, "mode": mode}
    short, long = (estimate(prompt_tokens=n, **load) for n in (prompt, prompt + more))
    assert long.ttft_s >= short.ttft_s * (1 - 1e-9)
    assert long.e2e_latency_s >= short.e2e_latency_s * (1 - 1e-9)


def test_arrays_give_what_scalars_give():
    users, tp = np.array([1, 8, 64, 400]), np.array([[1], [2], [4], [8]])
    together = estimate("llama-3.1-70b", tp=tp, concurrency=users)
    assert together.tpot_s.shape == (4, 4)
    for i, size in enumerate(tp[:, 0]):
        for j, n in enumerate(users):
            one = estimate("llama-3.1-70b", tp=int(size), concurrency=int(n))
            for name in ("ttft_s", "tpot_s", "output_tokens_per_s", "e2e_latency_s"):
                assert getattr(together, name)[i, j] == pytest.approx(getattr(one, name), rel=1e-12), (
                    size,
                    n,
                    name,
                )
            assert together.bound[i, j] == one.bound
