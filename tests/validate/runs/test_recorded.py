"""Recorded runs give what the calculator gives, for any overheads."""

import numpy as np
import pytest

from calc.timing.overheads import GROUPS, HOST, load_overheads
from validate.overheads import overheads_text
from validate.runs.fit import FREE, fitted, left_out, near, overheads_of, run_error, split, time_ratio
from validate.runs.recorded import Runs, overheads_from, recorded

LOADS = (
    {"concurrency": 1}, {"concurrency": 16}, {"concurrency": 128, "output_tokens": 128},
    {"mode": "static", "concurrency": 8, "metric": "e2e_latency_s"},
    {"mode": "max_load", "concurrency": "", "metric": "output_tokens_per_s"},
    {"metric": "ttft_s", "prompt_tokens": 9000}, {"tp": 2, "pp": 2}, {"tp": 1, "n_devices": 1},
    {"group": "inferencex", "output_tokens": 1024, "metric": "ttft_s"},
)  # fmt: skip
#: runs with drafts, that hold requests back, of an engine that runs prompts alone, over the host's link
OTHERS = (
    {"engine": "tensorrt-llm", "engine_version": "1.2.0rc6.post3", "device": "b200-sxm", "metric": "ttft_s"},
    {"engine": "tensorrt-llm", "engine_version": "1.2.0rc6.post3", "device": "b200-sxm", "concurrency": 128},
    {"engine": "sglang", "engine_version": "0.5.9", "device": "b200-sxm", "concurrency": 128, "tp": 8,
     "n_devices": 8, "ep": 1},
    {"engine": "sglang", "engine_version": "0.5.9", "device": "h100-sxm", "metric": "ttft_s", "tp": 8,
     "n_devices": 8, "model": "Qwen/Qwen3-32B"},
    {"engine": "vllm", "engine_version": "0.12.0", "device": "l40s", "model": "Qwen/Qwen3-32B"},
)  # fmt: skip


@pytest.fixture
def members(run):
    return [recorded(run(i, **changes)) for i, changes in enumerate(LOADS)]


def test_recorded_runs_give_what_the_calculator_gives(members):
    """With the shipped overheads the shortcut of the fit and the product agree."""
    shipped = load_overheads("vllm", "0.12.0")
    values = {name: getattr(shipped, name) for name in HOST} | dict(shipped.kernels)
    values |= {f"reach.{name}": share for name, share in shipped.reach.items()}
    shortcut = Runs(members).predicted(overheads_from("vllm", values))
    for member, predicted in zip(members, shortcut, strict=True):
        e = member.scenario.estimate()
        expected = {"tpot_s": e.tpot_s, "ttft_s": e.ttft_s, "e2e_latency_s": e.e2e_latency_s,
                    "output_tokens_per_s": e.output_tokens_per_s}[member.run.metric]  # fmt: skip
        assert predicted == pytest.approx(float(expected), rel=2e-3)


@pytest.mark.parametrize("changes", OTHERS)
def test_recorded_runs_with_settings_of_their_own_give_what_the_calculator_gives(run, changes):
    row = {"group": "inferencex", "model": "deepseek-ai/DeepSeek-R1", "output_tokens": 1024, **changes}
    member = recorded(run(**row))
    e = member.scenario.estimate()
    shipped = e.overheads
    values = {name: getattr(shipped, name) for name in HOST} | dict(shipped.kernels)
    values |= {f"reach.{name}": share for name, share in shipped.reach.items()}
    predicted = Runs([member]).predicted(overheads_from(shipped.engine, values))[0]
    assert predicted == pytest.approx(float(getattr(e, member.run.metric)), rel=2e-3)


def test_slower_kernels_and_hosts_make_every_time_longer(members):
    base = Runs(members).predicted(overheads_from("vllm", {}))
    for name in ("gemm", "quantised_gemm", "decode_attention", "step_s", "layer_s"):
        value = 1.5 if name in GROUPS else 1e-3
        worse = Runs(members).predicted(overheads_from("vllm", {name: value}))
        for member, before, after in zip(members, base, worse, strict=True):
            slower = after <= before if member.run.metric == "output_tokens_per_s" else after >= before
            assert slower, (name, member.run.metric)


def test_a_fit_finds_the_overheads_that_made_the_figures(run):
    """Figures made with known overheads are met within a few percent, device left out or not."""
    true = {name: free.start for name, free in FREE.items()} | {"step_s": 4e-3, "sequence_s": 3e-5}
    changes = [
        {"concurrency": n, "output_tokens": o, "device": device, "metric": metric}
        for n in (1, 8, 64) for o in (128, 512) for device in ("h100-sxm", "b200-sxm")
        for metric in ("tpot_s", "ttft_s")
    ]  # fmt: skip
    bare = [recorded(run(i, **each)) for i, each in enumerate(changes)]
    made = Runs(bare).predicted(overheads_from("vllm", true))
    members = [recorded(run(i, **each, value=made[i])) for i, each in enumerate(changes)]
    again = Runs(members).predicted(overheads_of(members, fitted(members)))
    misses = abs(time_ratio(members, again) - 1)
    assert np.median(misses) < 0.02
    assert max(misses) < 0.08
    outside = time_ratio(members, left_out(members, "device"))
    assert run_error(outside)["median_pct"] < 10


def test_a_fit_near_another_version_keeps_what_its_runs_do_not_say(run):
    """Steps of several devices cannot tell their own host time from that of any step."""
    start = {name: free.start for name, free in FREE.items()} | {"step_s": 3e-4, "together_s": 6e-3}
    bare = [recorded(run(i, concurrency=n)) for i, n in enumerate((1, 2, 4, 8, 16, 32))]
    made = Runs(bare).predicted(overheads_from("vllm", start))
    members = [recorded(run(i, concurrency=n, value=made[i])) for i, n in enumerate((1, 2, 4, 8, 16, 32))]
    found = fitted(members, near(start))
    assert found["step_s"] == pytest.approx(3e-4, rel=0.05)
    assert found["together_s"] == pytest.approx(6e-3, rel=0.05)
    assert fitted(members)["step_s"] > 1e-3  # shared out otherwise


def test_an_error_record_holds_80_percent_between_its_factors():
    ratios = np.exp(np.random.default_rng(0).normal(0, 0.2, 4000))
    error = run_error(ratios)
    inside = np.mean((ratios >= error["low"]) & (ratios <= error["high"]))
    assert inside == pytest.approx(0.8, abs=0.01)
    assert error["median_pct"] == pytest.approx(100 * 0.6745 * 0.2, rel=0.1)


def test_fitted_numbers_become_a_file_that_is_read_back(tmp_path):
    import calc
    from calc.timing.overheads import overheads_of as overheads_for

    host, kernels, reach = split({name: free.start for name, free in FREE.items()})
    errors = {"tpot_s": {"n": 3, "median_pct": 1.0, "p90_pct": 2.0, "low": 0.9, "high": 1.2}}
    profile = {"versions": "any", "kind": "measured", "host": host, "kernels": kernels, "reach": reach,
               "errors": errors, "note": "three rows", "max_load": ">=2.0"}  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(overheads_text("vllm", [profile], "mine", "", "2026-11-22"))
    read = overheads_for(calc.Deployment(), calc.load_device("h100-sxm"), str(path))
    assert read.step_s == FREE["step_s"].start
    assert read.errors["tpot_s"].high == 1.2
    with pytest.raises(calc.SpecError, match="is of vllm; allowed is a file of sglang"):
        overheads_for(calc.Deployment(engine="sglang"), calc.load_device("h100-sxm"), str(path))


def test_first_tokens_that_are_late_once_a_step_is_full_are_what_is_built_first(run):
    """Three runs without warm-up, of which two fill the 32768 tokens of a step: 5 s are found there."""
    changes = {"group": "inferencex", "engine": "sglang", "engine_version": "", "device": "b200-sxm",
               "prompt_tokens": 1024, "output_tokens": 1024, "metric": "ttft_s",
               "notes": "measured 2025-11-18; x"}  # fmt: skip
    users = (4, 64, 128)
    free = {name: each.start for name, each in FREE.items()}
    late = {**free, "first_use_s": 5.0}
    made = Runs([recorded(run(i, **changes, concurrency=n)) for i, n in enumerate(users)]).predicted(
        overheads_from("sglang", late)
    )
    found = fitted([recorded(run(i, **changes, concurrency=n, value=made[i])) for i, n in enumerate(users)])
    assert found["first_use_s"] == pytest.approx(5.0, rel=0.1)
    assert found["request_s"] == pytest.approx(free["request_s"], rel=0.1)


@pytest.mark.parametrize(("engine", "request_s"), [("gpt-fast", 1e-3), ("vllm", 1e-2)])
def test_no_server_is_assumed_of_engines_that_scripts_call(run, engine, request_s):
    """Throughput of long outputs says nothing of a request's handling: it stays where it starts."""
    changes = {"engine": engine, "mode": "static", "output_tokens": 2000, "metric": "output_tokens_per_s"}
    rows = [recorded(run(i, **changes, concurrency=8, value=each)) for i, each in enumerate((300.0, 320.0))]
    assert fitted(rows)["request_s"] == pytest.approx(request_s, rel=0.1)
