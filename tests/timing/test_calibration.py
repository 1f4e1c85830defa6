"""Calibration files: labelled, bounded, strict, and which one speaks for a device."""

import numpy as np
import pytest
import yaml

import calc
from calc.specs.facts import spec_files
from calc.timing.calibration import TRUST, calibration_for, load_calibration
from calc.timing.forms import FORMS
from calc.work.memory import precision_of
from calc.work.op import Sequences
from calc.work.step import step_ops

FILES = spec_files("calibrations", "devices")


def changed(tmp_path, change, name="datasheet"):
    data = yaml.safe_load(FILES[name].read_text())
    change(data)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_the_datasheet_defaults_say_that_they_are_no_measurement_of_the_device():
    base = load_calibration("datasheet")
    assert base.trust == "datasheet"
    assert {fit.trust for fits in base.ops.values() for fit in fits.values()} == {"datasheet"}


@pytest.mark.parametrize("name", FILES)
def test_every_file_loads_with_a_form_a_label_and_a_source(name):
    calibration = load_calibration(name)
    assert calibration.trust in TRUST
    for kind, fits in calibration.ops.items():
        for fmt, fit in fits.items():
            assert fit.form.name in FORMS, (kind, fmt)
            assert fit.sources, (kind, fmt)
            assert 0 < fit.low <= 1 <= fit.high


@pytest.mark.parametrize("name", [name for name in FILES if load_calibration(name).trust == "calibrated"])
def test_a_measured_device_states_error_and_range_of_each_fit(name):
    for kind, fits in load_calibration(name).ops.items():
        for fmt, fit in fits.items():
            assert fit.error, (kind, fmt)
            assert fit.error["n"] >= 12
            assert fit.range, (kind, fmt)


def test_a_measured_device_has_its_own_file_and_others_do_not_claim_to():
    for device_id in calc.device_ids():
        device = calc.load_device(device_id)
        calibration = calibration_for(device)
        measured = device_id in FILES
        assert (calibration.trust == "calibrated") == measured, device_id
        for fits in calibration.ops.values():
            labels = {fit.trust for fit in fits.values()}
            assert measured or "calibrated" not in labels


def test_family_never_takes_the_devices_own_file():
    device = calc.load_device("h200-sxm")
    assert "calibrated" not in {
        fit.trust for fits in calibration_for(device, "family").ops.values() for fit in fits.values()
    }


def test_a_form_of_another_version_is_refused(tmp_path):
    def newer(data):
        data["ops"]["embedding"]["any"]["form"] = "roofline/2"

    with pytest.raises(calc.SpecError, match="unknown form 'roofline/2'"):
        load_calibration(changed(tmp_path, newer))


def test_parameters_must_be_those_of_the_form_and_within_bounds(tmp_path):
    def missing(data):
        del data["ops"]["embedding"]["any"]["parameters"]["e_memory"]

    def impossible(data):
        data["ops"]["embedding"]["any"]["parameters"]["e_compute"] = 1.2

    with pytest.raises(calc.SpecError, match="differing: e_memory"):
        load_calibration(changed(tmp_path, missing))
    with pytest.raises(calc.SpecError, match=r"e_compute: 1\.2 must be from 0 to 1"):
        load_calibration(changed(tmp_path / "..", impossible))


def test_a_file_of_ones_own_is_used_and_the_rest_comes_from_the_defaults(tmp_path):
    def faster(data):
        fit = {"form": "roofline/1", "parameters": {"fixed_s": 1e-6, "e_compute": 1.0, "e_memory": 1.0}}
        data["ops"], data["based_on"] = {"gemm": {"any": fit}}, ""

    own = changed(tmp_path, faster)
    slow, fast = (calc.estimate("llama-3.1-8b", "mi300x", calibration=name) for name in ("datasheet", own))
    assert fast.tpot_s < slow.tpot_s


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(calc.SpecError, match="unknown calibration 'h101'"):
        calc.estimate("llama-3.1-8b", "h100-sxm", calibration="h101")


def test_a_size_beyond_the_fitted_range_is_outside():
    fit = load_calibration("h100-sxm").fit("gemm", "bf16")
    low, high = fit.range["m"]
    assert not fit.is_outside({"m": high})
    assert fit.is_outside({"m": 2.1 * high})
    assert fit.is_outside({"m": np.array([low, 3 * high])}).tolist() == [False, True]


def test_a_format_without_a_fit_borrows_the_nearest():
    calibration = calibration_for(calc.load_device("a100-sxm-80gb"))
    assert calibration.fit("gemm", "fp8").format == "bf16"


def test_a_format_that_was_not_measured_is_not_called_calibrated():
    own = calibration_for(calc.load_device("h100-sxm"))
    measured, stand_in = own.fit("gemm", "fp8"), own.fit("gemm", "nvfp4")
    assert (measured.trust, stand_in.trust) == ("calibrated", "family")
    assert stand_in.high > 1 > stand_in.low
    assert own.fit("gemm", "fp16").trust == "calibrated"


def test_parameters_measured_on_another_device_speak_as_a_family_does():
    other = calc.load_calibration("h100-sxm")
    for given in ("h100-sxm", other):
        borrowed = calibration_for(calc.load_device("h200-sxm"), given)
        assert borrowed.fit("gemm", "bf16").trust == borrowed.trust == "family"
        assert borrowed.fit("gemm", "bf16").high > other.fit("gemm", "bf16").high
    assert calc.estimate("llama-3.1-8b", "h100-sxm", calibration=other).trust("tpot_s") == "calibrated"


@pytest.mark.parametrize(
    ("device", "model", "kind", "kernel", "trust"),
    [
        ("h100-sxm", "qwen3-next-80b-a3b", "chunk_scan", "chunk_gated_delta_rule_flashinfer", "calibrated"),
        ("l40s", "qwen3-next-80b-a3b", "chunk_scan", "chunk_gated_delta_rule_triton", "calibrated"),
        ("a100-sxm-80gb", "qwen3-next-80b-a3b", "conv1d", "causal_conv1d_fn", "calibrated"),
        ("h100-sxm", "nemotron-h-56b", "conv1d", "causal_conv1d_fn", "calibrated"),
        ("a100-sxm-80gb", "nemotron-h-56b", "conv1d", "causal_conv1d_fn", "family"),
        ("h100-sxm", "nemotron-h-56b", "chunk_scan", "chunk_gated_delta_rule_flashinfer", "family"),
        ("h100-sxm", "minimax-text-01", "chunk_scan", "chunk_gated_delta_rule_flashinfer", "family"),
        ("h100-sxm", "kimi-k3", "chunk_scan", "chunk_gated_delta_rule_flashinfer", "family"),
    ],
)
def test_linear_attention_takes_its_own_kernels_and_others_as_a_family(device, model, kind, kernel, trust):
    m, calibration = calc.load_model(model), calibration_for(calc.load_device(device))
    ops = step_ops(m, (Sequences("prefill", 1, 1000, 0),), precision_of(m, calc.Deployment()))
    fits = [calibration.fit(op.kind, op.format) for op in ops if op.kind == kind]
    assert {(fit.kernel, fit.trust) for fit in fits} == {(kernel, trust)}
