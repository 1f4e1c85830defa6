"""What engines add to their kernels: host time, factors, own kernels, and the files that say so."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import calc
from calc.specs.facts import Fact, spec_files
from calc.timing import overheads as module
from calc.timing.calibration import calibration_for, load_calibration
from calc.timing.exchange import exchange_link_bytes_per_s
from calc.timing.overheads import (
    GROUPS,
    HOST,
    KERNEL_GROUPS,
    Overheads,
    host_time_s,
    kernel_group,
    load_overheads,
    overheads_of,
    own_kernels_s,
)
from calc.timing.step_time import n_exchanges, step_time, timed_op
from calc.work.memory import precision_of
from calc.work.op import Op, Sequences
from calc.work.sharding import Split
from calc.work.step import step_ops

NOTHING = dict.fromkeys(HOST, 0.0)
H100 = calc.load_device("h100-sxm")


def overheads(kernels=None, reach=None, **host):
    facts = {name: Fact(value, HOST[name][0], "assumed") for name, value in {**NOTHING, **host}.items()}
    return Overheads("vllm", "any", facts, kernels or {}, reach or {})


def ops(tp=1, batch=64):
    model = calc.load_model("llama-3.1-8b")
    groups = (Sequences("decode", batch, 1, 1000),)
    return step_ops(model, groups, precision_of(model, calc.Deployment()), Split(tp))


def step(of, tp=1, batch=64):
    return step_time(ops(tp, batch), H100, calibration_for(H100), of, batch, 32)


def test_host_time_is_a_sum_over_the_step_its_sequences_layers_and_exchanges():
    host = SimpleNamespace(step_s=1e-3, sequence_s=1e-5, layer_s=1e-6, exchange_s=1e-7, together_s=0.0)
    assert host_time_s(host, 100, 80, 160) == pytest.approx(1e-3 + 1e-3 + 80e-6 + 16e-6)
    assert host_time_s(host, np.array([0, 100]), 80, 160).tolist() == pytest.approx([1.096e-3, 2.096e-3])


def test_a_step_that_several_devices_take_together_costs_host_time_once():
    """Exchanges tell whether there are several; an array of them is answered one by one."""
    host = SimpleNamespace(step_s=1e-3, sequence_s=0.0, layer_s=0.0, exchange_s=0.0, together_s=2e-3)
    assert host_time_s(host, 1, 80, np.array([0, 160])).tolist() == pytest.approx([1e-3, 3e-3])


@pytest.mark.parametrize(("tp", "exchanges"), [(1, 0), (2, 65)])
def test_exchanges_count_only_between_several_devices(tp, exchanges):
    """Two sums a layer in each of 32 layers, and the logits."""
    assert n_exchanges(step(overheads(), tp).rows) == exchanges
    difference = step(overheads(exchange_s=1e-6), tp).seconds - step(overheads(), tp).seconds
    assert difference == pytest.approx(exchanges * 1e-6, abs=1e-12)


def test_host_time_is_a_row_of_its_own_and_counts_as_overhead():
    plain, hosted = step(overheads()), step(overheads(step_s=1e-3, sequence_s=1e-5, layer_s=1e-6))
    row = hosted.rows[-1]
    assert (row.name, row.seconds) == ("engine overhead", pytest.approx(1e-3 + 64e-5 + 32e-6))
    assert row.by_bound()["overhead"] == row.seconds
    assert hosted.seconds - plain.seconds == pytest.approx(row.seconds)


@given(
    table=st.floats(1e-6, 1.0), fixed=st.floats(0.0, 1e-4), share=st.floats(0.01, 1.0),
    reach=st.floats(0.05, 1.0),
)  # fmt: skip
def test_own_kernels_are_taken_where_they_are_faster_and_never_beat_the_roofline(table, fixed, share, reach):
    least = share * table
    got = own_kernels_s(table, fixed, least, reach)
    assert least <= got <= table
    assert got == min(table, fixed + least / reach)


def test_an_engine_without_kernels_of_its_own_has_those_of_the_tables():
    assert own_kernels_s(2e-3, 1e-5, 1e-3, 0.0) == 2e-3
    assert own_kernels_s(2e-3, 1e-5, 1e-3, np.array([0.0, 1.0])).tolist() == pytest.approx([2e-3, 1.01e-3])


def test_a_factor_scales_its_group_of_kernels_and_no_other():
    plain, slower = step(overheads(), 2), step(overheads({"gemm": 2.0}), 2)
    for before, after in zip(plain.rows, slower.rows, strict=True):
        is_product = before.op is not None and kernel_group(before.op, H100) == "gemm"
        assert after.seconds == pytest.approx((2 if is_product else 1) * before.seconds, rel=1e-9)


def test_engines_reach_a_share_of_the_host_link_where_tables_say_less():
    """All-reduce of eight L40S: tables of one box say 1.4 GB/s, half the link is 8 times as fast."""
    l40s = calc.load_device("l40s")
    op = next(op for op in ops(tp=8) if op.kind == "allreduce")
    table = timed_op(op, l40s, calibration_for(l40s), overheads=overheads())
    engine = timed_op(op, l40s, calibration_for(l40s), overheads=overheads(reach={"host_collective": 0.5}))
    link = 2 * 7 / 8 * op.comm_bytes / exchange_link_bytes_per_s(op, l40s)
    assert engine.seconds == pytest.approx(engine.fixed_s + op.count * link / 0.5)
    assert engine.seconds < table.seconds
    assert engine.link_s + engine.fixed_s == pytest.approx(engine.seconds)


def test_a_users_own_measurement_of_a_box_stands_above_what_engines_reach_elsewhere(tmp_path):
    l40s, shipped_file = calc.load_device("l40s"), spec_files("calibrations", "devices")["l40s"]
    copy = tmp_path / "mine.yaml"
    copy.write_text(shipped_file.read_text(encoding="utf-8"), encoding="utf-8")
    op = next(op for op in ops(tp=8) if op.kind == "allreduce")
    reaching = overheads(reach={"host_collective": 0.5})
    shipped, mine = calibration_for(l40s), calibration_for(l40s, str(copy))
    assert mine.own_kinds >= {"allreduce", "gemm"}
    plain = timed_op(op, l40s, mine, overheads=overheads()).seconds
    assert timed_op(op, l40s, mine, overheads=reaching).seconds == plain
    assert timed_op(op, l40s, shipped, overheads=reaching).seconds < plain


@pytest.mark.parametrize("name", ["l40s", "path", "loaded", "passed back"])
def test_a_shipped_measurement_is_the_same_however_it_is_named(name):
    l40s = calc.load_device("l40s")
    given = {
        "path": str(spec_files("calibrations", "devices")["l40s"]),
        "loaded": load_calibration("l40s"),
        "passed back": calibration_for(l40s),
    }.get(name, name)
    assert calibration_for(l40s, given).own_kinds == frozenset()


def test_a_users_measurement_of_another_device_is_no_measurement_of_this_box(tmp_path):
    copy = tmp_path / "mine.yaml"
    shipped = spec_files("calibrations", "devices")["l40s"]
    copy.write_text(shipped.read_text(encoding="utf-8"), encoding="utf-8")
    assert calibration_for(calc.load_device("l4"), str(copy)).own_kinds == frozenset()


def test_own_kernels_pay_the_launch_but_not_the_items_of_the_tables():
    """Decode attention of many sequences: the form's fixed part counts items, an engine's own does not."""
    op = next(op for op in ops(batch=2000) if op.kind == "decode_attention")
    bare = timed_op(op, H100, calibration_for(H100), overheads=overheads())
    own = timed_op(op, H100, calibration_for(H100), overheads=overheads(reach={"decode_attention": 1.0}))
    least = op.bytes / H100.bandwidth_bytes_per_s
    launch = calibration_for(H100).fit(op.kind, op.format).parameters["fixed_s"]
    assert bare.fixed_s > 2 * op.count * launch
    assert own.seconds == pytest.approx(op.count * (launch + least))


def test_a_factor_below_the_roofline_stops_there():
    op = next(op for op in ops() if op.kind == "gemm")
    row = timed_op(op, H100, calibration_for(H100), overheads=overheads({"gemm": 1e-6}))
    least = max(op.flops / H100.peak_flops_per_s(op.dtype), op.bytes / H100.bandwidth_bytes_per_s)
    assert row.seconds == pytest.approx(op.count * least)


def test_every_kind_of_kernel_is_in_a_known_group():
    assert set(KERNEL_GROUPS.values()) <= set(GROUPS)
    assert {kernel_group(op, H100) for op in ops(tp=2) if op.is_collective} == {"collective"}
    assert kernel_group(Op("a", "something new", "bf16"), H100) == "other"


@pytest.mark.parametrize("engine", calc.engine_ids())
def test_every_engine_has_overheads_with_every_host_number(engine):
    found = load_overheads(engine)
    assert set(found.host) == set(HOST)
    assert set(found.kernels) <= set(GROUPS)
    for fact in found.host.values():
        assert fact.kind == found.kind
        assert bool(fact.sources) == (found.kind == "measured")


def profile(versions="any", step_s=1e-3, **more):
    return {"versions": versions, "kind": "assumed", "host": {**NOTHING, "step_s": step_s}, **more}


@pytest.fixture
def engine_file(tmp_path, monkeypatch):
    """Write the overheads of an engine of that name, and have them found."""

    def write(name, **changes):
        path = tmp_path / f"{name}.yaml"
        data = {"id": name, "sources": {}, "profiles": [profile()], **changes}
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        monkeypatch.setattr(module, "spec_files", lambda *folders: {name: path})
        load_overheads.cache_clear()
        return name

    yield write
    load_overheads.cache_clear()


def test_the_first_profile_of_a_version_is_taken_that_of_the_maker_before_others(engine_file):
    name = engine_file("choosing", profiles=[
        profile(">=2.0", 1e-3, vendors=["nvidia"]), profile(">=2.0", 2e-3, vendors=["amd"]),
        profile("<2.0", 3e-3, vendors=["nvidia"]), profile("<2.0", 4e-3, vendors=["amd"]),
    ])  # fmt: skip
    choices = [(None, "nvidia"), ("2.1", "amd"), ("1.9", "nvidia"), ("1.9", "amd"), ("2.0", "elsewhere")]
    found = [load_overheads(name, *choice).step_s for choice in choices]
    assert found == [1e-3, 2e-3, 3e-3, 4e-3, 1e-3]


def test_a_profile_may_answer_the_maximum_load_of_later_versions(engine_file):
    name = engine_file("busy", profiles=[
        profile(">=2.0", 1e-3), profile(">=1.0,<2.0", 2e-3, max_load=">=1.0"), profile("<1.0", 3e-3),
    ])  # fmt: skip
    found = [
        load_overheads(name, version, None, "max_load").step_s for version in (None, "2.1", "1.5", "0.9")
    ]
    assert found == [2e-3, 2e-3, 2e-3, 3e-3]
    assert load_overheads(name, "2.1", None, "closed_loop").step_s == 1e-3


def test_an_estimate_takes_the_overheads_of_its_load():
    deployment = calc.Deployment(engine="tensorrt-llm", engine_version="1.2")
    loads = [calc.Workload(mode="max_load"), calc.Workload(concurrency=8)]
    estimates = [calc.estimate("llama-3.1-8b", "h100-sxm", deployment, load) for load in loads]
    assert [e.overheads.versions for e in estimates] == [">=0.15,<1.0", ">=1.2"]


def test_a_deployment_has_the_overheads_of_its_engine_version_and_device(engine_file):
    engine_file("vllm", profiles=[profile(">=0.8", 1e-3, vendors=["amd"]), profile("<0.8", 2e-3)])
    assert overheads_of(calc.Deployment(), calc.load_device("mi300x")).step_s == 1e-3
    assert overheads_of(calc.Deployment(engine_version="0.6"), H100).step_s == 2e-3


def test_a_version_that_no_profile_covers_is_refused_with_the_known_ones(engine_file):
    name = engine_file("newer-only", profiles=[profile(">=2.0")])
    with pytest.raises(calc.SpecError, match=r"engine_version: '1.0' of newer-only is not covered.*>=2.0"):
        load_overheads(name, "1.0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"profiles": []}, "profiles"),
        ({"profiles": [profile(step_s=-1.0)]}, "step_s"),
        ({"profiles": [profile(step_s="fast")]}, "step_s"),
        ({"profiles": [profile(kind="guessed")]}, "kind"),
        ({"profiles": [profile(kernels={"gems": 1.0})]}, "gems"),
        ({"profiles": [profile(hosts={})]}, "hosts"),
        ({"profiles": [{"versions": "any", "kind": "assumed", "host": {"step_s": 0.0}}]}, "sequence_s"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_the_field(engine_file, changes, message):
    name = engine_file("bad", **changes)
    with pytest.raises(calc.SpecError, match=message) as caught:
        load_overheads(name)
    assert "\n" not in str(caught.value)


def test_an_engine_without_a_file_is_refused_with_the_known_ones():
    with pytest.raises(calc.SpecError, match=r"engine: 'nothing' has no overheads; known are .*vllm"):
        load_overheads("nothing")


def test_a_profile_lends_devices_of_other_makers_host_numbers_only():
    """Kernels and errors of one maker's devices say nothing about another's."""
    own, lent = load_overheads("sglang"), load_overheads("sglang", vendor="intel")
    assert {name: fact.value for name, fact in lent.host.items()} == {
        name: fact.value for name, fact in own.host.items()
    }
    assert (lent.kernels, lent.reach, lent.errors, lent.kind) == ({}, {}, {}, "assumed")
    assert "nvidia" in lent.note
