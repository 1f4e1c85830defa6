"""Explanations of times: drafts, shared prefixes and several sequences per request."""

import pytest

import calc


def estimate(model="llama-3.1-70b", device="h100-sxm", load=None, **deployment):
    return calc.estimate(model, device, calc.Deployment(**deployment), calc.Workload(**(load or {})))


def formulas(e, metric):
    return {equation.symbol: equation.formula.split(" = ", 1)[1] for equation in e.explain(metric).equations}


def values(e, metric):
    return {term.symbol: term.value for term in e.explain(metric).terms}


DRAFTS = calc.Speculation("draft", 4, 0.7, draft_model="llama-3.2-1b")


def test_a_token_with_drafts_is_the_verifying_step_and_the_passes_over_what_they_gain():
    load = {"prompt_tokens": 1000, "output_tokens": 101, "concurrency": 8}
    e = estimate(tp=4, speculation=DRAFTS, load=load)
    plain = calc.steps_of("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4))
    drafted = calc.speculate(plain, DRAFTS, 8, 1050)
    found, known = formulas(e, "tpot_s"), values(e, "tpot_s")
    assert (found["TPOT"], found["t_step"]) == ("1 / G * t_step", "s * t_mixed + (1 - s) * t_decode")
    assert found["G"] == "(1 - a_kept ** (g_drafts + 1)) / (1 - a_kept)"
    assert known["G"] == pytest.approx(1 + 0.7 + 0.7**2 + 0.7**3 + 0.7**4)
    assert found["t_decode_drafts"] == "g_drafts * t_pass"
    assert known["t_decode_drafts"] == pytest.approx(drafted.draft.seconds, rel=1e-12)
    assert known["t_decode"] == pytest.approx(drafted.draft.seconds + drafted.verify.seconds, rel=1e-12)
    assert found["D"] == "max(1, (O - 1) / G)"


def test_logits_of_drafts_take_host_time_like_sequences():
    """8 requests of 2 sequences, each with 4 drafts and a token of its own: 80 rows."""
    e = estimate(tp=4, speculation=DRAFTS, load={"concurrency": 8, "sequences_per_request": 2})
    assert formulas(e, "tpot_s")["N_rows"] == "N * b_seq * (g_drafts + 1)"
    assert values(e, "tpot_s")["N_rows"] == 80


def test_drafts_that_are_all_kept_gain_one_more_than_their_number():
    e = estimate("llama-3.1-8b", speculation=calc.Speculation("ngram", 5, 1.0))
    assert formulas(e, "tpot_s")["G"] == "g_drafts + 1"
    assert "t_pass" not in formulas(e, "tpot_s")


def test_a_shared_prefix_leaves_less_to_compute():
    e = estimate("llama-3.1-8b", load={"concurrency": 8, "shared_prefix_tokens": 900})
    found, known = formulas(e, "ttft_s"), values(e, "ttft_s")
    assert found["I_new"] == "max(1, I - I_shared)"
    assert found["k"] == "ceil(I_new / B)"
    assert (known["I_new"], known["I_shared"]) == (124, 900)
    assert "900 shared tokens are cached" in " ".join(e.explain("ttft_s").notes)


def test_requests_of_several_sequences_share_full_blocks_of_their_prompt():
    """Llama-3.1-8B, 131,072 bytes a token: 1024 tokens once, 256 for each of four."""
    e = estimate("llama-3.1-8b", load={"concurrency": 8, "sequences_per_request": 4})
    known = values(e, "cache_bytes")
    assert formulas(e, "cache_bytes")["C_request"].startswith("(C_prompt + b_seq * (C_sequence - C_prompt)")
    assert known["C_prompt"] == 1024 * 131_072
    assert known["C_request"] == (1024 + 4 * 256) * 131_072
