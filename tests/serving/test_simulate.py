"""The simulator: tiny cases by hand, what is conserved, and its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calc
from calc.serving.requests import Requests, poisson_requests
from calc.serving.scheduler import Scheduler
from calc.serving.simulate import ready, simulate_requests
from calc.serving.step_table import StepTable, step_table
from calc.work.op import Sequences

BASE_S, PER_DECODE_S, PER_TOKEN_S = 0.01, 0.001, 0.0001


def table(budget=1000, decodes=64) -> StepTable:
    """A step takes 10 ms, 1 ms a decode, 0.1 ms a prompt token; attention costs nothing."""
    n, tokens, contexts = np.arange(1.0, decodes + 1), np.arange(1.0, budget + 1), np.array([1.0, 1e5])
    decode_s = np.repeat((BASE_S + PER_DECODE_S * n)[:, None], 2, axis=1)
    beside = np.repeat(PER_TOKEN_S * tokens[None, :], decodes, axis=0)
    return StepTable(
        decodes=n,
        contexts=contexts,
        tokens=tokens,
        decode_s=decode_s,
        surplus_s=np.vstack([BASE_S + PER_TOKEN_S * tokens, beside]),
        attention_s=0 * tokens,
        past_s=np.zeros((budget, 2)),
        sequence_s=0.0,
    )


def rules(**other) -> Scheduler:
    settings = {"max_sequences": 64, "budget_tokens": 1000, "blocks": 10_000, "block_tokens": 16}
    return Scheduler(**{**settings, **other})


def requests(*rows) -> Requests:
    arrival, prompt, output = (np.array(column) for column in zip(*rows, strict=True))
    return Requests(arrival.astype(float), prompt, output)


def run(*rows, replicas=1, routing="round_robin", **other):
    return simulate_requests(table(), rules(**other), requests(*rows), replicas, routing)


def test_one_request_takes_its_prefill_and_then_one_step_a_token():
    s = run((0.0, 100, 5))
    assert s.ttft_s == pytest.approx([0.01 + 100 * 0.0001])
    assert s.tpot_s == pytest.approx([0.011])
    assert s.e2e_latency_s == pytest.approx([0.02 + 4 * 0.011])
    assert s.queue_s == [0]


def test_a_request_of_one_token_ends_with_its_prefill():
    s = run((3.0, 100, 1))
    assert s.e2e_latency_s == s.ttft_s == pytest.approx([0.02])
    assert np.isnan(s.tpot_s[0])


def test_two_requests_at_once_share_prefill_and_decodes():
    s = run((0.0, 100, 3), (0.0, 200, 3))
    assert s.ttft_s == pytest.approx([0.04, 0.04])
    assert s.tpot_s == pytest.approx([0.012, 0.012])


def test_a_prompt_waits_for_the_running_step_and_then_shares_the_next():
    """The first prefills until 20 ms and decodes until 31 ms; the second arrives in between."""
    s = run((0.0, 100, 3), (0.025, 200, 2))
    mixed = 0.011 + 200 * 0.0001
    assert s.queue_s == pytest.approx([0, 0.006])
    assert s.ttft_s == pytest.approx([0.02, 0.006 + mixed])
    assert s.tpot_s == pytest.approx([(0.011 + mixed) / 2, 0.011])


def test_prefill_first_lets_decodes_wait():
    s = run((0.0, 100, 3), (0.025, 200, 2), policy="prefill_first")
    alone = 0.01 + 200 * 0.0001
    assert s.ttft_s == pytest.approx([0.02, 0.006 + alone])
    assert s.tpot_s == pytest.approx([(0.011 + alone + 0.012) / 2, 0.012])


def test_a_long_prompt_comes_in_chunks_of_the_budget():
    s = run((0.0, 2500, 2))
    assert s.ttft_s == pytest.approx([3 * 0.01 + 2500 * 0.0001])
    assert s.steps == 4


def test_requests_beyond_max_sequences_wait_for_a_place():
    s = run((0.0, 100, 3), (0.0, 100, 3), max_sequences=1)
    assert s.queue_s == pytest.approx([0, 0.02 + 2 * 0.011])


def test_the_newest_is_preempted_when_blocks_run_out_and_computed_again():
    """Four blocks, two prompts of two: the first decode needs a block that only preemption gives.

    The second waits until the first is done, computes 32 + 1 tokens and gives its second token.
    """
    s = run((0.0, 32, 4), (0.0, 32, 4), blocks=4, watermark=0.0)
    both, again = 0.01 + 64 * 0.0001, 0.01 + 33 * 0.0001
    assert s.preemptions == 1
    assert s.ttft_s == pytest.approx([both, both])
    assert s.e2e_latency_s == pytest.approx([both + 3 * 0.011, both + 3 * 0.011 + again + 2 * 0.011])
    assert s.prefilled_tokens == 64 + 33


def test_reserving_whole_requests_never_preempts():
    s = run((0.0, 32, 4), (0.0, 32, 4), blocks=4, watermark=0.0, reserve="request")
    assert s.preemptions == 0
    assert s.queue_s == pytest.approx([0, 0.01 + 32 * 0.0001 + 3 * 0.011])


def test_a_cached_prefix_is_neither_computed_nor_stored():
    s = run((0.0, 320, 2), cached_share=0.5)
    assert s.ttft_s == pytest.approx([0.01 + 160 * 0.0001])
    assert s.pool_share == pytest.approx(11 / 10_000)  # 160 own tokens and the first generated one


def test_a_request_longer_than_the_pool_is_rejected_and_counted():
    s = run((0.0, 32, 4), (0.0, 100, 4), blocks=4)
    assert (s.finished, s.rejected) == (1, 1)
    assert not s.meets(None, None)


def test_round_robin_takes_turns_and_least_loaded_takes_the_emptier():
    rows = [(0.0, 100, 50), (0.001, 100, 2), (0.5, 100, 2), (0.5, 100, 2)]
    assert run(*rows, replicas=2).ttft_s[2:] == pytest.approx([0.026, 0.02], abs=0.01)
    busy_first = [(0.0, 100, 500), (0.001, 100, 2), (0.5, 100, 2)]
    least = run(*busy_first, replicas=2, routing="least_loaded")
    assert least.ttft_s[2] == pytest.approx(0.02)


def naive(rows, limits: Scheduler, steps: StepTable):
    """One step after the other, every sequence by itself; no preemption: first and last times."""
    waiting, running, now, times = list(range(len(rows))), [], 0.0, {}
    left = {i: [rows[i][1], rows[i][2]] for i in waiting}
    while waiting or running:
        if not running and rows[waiting[0]][0] > now:
            now = rows[waiting[0]][0]
        decodes = [i for i in running if left[i][0] == 0]
        budget, pieces = limits.budget_tokens - len(decodes), []
        for i in [i for i in running if left[i][0]]:
            pieces.append((i, min(left[i][0], budget)))
            budget -= pieces[-1][1]
        while waiting and rows[waiting[0]][0] <= now and budget and len(running) < limits.max_sequences:
            i = waiting.pop(0)
            running.append(i)
            pieces.append((i, min(left[i][0], budget)))
            budget -= pieces[-1][1]
        now += float(steps.step(len(decodes), 1.0, sum(n for _, n in pieces)))
        for i in decodes:
            left[i][1] -= 1
        for i, new in pieces:
            left[i][0] -= new
            if left[i][0] == 0:
                left[i][1] -= 1
                times[i] = [now, now]
        for i in [i for i in running if left[i] == [0, 0]]:
            running.remove(i)
            times[i][1] = now
    return np.array([times[i] for i in range(len(rows))])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.2), st.integers(1, 1500), st.integers(1, 40)), min_size=1, max_size=30)
)
def test_skipping_ahead_gives_what_single_steps_give(rows):
    rows = sorted(rows)
    limits = rules(max_sequences=8)
    s = simulate_requests(table(), limits, requests(*rows))
    expected = naive(rows, limits, table())
    arrival = np.array([row[0] for row in rows])
    assert s.ttft_s == pytest.approx(expected[:, 0] - arrival, abs=1e-9)
    assert s.e2e_latency_s == pytest.approx(expected[:, 1] - arrival, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 300), st.integers(1, 60)), min_size=1, max_size=40),
    st.integers(23, 60),
    st.sampled_from(["chunked", "prefill_first"]),
    st.sampled_from(["prompt", "request"]),
)
def test_every_request_is_served_once_and_all_blocks_come_back(rows, blocks, policy, reserve):
    from calc.serving.replica import Replica, Sequence

    replica = Replica(
        table(budget=100), rules(blocks=blocks, budget_tokens=100, policy=policy, reserve=reserve)
    )
    for i, (arrival, prompt, output) in enumerate(sorted(rows)):
        replica.advance(arrival)
        replica.push(Sequence(i, arrival, prompt, output))
    replica.advance(float("inf"))
    assert sorted(s.index for s in replica.finished) == list(range(len(rows)))
    assert [s.generated for s in replica.finished] == [s.output for s in replica.finished]
    assert all(s.arrival_s <= s.start_s < s.first_s <= s.finish_s for s in replica.finished)
    assert replica._used_blocks == 0
    assert replica._cached_tokens == 0
    assert sum(replica._full_at) == 0
    assert replica.peak_blocks <= blocks
    assert replica.prefilled_tokens >= sum(row[1] for row in rows)


def test_the_table_is_within_two_percent_of_single_steps():
    random = np.random.default_rng(0)
    for model, device, tp in (("llama-3.1-70b", "h100-sxm", 4), ("gpt-oss-120b", "h100-sxm", 1)):
        steps = calc.steps_of(model, device, calc.Deployment(tp=tp))
        t = step_table(steps, 1024, 8192, 32768)
        for _ in range(60):
            n, tokens = (int(np.exp(random.uniform(0, most))) for most in (6.9, 9))
            context = np.exp(random.uniform(3, 10))
            exact = steps.time(Sequences("decode", n, 1, context), Sequences("prefill", 1, tokens, 0)).seconds
            assert float(t.step(n, context, tokens) + t.attention(tokens)) == pytest.approx(exact, rel=0.02)


def test_a_light_load_sees_an_empty_system():
    load = poisson_requests(0.05, 300, 1024, 128, seed=3)
    s = calc.simulate("llama-3.1-8b", "h100-sxm", None, load)
    alone = calc.estimate("llama-3.1-8b", "h100-sxm", None, calc.Workload(1024, 128, 1))
    assert s.percentile("ttft_s", 50) == pytest.approx(alone.ttft_s, rel=0.01)
    assert s.percentile("tpot_s", 50) == pytest.approx(alone.tpot_s, rel=0.01)


def test_more_than_can_be_served_queues_for_ever():
    steps = calc.steps_of("llama-3.1-8b", "h100-sxm")
    load = poisson_requests(60.0, 4000, 1024, 256, seed=3)
    s = simulate_requests(*ready(steps, load), load)
    assert s.requests_per_s < 30
    assert s.percentile("ttft_s", 99) > 10 * s.percentile("ttft_s", 1)


def test_the_same_seed_gives_the_same_times():
    one, two = (
        calc.simulate("llama-3.1-8b", "h100-sxm", None, poisson_requests(5, 300, 500, 50)) for _ in "ab"
    )
    assert (one.ttft_s == two.ttft_s).all()


def test_goodput_counts_requests_that_keep_both_limits():
    s = run((0.0, 100, 3), (10.0, 900, 3))
    assert s.goodput(ttft_s=0.05) * s.duration_s == pytest.approx(1)
    assert s.goodput(tpot_s=0.02) * s.duration_s == pytest.approx(2)


def test_an_interrupt_reports_what_was_finished(monkeypatch):
    from calc.serving import simulate as module

    def interrupted(fleet, load, routing):
        fleet[0].push(module.Sequence(0, 0.0, 100, 2))
        fleet[0].advance(float("inf"))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_run", interrupted)
    s = run((0.0, 100, 2), (0.0, 100, 2))
    assert (s.finished, s.n_requests, s.interrupted) == (1, 2, True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run((0.0, 1, 1), routing="random"), "routing: 'random' is not known"),
        (lambda: run((0.0, 1, 1), replicas=0), "replicas: 0 is not allowed"),
        (lambda: rules(policy="x"), "policy: 'x' is not known"),
        (lambda: poisson_requests(0, 10, 1, 1), "requests_per_s: 0 is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named(call, message):
    with pytest.raises(calc.SpecError, match=message):
        call()


def test_data_ranks_are_batches_side_by_side():
    load = poisson_requests(6.0, 400, 1024, 128, seed=5)
    ranks = calc.simulate("llama-3.1-8b", "h100-sxm", calc.Deployment(dp=2), load)
    replicas = calc.simulate("llama-3.1-8b", "h100-sxm", None, load, replicas=2)
    assert (ranks.replicas, replicas.replicas) == (1, 2)
    assert ranks.percentile("ttft_s", 90) == pytest.approx(replicas.percentile("ttft_s", 90), rel=0.02)
