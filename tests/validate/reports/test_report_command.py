"""The report of a profile: tables, JSON, and a page that needs no network."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest

import calc
from validate.cli import main
from validate.own_device import own_device
from validate.profile import read_points, read_profile
from validate.reports.predicted import predictions
from validate.reports.record import remark


def report(capsys, *arguments):
    code = main(["report", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record_of(capsys, path):
    code, out, _ = report(capsys, path, "--json")
    assert code == 0
    return json.loads(out)


def test_the_table_names_machine_errors_acceptance_and_what_was_skipped(capsys, profile):
    code, out, _ = report(capsys, profile())
    assert code == 0
    for words in (
        "NVIDIA H200 (cuda, 132 processors)", "4,300 GB/s", "790 TFLOP/s", "steady (drift +1.2 %",
        "20 timed, 1 wrong, 1 no-time", "allreduce", "collective/1", "12.5", "dense", "No viable backend",
        "torch 2.11.0", "calibrated",
    ):  # fmt: skip
        assert words in out


def test_json_has_the_errors_of_the_file(capsys, profile):
    path = profile()
    record, kept = record_of(capsys, path), read_profile(path).ops["gemm"]["bf16"]
    row = next(each for each in record["ops"] if each["op"] == "gemm")
    assert row["left_out_median_pct"] == kept["error"]["cv_median_pct"]
    assert (row["roofline_median_pct"], row["default_median_pct"]) == (61.0, 12.5)
    assert record["points"] == {"timed": 20, "wrong": 1, "no-time": 1}
    assert record["schema_version"] == 1


def test_acceptance_is_summed_by_decoder_and_phase(capsys, profile):
    """Predicted 1.1 of measured in decode, 0.7 in prefill; the interval is 20 % either way."""
    groups = {(g["decoder"], g["phase"]): g for g in record_of(capsys, profile())["acceptance"]}
    assert groups["dense", "decode"]["median_pct"] == pytest.approx(10)
    assert groups["dense", "decode"]["inside80_pct"] == 100
    assert groups["dense", "prefill"]["bias_pct"] == pytest.approx(-30)
    assert groups["dense", "prefill"]["inside80_pct"] == 0
    assert groups["all", ""]["median_pct"] == pytest.approx(20)
    assert groups["all", ""]["roofline_median_pct"] == pytest.approx(50)


def test_points_are_predicted_by_the_profile_itself(profile, medians):
    """The points were made a tenth slower than predicted: errors of -1/11."""
    found = read_profile(profile())
    rows = predictions(found, read_points(found.points_path))
    assert len(rows) == 20
    assert medians(rows) == pytest.approx(100 / 11, rel=1e-3)
    assert all(row.low < row.seconds < row.high and row.roofline < row.seconds for row in rows)
    assert {row.trust for row in rows} <= {"calibrated", "extrapolated"}


def test_points_of_a_format_without_a_fit_are_not_predicted_by_another(profile):
    found = read_profile(profile())
    points = [replace(point, format="fp32") for point in read_points(found.points_path)]
    assert predictions(found, points) == []


def test_the_page_needs_nothing_else(capsys, profile, tmp_path):
    page = tmp_path / "report.html"
    assert report(capsys, profile(), "--html", str(page))[:2] == (0, f"wrote {page}\n")
    text = page.read_text()
    assert not re.search(r"<(script|link|img|iframe)|https?://|url\(|@import", text)
    assert text.count("<svg") == 4  # products, two kinds of exchange, and the decoder's steps
    assert text.count("<circle") == 22
    assert "No viable backend &lt;cudnn&gt;" in text


def test_plots_are_well_formed_and_label_their_points(capsys, profile, tmp_path):
    page = tmp_path / "report.html"
    report(capsys, profile(), "--html", str(page))
    for svg in re.findall(r"<svg.*?</svg>", page.read_text(), re.DOTALL):
        root = ElementTree.fromstring(svg)
        size = float(root.get("width"))
        for dot in root.iter("circle"):
            assert 0 <= float(dot.get("cx")) <= size
            assert 0 <= float(dot.get("cy")) <= size
            assert dot.find("title").text.endswith(" %")


def test_an_unsteady_run_says_so_everywhere(capsys, profile, tmp_path):
    known = read_profile(profile()).protocol
    path, page = profile("shaky", protocol=replace(known, steady=False)), tmp_path / "page.html"
    assert "NOT STEADY" in report(capsys, path)[1]
    report(capsys, path, "--html", str(page))
    assert "not steady" in page.read_text()


def test_without_its_points_a_profile_still_reports(capsys, profile, tmp_path):
    path, page = profile("bare", with_points=False, acceptance=()), tmp_path / "page.html"
    assert "file not found" in report(capsys, path)[1]
    assert report(capsys, path, "--html", str(page))[0] == 0
    assert "nothing to plot" in page.read_text()


def test_a_shipped_calibration_reports_its_kernels(capsys):
    code, out, _ = report(capsys, "h100-sxm")
    assert code == 0
    assert "decode_attention" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["h100-sxmm"], "did you mean 'h100-sxm'"),
        (["nowhere.yaml"], "nowhere.yaml"),
        (["h100-sxm", "--html", "page.html"], "needs a profile"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, message):
    code, out, err = report(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("error", "before", "words"),
    [
        ({"n": 40, "cv_median_pct": 6.0}, {"roofline_median_pct": 60.0}, ""),
        ({"n": 40, "cv_median_pct": 26.0}, {}, "large error"),
        ({}, {}, ""),
    ],
)
def test_remarks_say_what_speaks_against_a_fit(error, before, words):
    assert remark(error, before) == words


def test_two_profiles_of_one_machine_compare_by_fingerprint(capsys, profile):
    a, b = profile("first"), profile("second", scale=3.0)
    assert main(["compare", a, b, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["machines"] == {"differ": False, "how": "same fingerprint"}
    assert {row["parameter"] for row in record["moves"]} == {"fixed_s"}
    assert next(row for row in record["ratios"] if row["op"] == "allreduce")["high"] > 1.5


def test_profiles_of_different_machines_say_how(capsys, profile):
    a = profile("first")
    other = replace(read_profile(a).machine, threads=4)
    assert main(["compare", a, profile("second", machine=other)]) == 0
    assert "machines: different (threads 8 then, 4 now)" in capsys.readouterr().out


def test_a_machine_that_nobody_ships_is_predicted_as_its_own_device(profile):
    """Its ceilings are measured: a product at 0.8 of the peak takes 1.25 times the roofline."""
    known = read_profile(profile())
    ceilings = {"copy_bytes_per_s": 1e12, "gemm_bf16_flops_per_s": 1e14}
    own = own_device("my-machine", known.machine, ceilings, "2026-11-22")
    path = profile("mine", device="my-machine", own_device=own)
    points = [p for p in read_points(read_profile(path).points_path) if p.case == "gemm bf16 m=4096"]
    (row,) = predictions(read_profile(path), [replace(points[0], seconds_min=2 * 4096**3 / 0.8e14)])
    assert row.point.seconds_min / row.roofline == pytest.approx(1.25)
    assert row.seconds > row.roofline


def test_a_probe_of_another_version_is_named(profile):
    found = read_profile(profile())
    points = [replace(p, probe="gemmm") for p in read_points(found.points_path) if p.probe == "gemm"]
    with pytest.raises(calc.SpecError, match="did you mean 'gemm'"):
        predictions(found, points)
