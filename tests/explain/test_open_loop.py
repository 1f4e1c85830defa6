"""Explanations of an open loop: means by Little's law, percentiles, the load and its limits."""

import numpy as np
import pytest

import calc
from calc.cli import main


def estimate(rate, model="llama-3.1-8b", device="h100-sxm", place=None, **load):
    load = calc.Workload(requests_per_s=rate, **load)
    return calc.estimate(model, device, calc.Deployment(**(place or {})), load)


def formulas(e, metric):
    return {equation.symbol: equation.formula.split(" = ", 1)[1] for equation in e.explain(metric).equations}


def values(e, metric):
    return {term.symbol: term.value for term in e.explain(metric).terms}


def test_a_token_takes_the_sequences_that_decode_over_the_rate_of_tokens():
    """Little's law: N decodes at 8 x 255 tokens a second take N / 2040 s each."""
    e = estimate(8.0)
    known = values(e, "tpot_s")
    assert formulas(e, "tpot_s")["TPOT"] == "c_early * N_run / (X_in * D)"
    shares = e.open_loop.in_flight
    running = (shares * np.minimum(np.arange(len(shares)), e.open_loop.cap)).sum()
    assert known["N_run"] == pytest.approx(running)
    assert known["c_early"] * running / (8 * 255) == pytest.approx(e.tpot_s)
    assert known["c_early"] == pytest.approx(1, abs=0.05)


def test_the_first_token_takes_queueing_the_prompts_steps_and_its_handling():
    e = estimate(8.0)
    known = values(e, "ttft_s")
    assert formulas(e, "ttft_s")["TTFT"] == "t_queue + t_prompt + h"
    assert known["t_queue"] == e.open_loop.queue.mean
    assert known["h"] == e.steps.handling_s
    assert known["h"] == known["h_request"] + known["h_launch"] * known["n_launch"]
    assert known["t_prompt"] >= known["t_alone"], "decodes and prompts of others share its steps"


def test_steps_at_key_sizes_are_shown_smallest_first():
    e = estimate(8.0, prompt_tokens=1000, output_tokens=101)
    known = values(e, "tpot_s")
    alone = calc.speculate(
        calc.steps_of("llama-3.1-8b", "h100-sxm"), calc.Speculation("ngram", 1, 0.5), 1, 1050
    )
    assert known["t_one"] == pytest.approx(alone.plain.seconds, rel=1e-9)
    assert known["t_one"] < known["t_mean"] < known["t_cap"]
    assert known["t_mean"] < known["t_beside"]


def test_load_is_the_rate_over_the_highest_steady_one():
    e = estimate(8.0)
    for metric in ("ttft_s", "tpot_s", "queue_s", "ttft_p99_s", "requests_per_s"):
        assert formulas(e, metric)["rho"] == "X_in / X_max"
        assert values(e, metric)["rho"] == pytest.approx(e.open_loop.load)
    assert "Steady: " in " ".join(e.explain("ttft_s").notes)


def test_batches_side_by_side_share_the_rate():
    e = estimate(8.0, place={"dp": 2})
    known = values(e, "tpot_s")
    assert (known["X_batch"], known["n_batches"]) == (4.0, 2)
    assert formulas(e, "tpot_s")["X_batch"] == "X_in / n_batches"


def test_lengths_that_spread_bring_their_mean():
    e = estimate(2.0, output_lengths="geometric")
    mean = e.workload.output_lengths.table(256).mean()
    assert values(e, "output_tokens_per_s")["O"] == pytest.approx(mean)
    assert values(e, "usd_per_mtok_output")["O"] == 256, "the bill is per token asked for"


def test_without_a_steady_state_rates_are_explained_and_times_are_refused():
    e = estimate(1000.0)
    assert e.explain("requests_per_s").value == e.open_loop.max_requests_per_s
    for metric in ("ttft_s", "tpot_s", "e2e_latency_s", "queue_s", "tpot_p90_s"):
        with pytest.raises(
            calc.SpecError, match=rf"{metric}: no steady state above .*allowed are lower rates"
        ):
            e.explain(metric)


@pytest.mark.parametrize(
    ("e", "metric", "message"),
    [
        (lambda: estimate(0.0), "tpot_s", "tpot_s at a rate of 0 is not explained"),
        (lambda: estimate(1.0, output_tokens=1), "tpot_s", "tpot_s: one output token has none"),
        (lambda: estimate(np.array([1.0, 2.0])), "ttft_s", "requests_per_s is an array of 2"),
        (lambda: calc.estimate("llama-3.1-8b", "h100-sxm"), "queue_s", "queue_s is of open loops"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(e, metric, message):
    with pytest.raises(calc.SpecError, match=message):
        e().explain(metric)


def test_the_command_line_explains_a_percentile(capsys):
    words = ["--model", "llama-3.1-8b", "--device", "h100-sxm", "--rate", "8"]
    assert main(["explain", "ttft_p99_s", *words]) == 0
    out = capsys.readouterr().out
    assert "TTFT_p99 = r_p99 * TTFT" in out
    assert "rho = X_in / X_max" in out
