"""Two calibrations: times over the same operations, parameters, machines."""

import json
from pathlib import Path

import numpy as np
import pytest

import calc
from calc.timing.calibration import load_calibration
from calc.timing.step_time import timed_op
from calc.work.op import Precision, allreduce
from validate.cli import main
from validate.comparison import Side, grid, moves, only_in, ratios


def compare(capsys, *arguments):
    code = main(["compare", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record_of(capsys, *arguments):
    return json.loads(compare(capsys, *arguments, "--json")[1])


@pytest.fixture
def variant(tmp_path):
    """Return a function that writes a shipped calibration with some text replaced."""

    def write(old, new, name="h100-sxm"):
        text = Path(load_calibration(name).path).read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "variant.yaml"
        path.write_text(text.replace(old, new))
        load_calibration.cache_clear()
        return str(path)

    yield write
    load_calibration.cache_clear()


def test_a_calibration_is_as_fast_as_itself(capsys):
    record = record_of(capsys, "h100-sxm", "h100-sxm")
    assert len(record["ratios"]) > 5
    assert all(row["low"] == row["high"] == 1 for row in record["ratios"])
    assert record["moves"] == record["only_in_first"] == record["changed_forms"] == []
    assert record["machines"]["differ"] is False


def test_a_changed_parameter_is_found_and_changes_times(capsys, variant):
    fit = load_calibration("h100-sxm").ops["decode_attention"]["bf16"]
    old = fit.parameters["fixed_s"]
    text = f"{old:.4g}"
    path = variant(f"fixed_s: {text}", f"fixed_s: {2 * old:.4e}")
    record = record_of(capsys, "h100-sxm", path)
    moved = [row for row in record["moves"] if row["op"] == "decode_attention" and row["format"] == "bf16"]
    assert [(row["parameter"], row["second"] / row["first"]) for row in moved] == [
        ("fixed_s", pytest.approx(2))
    ]
    row = next(r for r in record["ratios"] if r["op"] == "decode_attention" and r["format"] == "bf16")
    assert 1 < row["median"] <= 2
    assert row["low"] >= 1


def test_ratios_are_those_of_the_predictor():
    a, b = (Side(calc.load_device(name), load_calibration(name)) for name in ("h100-sxm", "h200-sxm"))
    op = allreduce("sum", np.array([256.0, 2.0**20]), 8, Precision({}, kv_bytes=2, math="bf16"))
    (row,) = ratios(a, b, iter([op]))
    times = [timed_op(op, s.device, calc.calibration_for(s.device, s.own)).seconds for s in (a, b)]
    assert row.median == pytest.approx(np.median(times[1] / times[0]))


def test_devices_of_the_same_chip_differ_by_their_bandwidth(capsys):
    """Decode attention reads memory: 3.35 against 4.8 TB/s, a ratio of 0.70 at best."""
    record = record_of(capsys, "h100-sxm", "h200-sxm")
    row = next(r for r in record["ratios"] if r["op"] == "decode_attention")
    assert 0.65 < row["low"] < row["median"] < 1
    assert record["machines"] == {"differ": True, "how": record["machines"]["how"]}


def test_the_grid_holds_decode_and_prefill_and_exchanges():
    kinds = {op.kind for op in grid(["qwen3-30b-a3b"], ["bf16"])}
    assert {"gemm", "moe", "decode_attention", "prefill_attention", "allreduce", "alltoall"} <= kinds


def test_what_one_of_both_lacks_is_listed(capsys):
    a, b = load_calibration("a100-sxm-80gb"), load_calibration("h100-sxm")
    assert "gemm/fp8" in only_in(b, a)
    assert "gemm/fp8" not in only_in(a, b)
    assert all(move.first != move.second for move in moves(a, b))


def test_a_file_of_no_device_wants_one(capsys):
    assert compare(capsys, "h100-sxm", "datasheet")[2].count("--device") == 1
    assert compare(capsys, "h100-sxm", "datasheet", "--device", "h100-sxm")[0] == 0


def test_nothing_in_common_is_exit_code_2(capsys, tmp_path):
    text = "id: x\nname: x\ntrust: calibrated\nsources: {}\nops: {}\n"
    (tmp_path / "x.yaml").write_text(text)
    code, out, _ = compare(capsys, "h100-sxm", str(tmp_path / "x.yaml"), "--device", "h100-sxm")
    assert code == 2
    assert "no operation in common" in out
