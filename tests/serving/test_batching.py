"""Static batches and a fixed number of requests in flight."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import calc
from calc.serving import batching
from calc.serving.steps import Steps
from calc.specs.engine import engine_of
from calc.timing.calibration import calibration_for
from calc.timing.overheads import overheads_of
from calc.work.op import Sequences

PARALLEL = ("tp", "pp", "dp", "ep", "max_batched_tokens")


def estimate(model="llama-3.1-8b", device="h100-sxm", **load):
    deployment = calc.Deployment(**{name: load.pop(name) for name in PARALLEL if name in load})
    return calc.estimate(model, device, deployment, calc.Workload(**load), usd_per_device_hour=3.0)


def steps(model="llama-3.1-8b", device="h100-sxm", **parallel):
    d, deployment = calc.load_device(device), calc.Deployment(**parallel)
    engine, overheads = engine_of(deployment, d), overheads_of(deployment, d)
    return Steps(calc.load_model(model), d, deployment, engine, calibration_for(d), overheads)


def test_a_static_batch_takes_its_prefill_and_then_one_step_a_token():
    e = estimate(mode="static", concurrency=8, prompt_tokens=512, output_tokens=100)
    prefill = steps().time(Sequences("prefill", 8, 512, 0)).seconds
    assert e.ttft_s == pytest.approx(prefill + e.steps.handling_s, rel=1e-12)
    assert e.e2e_latency_s == pytest.approx(e.ttft_s + 99 * e.tpot_s)
    assert e.output_tokens_per_s == pytest.approx(8 * 100 / e.e2e_latency_s)


def test_the_step_at_the_mean_context_is_the_mean_step():
    """Sum over every single decode step of a long generation, against the closed form."""
    e = estimate(mode="static", concurrency=32, prompt_tokens=200, output_tokens=4000)
    each = steps().time(Sequences("decode", 32, 1, 200 + np.arange(1, 4000))).seconds
    assert e.tpot_s == pytest.approx(each.mean(), rel=0.01)


def test_one_user_in_a_loop_sees_plain_prefill_and_plain_decode():
    loop = estimate(concurrency=1, prompt_tokens=1024, output_tokens=128)
    static = estimate(mode="static", concurrency=1, prompt_tokens=1024, output_tokens=128)
    assert loop.ttft_s == pytest.approx(static.ttft_s, rel=1e-9)
    assert loop.tpot_s == pytest.approx(static.tpot_s, rel=1e-9)


def test_littles_law_holds_for_requests_in_flight():
    e = estimate(concurrency=48)
    assert e.requests_per_s * e.e2e_latency_s == pytest.approx(48)
    assert e.output_tokens_per_s == pytest.approx(256 * e.requests_per_s)


def test_engines_that_run_prompts_alone_let_the_decodes_wait_for_them():
    """SGLang: a generation's steps are plain decodes and, beside them, the prompts of the others."""
    load = calc.Workload(concurrency=16, prompt_tokens=2048, output_tokens=256)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(engine="sglang"), load)
    mix = e.service.mix
    plain = Steps(e.model, e.device, e.deployment, e.engine, e.calibration, e.overheads)
    decode = plain.time(Sequences("decode", 16, 1, 2048 + 255 / 2)).seconds
    prompt = plain.time(Sequences("prefill", 1, 2048, 0)).seconds
    assert mix.mixed.seconds == pytest.approx(decode + prompt)
    assert mix.own.seconds == pytest.approx(prompt)
    assert e.tpot_s == pytest.approx(decode + 15 * prompt / 255)


def test_chunks_that_share_steps_with_decodes_take_less_than_both_alone():
    load = {"concurrency": 16, "prompt_tokens": 2048, "output_tokens": 256}
    mix = estimate(**load).service.mix
    alone = steps().time(Sequences("prefill", 1, 2048, 0)).seconds
    assert mix.decode.seconds < mix.mixed.seconds < mix.decode.seconds + alone


def test_a_scheduler_that_holds_requests_adds_so_many_steps_before_the_first_token():
    """Mean steps, with drafts too; one request alone waits for nobody, and decoding is not touched."""
    load = calc.Workload(concurrency=16, prompt_tokens=1024, output_tokens=256)
    drafts = calc.Speculation("ngram", 3, 0.5)
    for speculation in (None, drafts):
        free, held = (
            calc.estimate(
                "llama-3.1-8b", "h100-sxm", calc.Deployment(hold_steps=n, speculation=speculation), load
            )
            for n in (0, 10)
        )
        step = held.tpot_s * (1 if speculation is None else 1.875)
        assert held.tpot_s == free.tpot_s
        assert held.ttft_s - free.ttft_s == pytest.approx(10 * step * 15 / 16)


def test_what_a_scheduler_holds_is_not_answered_in_an_open_loop():
    load = calc.Workload(mode="open_loop", requests_per_s=1.0)
    with pytest.raises(calc.SpecError, match="hold_steps: 10: allowed is 0 in an open loop"):
        calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(hold_steps=10), load)


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


def test_one_request_waits_for_nothing_but_its_handling():
    e = estimate(concurrency=1, prompt_tokens=20_000)
    mix = e.service.mix
    assert mix.chunks > 1
    assert [mix.scheduler_wait_s, mix.burst_wait_s, mix.prefill_wait_s, mix.queue_wait_s] == [0, 0, 0, 0]
    assert e.ttft_s == pytest.approx(mix.chunks * mix.own.seconds + e.steps.handling_s, rel=1e-12)


def test_waits_grow_with_the_others_of_a_batch():
    few, many = (estimate(concurrency=n).service.mix for n in (2, 50))
    assert 0 < few.scheduler_wait_s < many.scheduler_wait_s
    assert 0 <= few.burst_wait_s < many.burst_wait_s


def test_requests_that_come_faster_than_prefill_wait_until_they_do_not():
    """The batch turns over no faster than its prompts are prefilled, one chunk after the other."""
    e = estimate(concurrency=200, prompt_tokens=8000, output_tokens=4)
    mix = e.service.mix
    assert mix.prefill_wait_s > 0
    assert e.e2e_latency_s == pytest.approx(200 * mix.chunks * mix.mixed.seconds / mix.per_step)


@pytest.mark.parametrize("mode", ["static", "closed_loop"])
def test_data_ranks_of_a_dense_model_are_replicas(mode):
    four, one = estimate(dp=4, concurrency=64, mode=mode), estimate(concurrency=16, mode=mode)
    assert four.tpot_s == pytest.approx(one.tpot_s, rel=1e-12)
    assert four.ttft_s == pytest.approx(one.ttft_s, rel=1e-12)
    assert four.requests_per_s == pytest.approx(4 * one.requests_per_s, rel=1e-12)


def test_each_data_rank_has_the_schedulers_limit_to_itself():
    small = {"prompt_tokens": 8, "output_tokens": 8, "mode": "max_load"}
    one, two = estimate(**small), estimate(dp=2, **small)
    assert two.service.concurrency == 2 * one.service.concurrency


def test_ranks_that_meet_at_the_experts_take_their_prompts_in_the_same_steps():
    """The share of steps with chunks is that of one rank: 15 others of 16 prefill in 511 steps."""
    mix = estimate("qwen3-30b-a3b", dp=4, ep=4, concurrency=64, output_tokens=512).service.mix
    assert mix.batch == 16
    assert mix.share == pytest.approx(mix.chunks * 15 / 511)


@pytest.mark.parametrize("users", [1, 2])
@pytest.mark.parametrize("mode", ["static", "closed_loop"])
def test_few_requests_in_a_pipeline_see_whole_passes(users, mode):
    """With no more requests than stages each travels alone: a token takes all stages."""
    e = estimate(pp=2, concurrency=users, prompt_tokens=1024, output_tokens=128, mode=mode)
    alone = steps(pp=2).time(Sequences("decode", 1, 1, 1024 + 127 / 2)).seconds
    assert e.tpot_s == pytest.approx(alone, rel=1e-12)


def test_a_full_pipeline_serves_as_many_batches_as_it_has_stages():
    e = estimate(pp=4, concurrency=64, mode="static", prompt_tokens=512, output_tokens=100)
    alone = steps(pp=4).time(Sequences("decode", 16, 1, 512 + 99 / 2)).seconds
    assert e.tpot_s == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("stages", [1, 2, 3, 8])
def test_the_fill_of_a_pipeline_is_that_of_a_schedule_played_through(stages):
    """Stages of equal length, one micro-batch for each: when the last one leaves the last stage."""
    left = np.zeros((stages + 1, stages + 1))
    for batch in range(1, stages + 1):
        for stage in range(1, stages + 1):
            left[batch, stage] = max(left[batch - 1, stage], left[batch, stage - 1]) + 1 / stages
    assert batching.pipeline_fill(stages) == pytest.approx(left[-1, -1])
    e = estimate(pp=stages, concurrency=8 * stages, mode="static", prompt_tokens=500)
    one_pass = steps(pp=stages).time(Sequences("prefill", 8, 500, 0)).seconds
    assert e.ttft_s == pytest.approx(left[-1, -1] * one_pass + e.steps.handling_s)


PLACES = [{}, {"tp": 2}, {"pp": 2}, {"dp": 2}, {"dp": 2, "ep": 2}, {"tp": 2, "pp": 2, "dp": 2, "ep": 4}]


def valid(model, place):
    heads = {dict(layer.attention.sizes).get("n_heads", 2) for layer in model.layers if layer.attention}
    return all(n % place.get("tp", 1) == 0 for n in heads) and place.get("pp", 1) <= model.n_layers


@settings(deadline=None)
@given(
    model=st.sampled_from(calc.model_ids()),
    device=st.sampled_from(["h100-sxm", "b200-sxm", "mi300x"]),
    place=st.sampled_from(PLACES),
    users=st.integers(1, 400),
    more=st.integers(1, 100),
    prompt=st.integers(1, 16_000),
    output=st.integers(1, 2000),
    mode=st.sampled_from(["static", "closed_loop"]),
)
def test_more_users_never_make_a_token_faster(model, device, place, users, more, prompt, output, mode):
    assume(valid(calc.load_model(model), place))
    load = {"prompt_tokens": prompt, "output_tokens": output, "mode": mode, **place}
    few, many = (estimate(model, device, concurrency=n, **load) for n in (users, users + more))
    assert many.tpot_s >= few.tpot_s * (1 - 1e-9)
    # a chunk can cost less beside a batch that fills its last wave of tiles: its wait, never the token
    assert many.ttft_s >= few.ttft_s * 0.98


@settings(deadline=None)
@given(
    model=st.sampled_from(["llama-3.1-8b", "llama-3.1-70b", "gemma-3-27b", "mixtral-8x7b", "deepseek-v3"]),
    place=st.sampled_from(PLACES),
    users=st.integers(1, 400),
    prompt=st.integers(1, 16_000),
    output=st.integers(2, 2000),
    more=st.integers(1, 4000),
    mode=st.sampled_from(["static", "closed_loop"]),
)
def test_longer_prompts_take_longer_to_the_first_token(model, place, users, prompt, output, more, mode):
    load = {"concurrency": users, "output_tokens": output, "mode": mode, **place}
    short, long = (estimate(model, prompt_tokens=n, **load) for n in (prompt, prompt + more))
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


def test_a_shared_prefix_is_computed_once_and_read_by_all():
    """Prompts that are cached but for one token cost no prefill; their decodes read as much as ever."""
    whole, cached = estimate(concurrency=32), estimate(concurrency=32, shared_prefix_tokens=1024)
    assert cached.service.mix.decode.seconds == pytest.approx(whole.service.mix.decode.seconds)
    assert cached.ttft_s < whole.ttft_s
    none = estimate(concurrency=32, shared_prefix_tokens=0)
    assert none.tpot_s == whole.tpot_s


def test_first_requests_wait_for_what_is_built_once_they_fill_a_step():
    """SGLang of late 2025 in a benchmark without warm-up: 64 prompts of 1024 fill 32768 tokens, 4 do not."""
    waits = []
    for users in (4, 64):
        d = calc.Deployment(engine="sglang", engine_version="0.5.5", tp=8, max_batched_tokens=32768)
        warm, cold = (
            calc.estimate("deepseek-r1", "b200-sxm", d, calc.Workload(concurrency=users, warmed_up=is_warm))
            for is_warm in (True, False)
        )
        waits.append(cold.service.mix.handling_s - warm.service.mix.handling_s)
    assert waits[0] == 0
    assert waits[1] == pytest.approx(cold.overheads.first_use_s)
    assert waits[1] > 1
    assert cold.ttft_s - warm.ttft_s <= waits[1] * (1 + 1e-9)
    assert float(cold.explain("ttft_s").value) == pytest.approx(cold.ttft_s)


@pytest.mark.parametrize("mode", ["static", "max_load"])
def test_only_closed_loops_are_answered_for_servers_that_are_not_warmed_up(mode):
    with pytest.raises(calc.SpecError, match=r"warmed_up: False: allowed is True in mode"):
        calc.Workload(mode=mode, warmed_up=False)


def test_a_request_is_launched_kernel_by_kernel():
    """Ten operations a layer, 12 of experts among them: ten kernels each, all others one."""
    with_experts, dense = (steps(model=name).prefill_launches for name in ("mixtral-8x7b", "mistral-7b-v0.1"))
    # both of 32 layers: a router and experts instead of up, activation and down
    assert with_experts - dense == 32 * (1 + 10 - 3)
