"""Fits of collectives: parameters come back from times they made; files are calibrations."""

import numpy as np
import pytest

import calc
from calc.timing.collectives import link_bytes_per_s
from calc.timing.forms import FORMS
from calc.timing.step_time import timed_op
from validate.collectives.exchanges import payloads
from validate.collectives.fits import (
    bus_bytes_per_s,
    by_kind,
    calibration,
    calibration_text,
    collective_op,
    fit_collective,
    work_with_link,
)
from validate.profile import Point

TRUE = {
    "fixed_s": 1e-4, "per_peer_s": 1e-6, "e_link": 0.8, "at_4": 1.0, "at_8": 1.0, "per_root_s": 1e-8,
    "protocol_s": 2e-6, "protocol_bytes": 1e5,
}  # fmt: skip
LINK = 2e9


def point(kind, elements, seconds=0.0, flag=""):
    return Point(
        case=f"{kind} {elements}", probe="collective", op=kind, format="bf16", kernel="gloo", dtype="bf16",
        sizes={"world": 2, "elements": elements}, seconds_min=seconds, n=5, flag=flag, when="now",
    )  # fmt: skip


def made(kind="allreduce", noise=0.02, link=LINK):
    bare = [point(kind, elements) for elements in payloads(256, 64_000_000, 16, 2)]
    work, ceilings = work_with_link(collective_op(bare), link)
    seconds = FORMS["collective/1"].seconds(work, ceilings, TRUE)
    seconds = seconds * np.exp(noise * np.random.default_rng(0).normal(size=len(bare)))
    return [point(kind, p.sizes["elements"], float(s)) for p, s in zip(bare, seconds, strict=True)]


def test_parameters_come_back_from_noisy_times():
    row = fit_collective(made(), LINK)
    assert row["parameters"]["e_link"] == pytest.approx(TRUE["e_link"], rel=0.1)
    assert row["parameters"]["fixed_s"] == pytest.approx(TRUE["fixed_s"], rel=0.1)
    assert row["error"]["cv_median_pct"] < 5
    assert row["range"]["comm_bytes"] == [256, 64e6]


def test_too_few_points_are_not_fitted():
    assert fit_collective(made()[:11], LINK) is None
    with pytest.raises(calc.SpecError, match="12 points or more"):
        calibration(made()[:11], None, "2026-11-22", "torch")


def test_wrong_and_failed_points_take_no_part():
    points = [*made(), point("allreduce", 2, 1.0, "wrong"), point("alltoall", 2, 0.0, "failed")]
    assert {kind: len(rows) for kind, rows in by_kind(points).items()} == {"allreduce": 16}


def test_the_bus_rate_counts_what_a_ring_sends():
    """An all-reduce between two sends its payload once, the others half of theirs."""
    assert bus_bytes_per_s([point("allreduce", 500, 1e-6)]) == pytest.approx(1e9)
    assert bus_bytes_per_s([point("allgather", 500, 1e-6)]) == pytest.approx(0.5e9)


def test_a_file_without_a_device_states_its_link(tmp_path):
    path = tmp_path / "gloo.yaml"
    path.write_text(calibration_text(calibration(made(), None, "2026-11-22", "torch 2.13, gloo")))
    found = calc.load_calibration(str(path))
    assert found.fit("allreduce", "bf16").form.name == "collective/1"
    assert found.trust == "calibrated"
    assert "link_bytes_per_s" in path.read_text()


def test_a_file_of_a_known_device_predicts_its_points(tmp_path):
    device, path = calc.load_device("h200-sxm"), tmp_path / "nccl.yaml"
    points = made(link=link_bytes_per_s(device, 2))
    path.write_text(calibration_text(calibration(points, device, "2026-11-22", "torch 2.13, nccl")))
    found = calc.calibration_for(device, str(path))
    predicted = timed_op(collective_op(points), device, found).seconds
    assert np.median(np.abs(predicted / [p.seconds_min for p in points] - 1)) < 0.05
