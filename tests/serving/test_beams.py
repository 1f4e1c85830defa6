"""Several sequences per request: beams, or n of best-of-n, of one prompt."""

import json

import numpy as np
import pytest

import calc
from calc.cli import main
from calc.work.op import Sequences

PLAIN = calc.steps_of("llama-3.1-8b", "h100-sxm")


def estimate(beams=4, deployment=None, **load):
    load = calc.Workload(**load, sequences_per_request=beams)
    return calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(**(deployment or {})), load)


def seconds(phase, n, new, past):
    return PLAIN.time(Sequences(phase, n, new, past)).seconds


def test_a_batch_computes_each_prompt_once_and_decodes_all_its_sequences():
    """8 requests of 4 beams: 8 prompts, then steps of 32 sequences, each reading its whole context."""
    e = estimate(mode="static", concurrency=8, prompt_tokens=512, output_tokens=101)
    assert e.ttft_s == pytest.approx(seconds("prefill", 8, 512, 0) + e.steps.handling_s, rel=1e-12)
    assert e.tpot_s == pytest.approx(seconds("decode", 32, 1, 512 + 50), rel=1e-12)


def test_the_tokens_of_one_sequence_count():
    e = estimate(concurrency=1, prompt_tokens=1000, output_tokens=101)
    assert e.tpot_s == pytest.approx(seconds("decode", 4, 1, 1050), rel=1e-12)
    assert e.output_tokens_per_s == pytest.approx(101 / (e.ttft_s + 100 * e.tpot_s))


def test_steps_with_prompts_carry_the_sequences_of_all_other_requests():
    mix = estimate(beams=4, concurrency=8).service.mix
    chunk = Sequences("prefill", 1.0, 1024, 0, sampled=1.0)
    own = PLAIN.time(Sequences("decode", 28, 1, 1024 + 127.5), chunk).seconds
    assert mix.decode.seconds == pytest.approx(seconds("decode", 32, 1, 1024 + 127.5), rel=1e-12)
    assert mix.own.seconds == pytest.approx(own, rel=1e-12)


def test_the_scheduler_counts_sequences():
    """A limit of 10 sequences holds two requests of four; the other six wait."""
    e = estimate(deployment={"max_sequences": 10}, concurrency=8)
    assert (e.service.concurrency, e.service.queued) == (2, 6)
    assert e.memory.held_concurrency == 2
    most = calc.solve(
        "llama-3.1-8b", "h100-sxm", calc.Deployment(max_sequences=10),
        calc.Workload(sequences_per_request=4), for_="concurrency",
    )  # fmt: skip
    assert (most.value, most.estimate.service.concurrency) == (2, 2)


def test_more_sequences_take_longer_and_one_is_the_plain_request():
    times = [float(estimate(beams, concurrency=16).tpot_s) for beams in (1, 2, 4, 8)]
    assert times == sorted(times)
    plain = calc.estimate("llama-3.1-8b", "h100-sxm", workload=calc.Workload(concurrency=16))
    assert times[0] == plain.tpot_s


def test_arrays_of_beams_give_what_scalars_give():
    beams = np.array([1, 2, 8])
    together = estimate(beams, concurrency=16)
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s"):
        alone = [float(getattr(estimate(int(n), concurrency=16), name)) for n in beams]
        assert getattr(together, name).tolist() == pytest.approx(alone), name


def test_an_open_loop_that_is_nearly_idle_sees_the_step_of_one_requests_sequences():
    e = estimate(requests_per_s=0.001, prompt_tokens=1000, output_tokens=101)
    assert e.tpot_s == pytest.approx(seconds("decode", 4, 1, 1050), rel=0.02)
    assert e.open_loop.max_requests_per_s < estimate(1, requests_per_s=0.001).open_loop.max_requests_per_s


def test_drafts_are_verified_for_every_sequence():
    drafts = calc.Speculation("ngram", 3, 0.5)
    load = {"mode": "static", "concurrency": 2, "prompt_tokens": 1000, "output_tokens": 101}
    two = estimate(4, {"speculation": drafts}, **load)
    eight = estimate(1, {"speculation": drafts}, **(load | {"concurrency": 8}))
    assert two.tpot_s == pytest.approx(eight.tpot_s, rel=1e-12)


def test_the_command_line_times_beams(capsys):
    words = [
        "estimate",
        "--model",
        "llama-3.1-8b",
        "--device",
        "h100-sxm",
        "--users",
        "8",
        "--sequences-per-request",
        "4",
    ]
    assert main(words) == 0
    assert "8 users of 4 sequences each" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["scenario"]["sequences_per_request"] == 4
    assert record["tpot_s"] == estimate(4, concurrency=8).tpot_s
