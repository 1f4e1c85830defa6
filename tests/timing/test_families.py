"""Families: which file speaks for a device, with what evidence, and that its times make sense."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

import calc
from calc.specs.facts import spec_files
from calc.timing.calibration import TRUST, calibration_for, load_calibration
from calc.timing.roofline import roofline_time_s
from calc.timing.step_time import timed_op, work_of
from calc.work.attention_core import attention_core
from calc.work.op import Precision, Sequences, gemm

FILES = spec_files("calibrations", "devices")
FAMILIES = [name for name in FILES if name.startswith(("family-", "link-", "pool-"))]
DTYPES = {"bf16": (16, "bf16"), "fp8": (8, "fp8"), "int8": (8, "int8"), "nvfp4": (4.5, "fp4")}


def precision(fmt):
    bits, math = DTYPES[fmt]
    return Precision(bits={"feedforward": bits}, kv_bytes=2, math=math, formats={"feedforward": fmt})


def product(m, fmt="bf16"):
    return gemm("gemm", "feedforward", m, 4096, 4096, precision(fmt))


def attention(phase, new, past, batch):
    group = Sequences(phase, batch, new, past)
    return attention_core(group, 32, 8, (128, 128), precision("bf16"))


def computes(device, math):
    """Whether a device has units for a format; 16 bits may run in fp16 or fp32."""
    return bool(device.peaks.keys() & ({"bf16", "fp16", "fp32"} if math == "bf16" else {math}))


def seconds(device, op):
    return timed_op(op, device, calibration_for(device), cold=True).seconds


@pytest.mark.parametrize("name", calc.device_ids())
def test_every_device_resolves_to_a_family(name):
    assert calibration_for(calc.load_device(name), "family").id.startswith("family-")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_figure_of_a_family_has_evidence_or_says_assumed(name):
    data = yaml.safe_load(FILES[name].read_text())
    used = set()
    for row in data.get("adjust", ()):
        cited = row.get("source", [])
        cited = {cited} if isinstance(cited, str) else set(cited)
        used |= cited
        assert row["note"]
        assert row["kind"] == "assumed" or cited
        assert cited <= set(data["sources"])
    assert all(source["title"] and source["date"] for source in data["sources"].values())
    if data.get("based_on"):
        assert data["based_on"] in FILES


@pytest.mark.parametrize("name", calc.device_ids())
def test_products_are_finite_monotone_and_never_below_the_roofline(name):
    device, rows = calc.load_device(name), 2.0 ** np.arange(0, 15)
    for fmt, (_, math) in DTYPES.items():
        if not computes(device, math):
            continue
        op = product(rows, fmt)
        got = seconds(device, op)
        work, ceilings = work_of(op, device)
        least = roofline_time_s(work["flops"], work["bytes"], *ceilings[:2])
        assert np.isfinite(got).all(), fmt
        assert (got >= least).all(), fmt
        assert (np.diff(got) >= -1e-12).all(), fmt


@pytest.mark.parametrize("name", calc.device_ids())
def test_attention_is_finite_monotone_and_never_below_the_roofline(name):
    device = calc.load_device(name)
    if not computes(device, "bf16"):
        pytest.skip("the vendor prints no 16-bit peak")
    sizes = 2.0 ** np.arange(7, 16)
    for op in (attention("prefill", sizes, 0.0, 1), attention("decode", 1.0, sizes, 16)):
        got = seconds(device, op)
        work, ceilings = work_of(op, device)
        assert np.isfinite(got).all()
        assert (got >= roofline_time_s(work["flops"], work["bytes"], *ceilings[:2])).all()
        assert (np.diff(got) > 0).all()


@pytest.mark.parametrize("name", calc.device_ids())
def test_every_kind_that_the_defaults_know_has_a_fit_with_an_honest_label(name):
    device = calc.load_device(name)
    default, generic = calibration_for(device), calibration_for(device, "datasheet")
    for kind in generic.ops:
        fit = default.fit(kind, "bf16")
        assert fit.trust in TRUST
        assert fit.sources or fit.trust == "datasheet"
        if name not in FILES:
            assert fit.trust != "calibrated"


@pytest.mark.parametrize(
    ("device", "kind", "label"),
    [
        ("gh200-96gb", "gemm", "family"),  # another Hopper
        ("rtx-5090", "decode_attention", "family"),
        ("mi300x", "gemm", "family"),  # matmul and stream of the device itself are published
        ("mi300x", "moe", "datasheet"),
        ("mi355x", "gemm", "datasheet"),  # no published stream
        ("m2-ultra", "gemm", "family"),
        ("tpu-v6e", "gemm", "datasheet"),
        ("mi455x", "gemm", "datasheet"),
        ("rubin", "gemm", "datasheet"),
        ("gaudi3", "prefill_attention", "datasheet"),
    ],
)
def test_a_default_speaks_as_a_family_only_where_evidence_backs_both_its_shares(device, kind, label):
    assert calibration_for(calc.load_device(device)).fit(kind, "bf16").trust == label


def test_consumer_blackwell_follows_the_workstation_card_and_not_the_b200():
    rtx, b200 = calc.load_device("rtx-5090"), calc.load_device("b100")
    assert calibration_for(rtx).id == "family-blackwell-rtx"
    assert calibration_for(b200).id == "family-blackwell"


def test_collectives_are_taken_over_only_along_the_same_kind_of_link():
    sxm, pcie = (calibration_for(calc.load_device(name)) for name in ("h800-sxm", "h100-pcie"))
    assert sxm.fit("allreduce", "bf16").trust == "family"
    assert pcie.fit("allreduce", "bf16").form.name == "link/1"


@pytest.mark.parametrize(
    ("device", "m", "n", "k", "measured_us"),
    [  # LLMCompass, torch matmul on MI210
        ("mi210", 64, 12288, 12288, 558.4),
        ("mi210", 2048, 12288, 12288, 5390.5),
        ("mi210", 8192, 4096, 4096, 2290.1),
        # InferenceX, hipBLASLt on MI355X
        ("mi355x", 7723, 8448, 7168, 603.3),
        # DeepGEMM README, fp8 on H800: 1358 TFLOP/s
        ("h800-sxm", 4096, 7168, 16384, 708.5),
    ],
)
def test_published_products_are_met_within_a_quarter(device, m, n, k, measured_us):
    used = precision("bf16")
    if device == "h800-sxm":
        used = replace(precision("fp8"), formats={"feedforward": "fp8-block"})
    op = gemm("gemm", "feedforward", m, n, k, used)
    assert 1e6 * seconds(calc.load_device(device), op) == pytest.approx(measured_us, rel=0.25)


def changed(tmp_path, **fields):
    data = yaml.safe_load(FILES["family-hopper"].read_text())
    data.update(fields)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_an_adjustment_changes_what_it_names_and_stays_within_bounds(tmp_path):
    row = {
        "ops": ["gemm"],
        "formats": ["bf16"],
        "scale": {"e_compute": 9.0},
        "kind": "assumed",
        "note": "fast",
    }
    base, new = load_calibration("family-hopper"), load_calibration(changed(tmp_path, adjust=[row]))
    assert new.fit("gemm", "bf16").parameters["e_compute"] == 1.0
    assert new.fit("gemm", "bf16").trust == "datasheet"
    assert new.fit("gemm", "fp8").parameters == base.fit("gemm", "fp8").parameters


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ops": ["gem"], "set": {"e_compute": 0.5}, "kind": "assumed"}, "none is taken over"),
        ({"set": {"e_computer": 0.5}, "kind": "assumed"}, "unknown parameter"),
        ({"set": {"e_compute": 0.5}, "kind": "measured"}, "none is not allowed for measured"),
        ({"set": {"e_compute": 0.5}, "kind": "measured", "source": "nobody"}, "unknown source"),
    ],
)
def test_an_adjustment_that_says_nothing_is_refused(tmp_path, row, message):
    with pytest.raises(calc.SpecError, match=message):
        load_calibration(changed(tmp_path, adjust=[{**row, "note": "wrong"}]))
