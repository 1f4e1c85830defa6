"""The command from plan to profile, on a fake machine."""

import argparse
import signal
import sys

import numpy as np
import pytest

import calc
from validate import machine, run
from validate.own_device import device_from, own_device
from validate.profile import mismatch, read_points, read_profile
from validate.protocol import StoppedError

#: what a worker says of its machine
FACTS = {
    "kind": "cpu", "torch": "2.13.0", "name": "x", "processors": 4, "memory_bytes": 32e9,
    "cache_bytes": 1e7, "threads": 4,
}  # fmt: skip

OPS = "read,copy,gemm,norm"


def arguments(folder, *more):
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    return parser.parse_args(
        ["--out", str(folder), "--budget", "60s", "--ops", OPS, "--dtype", "bf16,fp32", *more]
    )


@pytest.fixture
def run_on(monkeypatch, quiet_progress):
    """Runs the command on a fake machine, whose clock is the run's."""

    def go(backend, args):
        monkeypatch.setattr(run.time, "monotonic", backend.now)
        quiet = quiet_progress()
        return run.run(args, backend, quiet), quiet.lines

    return go


def profile_in(folder):
    (path,) = folder.glob("*.yaml")
    return path


def test_a_run_leaves_a_profile_that_calc_reads_and_predicts_with(fake, run_on, tmp_path, capsys):
    code, _ = run_on(fake(noise=0.05), arguments(tmp_path))
    out = capsys.readouterr().out
    assert code == 0
    path = profile_in(tmp_path)
    profile = read_profile(path)
    assert {"gemm", "elementwise"} <= set(profile.ops)
    device, calibration = calc.load_device(str(path)), calc.load_calibration(str(path))
    assert device.id == profile.device == calibration.device
    e = calc.estimate("llama-3.2-1b", device, calibration=str(path))
    assert e.tpot_s > 0
    assert "roofline %" in out
    assert f"--calibration {path}" in out


def test_the_fit_finds_the_law_of_the_machine(fake, run_on, tmp_path):
    backend = fake()
    run_on(backend, arguments(tmp_path))
    profile = read_profile(profile_in(tmp_path))
    for kind, fmt in (("gemm", "bf16"), ("elementwise", "norm_and_residual")):
        row = profile.ops[kind][fmt]
        assert row["error"]["cv_median_pct"] < 6
        assert row["error"]["cv_median_pct"] < row["before"]["roofline_median_pct"]
    assert profile.ceilings["gemm_bf16_flops_per_s"] <= 0.7e12
    assert profile.own_device["memory"]["bandwidth"]["value"] == pytest.approx(16, rel=0.05)  # 0.8 of 20 GB/s


def test_every_planned_case_ends_as_a_point_with_work_from_calc(fake, run_on, tmp_path):
    run_on(fake(), arguments(tmp_path))
    profile = read_profile(profile_in(tmp_path))
    points = read_points(profile.points_path)
    assert all(point.flops + point.bytes > 0 for point in points)
    assert {point.probe for point in points} == set(OPS.split(","))


@pytest.mark.parametrize(
    ("trouble", "code", "words"),
    [
        (("visit", "out-of-memory", "CUDA out of memory"), 0, "out-of-memory: CUDA out of memory"),
        (("visit", "hung", "no answer in 60 s"), 0, "hung: no answer in 60 s"),
        (("error", 0.7), 1, "wrong: relative error 7.0e-01"),
        (("error", float("inf")), 1, "wrong: the result holds NaN"),
    ],
)
def test_trouble_is_one_clear_line_and_the_profile_is_usable(fake, run_on, tmp_path, trouble, code, words):
    bad = "gemm bf16 m=1 n=4096"
    found, lines = run_on(fake(bad={bad: trouble}), arguments(tmp_path))
    assert found == code
    assert len([line for line in lines if words in line and bad in line]) == 1
    profile = read_profile(profile_in(tmp_path))
    assert any(words in row.reason for row in profile.skipped)
    assert profile.ops["gemm"]["bf16"]["error"]["cv_median_pct"] < 10
    assert calc.load_calibration(profile.path).ops["gemm"]


def test_a_run_that_was_stopped_still_fits_and_resume_finishes_it(fake, run_on, tmp_path):
    run_on(fake(stop_after=150), arguments(tmp_path))
    first = read_profile(profile_in(tmp_path))
    assert first.protocol.stopped
    assert first.ops
    code, _ = run_on(fake(), arguments(tmp_path, "--resume"))
    second = read_profile(profile_in(tmp_path))
    assert (code, second.protocol.stopped) == (0, "")
    assert not list(tmp_path.glob("*.jsonl"))


def test_resume_on_a_finished_run_measures_nothing_and_fits_again(fake, run_on, tmp_path):
    run_on(fake(), arguments(tmp_path))
    again = fake()
    run_on(again, arguments(tmp_path, "--resume"))
    assert set(again.visits) == {case.key for case in run.SENTINELS}
    assert read_profile(profile_in(tmp_path)).ops


def test_a_machine_where_nothing_runs_says_so(fake, run_on, tmp_path, capsys):
    code, _ = run_on(fake(bad={"": ("check", "failed", "no kernel")}), arguments(tmp_path))
    assert code == 2
    assert "nothing to fit" in capsys.readouterr().out


def test_another_machine_is_told_in_one_line(fake, run_on, tmp_path):
    run_on(fake(), arguments(tmp_path))
    profile = read_profile(profile_in(tmp_path))
    same = mismatch(profile, profile.machine, {"torch": "2.13.9"})
    assert same == ""
    other = machine.fingerprint({**vars(profile.machine), "name": "Other", "threads": 9})
    line = mismatch(profile, other, {"torch": "2.14.0"})
    assert "name Fake CPU then, Other now" in line
    assert "torch 2.13 then, 2.14 now" in line
    assert "\n" not in line


def test_a_known_gpu_is_fitted_against_its_datasheet(fake, run_on, tmp_path, monkeypatch):
    backend = fake()
    facts = {**backend.machine(), "kind": "cuda", "name": "NVIDIA H200", "processors": 132}
    backend.machine = lambda: facts
    run_on(backend, arguments(tmp_path))
    profile = read_profile(profile_in(tmp_path))
    assert (profile.device, profile.own_device) == ("h200-sxm", None)
    fit = calc.calibration_for(calc.load_device("h200-sxm"), profile.path).fit("gemm", "bf16")
    assert fit.trust == "calibrated"


def test_dry_run_prints_cases_and_measures_nothing(fake, run_on, tmp_path, capsys):
    backend = fake()
    assert run_on(backend, arguments(tmp_path, "--dry-run"))[0] == 0
    assert "gemm bf16 m=1 " in capsys.readouterr().out
    assert not list(tmp_path.glob("*"))


def test_decoders_are_predicted_from_parts_they_took_no_part_in(fake, run_on, tmp_path):
    args = arguments(tmp_path)
    args.ops = None
    run_on(fake(), args)
    profile = read_profile(profile_in(tmp_path))
    assert {row.decoder for row in profile.acceptance} == {"dense", "dense-wide", "moe", "windowed"}
    assert not [kind for kind in profile.ops if kind == "step"]
    for row in profile.acceptance:
        assert row.low_s <= row.predicted_s <= row.high_s
        assert row.roofline_s < row.predicted_s
    assert {row.trust for row in profile.acceptance} == {"calibrated"}
    # the fake runs a decoder as one call of summed work: only the fixed cost of calls is not in it
    long = [row.error_pct for row in profile.acceptance if row.measured_s > 0.05]
    assert abs(np.median(long)) < 15


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_measuring_in_order_and_handlers_come_back(number):
    before = signal.getsignal(number)
    with pytest.raises(StoppedError, match=number.name), run.stopped_by_signals():
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_without_torch_the_command_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(calc.SpecError, match="torch is not installed"):
        run.chosen_device("auto")


@pytest.mark.parametrize("facts", [{"kind": "cuda", "name": "Some GPU"}, {"kind": "cpu", "name": "A CPU"}])
def test_an_unknown_machine_becomes_a_device_of_measured_facts(facts):
    ceilings = {"copy_bytes_per_s": 1e11, "read_bytes_per_s": 1.2e11, "gemm_bf16_flops_per_s": 2e12}
    about = machine.fingerprint({**FACTS, **facts})
    device = device_from(own_device("some-id", about, ceilings, "2026-11-22"))
    assert device.bandwidth_bytes_per_s == pytest.approx(1.2e11)
    assert device.peak_flops_per_s("fp16") == pytest.approx(2e12)
    assert {fact.kind for fact in device.facts().values()} == {"measured"}
    assert calc.calibration_for(device).trust == "datasheet"
