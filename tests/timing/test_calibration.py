"""Calibration files: labelled, bounded, strict."""

import pytest
import yaml

import calc
from calc.specs.facts import spec_files

DEFAULT = spec_files("calibrations", "devices")["default"]


def changed(tmp_path, change):
    data = yaml.safe_load(DEFAULT.read_text())
    change(data)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_the_default_says_that_it_is_no_measurement_of_the_device():
    assert calc.load_calibration().trust == "datasheet"


def test_every_default_parameter_has_a_source_or_is_called_assumed():
    for kind, parameters in calc.load_calibration().ops.items():
        for name, fact in parameters.facts.items():
            assert fact.sources or fact.kind == "assumed", (kind, name)


def test_a_file_of_ones_own_is_used(tmp_path):
    def faster(data):
        data["ops"]["gemm"]["memory_efficiency"]["value"] = 1.0

    own = changed(tmp_path, faster)
    assert calc.load_calibration(own).parameters("gemm").e_memory == 1.0
    default, mine = (calc.estimate("llama-3.1-8b", "h100-sxm", calibration=name) for name in ("default", own))
    assert mine.tpot_s < default.tpot_s


def test_an_efficiency_above_one_is_refused(tmp_path):
    def impossible(data):
        data["ops"]["gemm"]["compute_efficiency"]["value"] = 1.2

    with pytest.raises(calc.SpecError, match=r"gemm\.compute_efficiency: 1\.2 must be above 0 and at most 1"):
        calc.load_calibration(changed(tmp_path, impossible))


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(calc.SpecError, match="unknown calibration 'h101'"):
        calc.load_calibration("h101")
