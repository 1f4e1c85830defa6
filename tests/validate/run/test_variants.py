"""Other kernels in a run, on a fake machine: chosen, compared, never fitted; without torch."""

import argparse
import json

import pytest

import calc
from validate import run
from validate.plan import planned_cases
from validate.probes import PROBES
from validate.probes.base import Case, Plan
from validate.profile import read_points, read_profile
from validate.reports.html import as_html
from validate.reports.record import profile_record
from validate.reports.text import as_text
from validate.reports.variants import variant_rows
from validate.variants import adapter_cases, choices, wanted_adapters, with_choices


@pytest.fixture
def run_on(monkeypatch, tmp_path, quiet_progress):
    """Runs the command on a fake machine; returns exit code, lines said, profile and points."""

    def go(backend, *more, ops="read,copy,gemm,decode"):
        parser = argparse.ArgumentParser()
        run.add_arguments(parser)
        words = ["--out", str(tmp_path), "--budget", "60s", "--ops", ops, "--dtype", "bf16,fp32", *more]
        monkeypatch.setattr(run.time, "monotonic", backend.now)
        quiet = quiet_progress()
        code = run.run(parser.parse_args(words), backend, quiet)
        profile = read_profile(next(tmp_path.glob("*.yaml")))
        return code, quiet.lines, profile, read_points(profile.points_path)

    return go


NORM = {"norm_and_residual": print}


def test_an_adapter_is_timed_beside_the_fitted_kernel_and_shown_as_a_ratio(
    fake, run_on, fake_adapter, capsys
):
    fake_adapter(NORM)
    code, _, profile, points = run_on(
        fake(factors={"fake": 0.5}), "--adapter", "fake", ops="read,copy,gemm,norm"
    )
    timed = [point for point in points if point.variant == "fake"]
    assert code == 0
    assert {point.probe for point in timed} == {"norm"}
    assert {point.kernel for point in timed} == {"fake"}
    (row,) = [row for row in variant_rows(points) if row.kernel == "fake"]
    assert (row.n, row.ratio_median) == (3, pytest.approx(0.5, rel=1e-6))
    assert "other kernels" in capsys.readouterr().out
    record = json.loads(json.dumps(profile_record(profile, points)))
    assert [each["kernel"] for each in record["variants"] if each["probe"] == "norm"] == ["fake"]
    for page in (as_text(record), as_html(record, [])):
        assert "none of them took part in a fit" in " ".join(page.split())


def test_a_variant_takes_part_in_no_fit_and_no_ceiling(fake, run_on, fake_adapter):
    fake_adapter({**NORM, "linear": print})
    few = {"ops": "read,copy,gemm,norm"}
    _, _, without, _ = run_on(fake(), **few)
    _, _, beside, points = run_on(fake(factors={"fake": 0.01}), "--adapter", "fake", **few)
    assert any(point.variant and point.probe == "gemm" for point in points)
    assert beside.ceilings == without.ceilings
    for kind, fmt in (("gemm", "bf16"), ("elementwise", "norm_and_residual")):
        assert beside.ops[kind][fmt]["error"]["n"] == without.ops[kind][fmt]["error"]["n"]
        fixed = [each.ops[kind][fmt]["parameters"]["fixed_s"] for each in (beside, without)]
        assert fixed[0] == pytest.approx(fixed[1], rel=1e-3)  # rounds shuffle the order of points


def test_a_wrong_adapter_is_reported_and_not_timed(fake, run_on, fake_adapter):
    fake_adapter(NORM)
    backend = fake(bad={"norm bf16 fake": ("error", 0.4)})
    code, lines, profile, points = run_on(backend, "--adapter", "fake", ops="read,copy,gemm,norm")
    assert code == 1
    assert not [key for key in backend.visits if " fake " in key]
    assert [line for line in lines if "fake" in line and "wrong: relative error 4.0e-01" in line]
    (row,) = [row for row in variant_rows(points) if row.kernel == "fake"]
    assert (row.n, row.ratio_median) == (0, None)
    assert row.reason.startswith("wrong")
    assert profile.ops["elementwise"]["norm_and_residual"]["error"]["cv_median_pct"] < 6


def test_all_leaves_out_what_cannot_run_and_says_so_in_one_line_each(fake, run_on, fake_adapter):
    fake_adapter(NORM)
    fake_adapter(NORM, "broken", reason="broken is not installed: pip install broken")
    code, lines, _, points = run_on(fake(), "--adapter", "all", ops="read,copy,gemm,norm")
    assert code == 0
    assert {point.variant for point in points if point.probe == "norm"} == {"", "fake"}
    said = [line for line in lines if line.startswith("adapter broken left out: broken is not installed")]
    assert len(said) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "--adapter: broken cannot run here: broken is not installed"),
        ("fake", "--adapter: fake cannot run here: its kernels are for cpu and cuda, this run is on mps"),
        ("fale", "did you mean 'fake'"),
    ],
)
def test_one_that_is_named_and_cannot_run_is_refused(fake_adapter, name, words):
    fake_adapter(NORM)
    fake_adapter(NORM, "broken", reason="broken is not installed: pip install broken")
    with pytest.raises(calc.SpecError, match=words):
        wanted_adapters([name], "mps" if name == "fake" else "cpu", print)


def test_an_adapter_is_asked_only_for_sizes_that_it_takes(fake_adapter):
    fake_adapter({"decode_attention": print}, takes=lambda kernel, sizes: sizes["batch"] == 1)
    cases = planned_cases(Plan(level=1))
    found = adapter_cases(["fake"], cases, 1, print)
    assert len(found) == 5
    assert {case.sizes["batch"] for case in found} == {1}
    plain = {(case.probe, tuple(case.sizes.items())) for case in cases}
    assert all((case.probe, tuple(case.sizes.items())) in plain for case in found)


def test_an_adapter_without_a_planned_case_says_so(fake_adapter):
    fake_adapter(NORM)
    said = []
    assert adapter_cases(["fake"], planned_cases(Plan(level=0), ["gemm"]), 0, said.append) == []
    assert said == ["adapter fake: no planned case is of its kernels (norm_and_residual, bf16)"]


def test_the_fastest_backend_is_fitted_and_the_others_are_compared(fake, run_on):
    _, _, profile, points = run_on(fake(factors={"sdpa-flash": 2.0}))
    plain = [point for point in points if point.probe == "decode" and point.plain]
    assert {point.kernel for point in plain} == {"sdpa-math"}
    assert profile.ops["decode_attention"]["bf16"]["kernel"] == "sdpa-math"
    (row,) = variant_rows(points)
    assert (row.kernel, row.beside, row.ratio_median) == ("sdpa-flash", "sdpa-math", pytest.approx(2.0))


def test_a_backend_that_cannot_run_leaves_its_reason_and_is_not_chosen(fake, run_on):
    trouble = {"decode bf16 sdpa-flash": ("check", "unavailable", "no available kernel")}
    _, _, profile, points = run_on(fake(bad=trouble))
    assert profile.ops["decode_attention"]["bf16"]["kernel"] == "sdpa-math"
    (row,) = variant_rows(points)
    assert (row.n, row.reason) == (0, "unavailable: no available kernel")
    assert len([point for point in points if point.variant]) == 1


def test_a_wrong_backend_is_never_chosen(fake, run_on):
    backend = fake(bad={"sdpa-math": ("error", 0.5)}, factors={"sdpa-math": 0.1})
    code, _, profile, _ = run_on(backend)
    assert code == 1
    assert profile.ops["decode_attention"]["bf16"]["kernel"] == "sdpa-flash"
    assert not [key for key in backend.visits if "sdpa-math" in key]


def test_a_run_that_goes_on_keeps_its_backend(fake, run_on):
    run_on(fake())
    _, _, _, points = run_on(fake(factors={"sdpa-flash": 9.0}), "--resume")
    assert {point.kernel for point in points if point.probe == "decode" and point.plain} == {"sdpa-flash"}


def test_decoders_use_the_backend_of_each_phase(fake):
    plan = Plan(level=0)
    cases = planned_cases(plan)
    found = choices(fake(factors={"sdpa-flash": 1.5}), cases, plan)
    chosen = with_choices(cases, found)
    assert {case.prefers for case in chosen if case.probe.startswith("decoder")} == {"sdpa-math"}
    assert {case.prefers for case in chosen if case.probe == "gemm"} == {""}


def test_on_a_gpu_every_backend_is_tried_and_packed_prompts_only_compared(fake):
    plan = Plan("cuda", 1, 0.2, 2e9, 8e14, 4e12, 8192)
    cases = planned_cases(plan, ["prefill", "paged_decode"])
    factors = {"varlen_attn": 0.5, "sdpa-cudnn": 0.8}
    prefill, paged = choices(fake(factors=factors), cases, plan)
    assert prefill.fastest == "sdpa-cudnn"
    assert {case.kernel for case in prefill.variants()} == {
        "sdpa-flash", "sdpa-efficient", "sdpa-math", "varlen_attn",
    }  # fmt: skip
    assert paged.fastest == "varlen_attn"


def test_trials_are_few_and_short():
    for budget_level in (0, 1, 2):
        plan = Plan(level=budget_level)
        cases = planned_cases(plan)
        for name in ("prefill", "decode", "mla_prefill", "paged_decode"):
            from validate.variants import _shapes

            shapes = _shapes(name, cases, plan)
            assert 1 <= len(shapes) <= 5
            seconds = [plan.seconds(PROBES[name].op(case.sizes, "bf16")) for case in shapes]
            assert max(seconds) <= 0.02 * plan.call_s or len(shapes) == 1


def test_a_variant_is_known_by_its_key():
    case = Case("norm", "bf16", {"rows": 1, "width": 64}, "fake", "ignored")
    assert case.key == "norm bf16 fake rows=1 width=64"
