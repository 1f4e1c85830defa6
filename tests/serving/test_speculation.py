"""Speculative decoding: the expected tokens of a step, and what drafts cost."""

import numpy as np
import pytest

import calc
from calc.serving.speculation import accepted_tokens_per_step


def test_accepted_tokens_are_the_mean_over_where_the_first_rejection_falls():
    for a, g in ((0.3, 1), (0.7, 4), (0.95, 8)):
        drawn = sum((k + 1) * a**k * (1 - a) for k in range(g)) + (g + 1) * a**g
        assert accepted_tokens_per_step(a, g) == pytest.approx(drawn)


def test_all_accepted_gives_every_draft_and_one_more():
    assert accepted_tokens_per_step(np.array([0.0, 1.0]), 4).tolist() == [1.0, 5.0]


def steps(model="llama-3.1-70b", device="h100-sxm", tp=4):
    return calc.steps_of(model, device, calc.Deployment(tp=tp))


def speculate(kind="ngram", n=1, drafts=3, acceptance=0.7, context=1500, **other):
    return calc.speculate(steps(), calc.Speculation(kind, drafts, acceptance, **other), n, context)


def test_time_per_token_is_the_step_over_the_tokens_it_gives():
    s = speculate("eagle")
    assert s.tpot.seconds == pytest.approx((s.verify.seconds + s.draft.seconds) / s.tokens_per_step)
    assert s.speedup == pytest.approx(s.plain.seconds / s.tpot.seconds)


def test_verifying_a_few_drafts_of_one_sequence_costs_little_more_than_a_step():
    s = speculate()
    assert s.plain.seconds < s.verify.seconds < 1.1 * s.plain.seconds
    assert s.draft.seconds == 0


def test_drafting_gains_less_the_fuller_the_batch():
    gains = [speculate("draft", n, draft_model="llama-3.2-1b").speedup for n in (1, 16, 256)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1.5 > 1.1 > gains[-1]


def test_a_head_costs_less_than_a_draft_model():
    assert speculate("eagle").draft.seconds < speculate("draft", draft_model="llama-3.2-1b").draft.seconds


def test_an_mtp_head_runs_its_own_layer():
    deep = steps("deepseek-v3", "b200-sxm", 8)
    s = calc.speculate(deep, calc.Speculation("mtp", 1, 0.85), 1, 1000)
    assert 1.5 < s.speedup < 1.85
    assert 0 < s.draft.seconds < 0.1 * s.verify.seconds


def test_arrays_of_batches_give_arrays():
    n = np.array([1.0, 8.0, 64.0])
    together = speculate("eagle", n)
    assert together.speedup.tolist() == pytest.approx([float(speculate("eagle", each).speedup) for each in n])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calc.Speculation("magic", 3, 0.5), "speculation: 'magic' is not known"),
        (lambda: calc.Speculation("ngram", 0, 0.5), "draft_tokens: 0 is not allowed"),
        (lambda: calc.Speculation("ngram", 3), "acceptance: 0.0 is not allowed"),
        (lambda: calc.Speculation("draft", 3, 0.5), "draft_model: None with 'draft'"),
        (lambda: speculate("mtp"), "llama-3.1-70b has no next-token layer"),
        (lambda: speculate("draft", draft_model="qwen3-32b"), "draft_model: qwen3-32b has a vocabulary"),
        (lambda: calc.Deployment(speculation="eagle"), "speculation: 'eagle' is not allowed"),
    ],
)
def test_what_cannot_draft_is_named(call, message):
    with pytest.raises(calc.SpecError, match=message):
        call()


def test_an_estimate_times_steps_with_drafts():
    """One request alone: TPOT is that of ``speculate`` at the mean context of the generation."""
    drafts = calc.Speculation("ngram", 3, 0.5)
    load = calc.Workload(prompt_tokens=1000, output_tokens=101, concurrency=1)
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(speculation=drafts), load)
    alone = calc.speculate(calc.steps_of("llama-3.1-8b", "h100-sxm"), drafts, 1, 1050)
    assert e.tpot_s == pytest.approx(alone.tpot.seconds, rel=1e-9)


def test_the_breakdown_tells_drafting_passes_from_the_step_that_verifies():
    drafts = calc.Speculation("draft", 4, 0.7, draft_model="llama-3.2-1b")
    load = calc.Workload(prompt_tokens=1000, output_tokens=101, concurrency=1)
    e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4, speculation=drafts), load)
    alone = speculate("draft", drafts=4, context=1050, draft_model="llama-3.2-1b")
    drafting = sum(s for op, s, _ in e.breakdown("tpot_s") if op.startswith("draft."))
    assert drafting == pytest.approx(alone.draft.seconds / alone.tokens_per_step, rel=1e-9)


def test_drafts_in_an_open_loop_are_refused():
    deployment = calc.Deployment(speculation=calc.Speculation("ngram", 3, 0.5))
    with pytest.raises(calc.SpecError, match="open loop"):
        calc.estimate("llama-3.1-8b", "h100-sxm", deployment, calc.Workload(requests_per_s=1.0))


def test_a_next_token_head_of_attention_and_experts_apart_runs_both():
    """Nemotron 3 Super: a pass reads the weights of its experts too, not of attention alone."""
    deep = steps("nemotron-3-super-120b-a12b-fp8", "h200-sxm", 4)
    s = calc.speculate(deep, calc.Speculation("mtp", 1, 0.8), 1, 1000)
    assert "draft.moe.experts" in " ".join(row.name for row in s.draft.rows)
