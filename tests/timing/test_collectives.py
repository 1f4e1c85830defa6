"""All-reduce over the links a topology offers."""

import numpy as np
import pytest

import calc
from calc.timing.calibration import calibration_for
from calc.timing.collectives import (
    allreduce_time_s,
    is_collective_kind,
    link_bytes_per_s,
    ring_hops,
    ring_time_s,
)
from calc.timing.step_time import timed_op
from calc.work.op import Op


def test_one_device_has_nothing_to_reduce():
    assert allreduce_time_s(1e6, 1, 450e9, 7e-6, 0.8) == 0


def test_a_ring_sends_every_byte_nearly_twice():
    """2 (w - 1) / w of the payload: 1.75 of it over 8 devices."""
    assert allreduce_time_s(8e9, 8, 450e9, 0.0, 1.0) == pytest.approx(1.75 * 8e9 / 450e9)


def test_arrays_give_what_scalars_give():
    together = allreduce_time_s(1e6, np.array([1, 2, 8]), 450e9, 7e-6, 0.8)
    assert together.tolist() == [allreduce_time_s(1e6, world, 450e9, 7e-6, 0.8) for world in (1, 2, 8)]


@pytest.mark.parametrize(
    ("device", "world", "expected_gb_per_s"),
    [
        ("h100-sxm", 8, 450),  # NVSwitch: the whole link to any number of peers, one direction
        ("h100-sxm", 2, 450),
        ("mi300x", 2, 64),  # full mesh: one of seven links
        ("mi300x", 8, 448),
        ("l40s", 4, 31.5),  # PCIe 4.0 x16
    ],
)
def test_the_topology_decides_the_bandwidth(device, world, expected_gb_per_s):
    assert link_bytes_per_s(calc.load_device(device), world) == pytest.approx(
        expected_gb_per_s * 1e9, rel=0.01
    )


@pytest.mark.parametrize(
    ("device", "world", "all_to_all", "expected_gb_per_s"),
    [
        ("tpu-v5p", 2, False, 100),  # one link; no axis of a slice below 4x4x4 closes into a ring
        ("tpu-v5p", 8, False, 300),
        ("tpu-v5p", 64, False, 600),
        ("tpu-v6e", 8, False, 200),  # 2D: rings from 16x16
        ("tpu-v6e", 256, False, 400),
        ("tpu-v6e", 256, True, 50),  # 8 links of 100 over an axis of 16
    ],
)
def test_a_torus_uses_the_links_of_its_slice(device, world, all_to_all, expected_gb_per_s):
    got = link_bytes_per_s(calc.load_device(device), world, all_to_all)
    assert got == pytest.approx(expected_gb_per_s * 1e9, rel=0.01)


def test_beyond_the_links_domain_a_ring_runs_in_both_tiers():
    """4 nodes of 8 H200: 7/8 of the payload inside each, 3/4 of an eighth across the network."""
    h200 = calc.load_device("h200-sxm")
    slowest = max(7 / 8 / 450e9, 3 / 4 / 8 / h200.network.value)
    assert link_bytes_per_s(h200, 32) == pytest.approx(31 / 32 / slowest)
    assert 0.73 * link_bytes_per_s(h200, 32) == pytest.approx(364.9e9, rel=0.05)  # measured, p5en


def test_all_to_all_across_nodes_is_limited_by_the_network():
    h100 = calc.load_device("h100-sxm")
    assert link_bytes_per_s(h100, 16, all_to_all=True) == pytest.approx(15 / 8 * h100.network.value)


def test_a_bridge_of_two_reaches_further_devices_of_the_node_over_the_host():
    nvl = calc.load_device("h100-nvl")
    assert link_bytes_per_s(nvl, 2) == nvl.link.bandwidth.value
    assert link_bytes_per_s(nvl, 4) == pytest.approx(3 * nvl.host_link.value)  # half goes across


def test_links_of_arrays_are_those_of_numbers():
    for name in calc.device_ids():
        device = calc.load_device(name)
        worlds = np.array([1, 2, 3, 4, 8, 16, 64])
        if device.link.topology == "none":
            worlds = np.array([1])
        for all_to_all in (False, True):
            together = np.broadcast_to(link_bytes_per_s(device, worlds, all_to_all), worlds.shape)
            alone = [float(link_bytes_per_s(device, int(world), all_to_all)) for world in worlds]
            np.testing.assert_allclose(together, alone)
            assert (together > 0).all()


def test_nine_rounds_of_a_ring_take_what_nine_payloads_take():
    once = ring_time_s(9e6, 8, 450e9, 0.0, 0.8, 1)
    assert ring_time_s(1e6, 8, 450e9, 0.0, 0.8, 9) == pytest.approx(once)
    assert ring_time_s(1e6, 8, 450e9, 7e-6, 0.8, 2) == allreduce_time_s(1e6, 8, 450e9, 7e-6, 0.8)


KINDS = (
    "allreduce", "custom_allreduce", "allgather", "reduce_scatter", "alltoall", "dispatch", "combine", "p2p",
    "deepep_ll_dispatch", "deepep_ll_combine",
)  # fmt: skip


def exchange(kind, payload_bytes, world):
    """An exchange as calc.work gives it."""
    rounds = 2 if "allreduce" in kind else 1
    shape = {"world": world, "rounds": rounds, "experts": 64, "tokens": 128}
    if kind == "p2p":  # between two devices of neighbouring stages, however many there are
        shape = {"world": 2, "rounds": 2, "stages": world, "stride": 1}
    return Op(kind, kind, "bf16", comm_bytes=payload_bytes, shape=shape)


def bus_gb_per_s(device, world, payload_bytes=4 * 2**30):
    """What nccl-tests call bus bandwidth of an all-reduce, without the device's own measurements."""
    device = calc.load_device(device)
    row = timed_op(exchange("allreduce", payload_bytes, world), device, calibration_for(device, "datasheet"))
    return 2 * (world - 1) / world * payload_bytes / row.seconds / 1e9


@pytest.mark.parametrize(
    ("device", "world", "measured_gb_per_s", "within"),
    [
        ("mi300x", 2, 47.7, 0.05),  # nccl-tests, all-reduce of 4 GiB
        ("mi300x", 8, 312.9, 0.05),
        ("h100-sxm", 4, 350.2, 0.1),  # of 512 MiB
        ("h200-sxm", 4, 363.3, 0.1),
        ("b200-sxm", 4, 673.2, 0.1),
        ("a100-sxm-80gb", 8, 222.3, 0.15),
        ("h200-sxm", 32, 364.9, 0.05),  # 4 nodes
        ("rtx-pro-6000-server", 2, 38.6, 0.1),
        ("arc-pro-b60", 2, 19.0, 0.1),
        ("l40s", 2, 20.1, 0.1),
    ],
)
def test_the_defaults_of_a_topology_come_near_what_others_measured(device, world, measured_gb_per_s, within):
    assert bus_gb_per_s(device, world, 2**32) == pytest.approx(measured_gb_per_s, rel=within)


def test_devices_on_pcie_collapse_and_the_interval_says_how_far():
    """Eight L40S reach 1.4 GB/s, eight RTX PRO 6000 24.7: one default cannot be near both."""
    for device, measured in (("l40s", 1.4), ("rtx-pro-6000-server", 24.7)):
        fit = calibration_for(calc.load_device(device), "datasheet").fit("allreduce", "bf16")
        reached = bus_gb_per_s(device, 8, 512 * 2**20)
        assert reached < 0.2 * calc.load_device(device).host_link.value / 1e9
        assert reached / fit.high < measured < reached / fit.low


@pytest.mark.parametrize(("world", "measured_us"), [(2, 6.2), (4, 9.5), (8, 15.6)])
def test_small_payloads_take_what_latency_takes(world, measured_us):
    """NCCL all-reduce of 512 bytes on H100; A100 and B200 take up to 1.6 times as long."""
    h100 = calc.load_device("h100-sxm")
    row = timed_op(exchange("allreduce", 512, world), h100, calibration_for(h100, "datasheet"))
    assert measured_us < 1e6 * row.seconds < 1.7 * measured_us


@pytest.mark.parametrize("name", calc.device_ids())
def test_every_exchange_has_an_answer_on_every_device_with_a_link(name):
    device = calc.load_device(name)
    if device.link.topology == "none":
        return
    payloads = np.array([1e2, 1e4, 1e6, 1e8])
    for kind in KINDS:
        assert is_collective_kind(kind)
        for world in (2, 3, 4, 8, 16):
            row = timed_op(exchange(kind, payloads, world), device, calibration_for(device))
            assert np.isfinite(row.seconds).all(), (kind, world)
            assert (np.diff(row.seconds) > 0).all(), (kind, world)
            assert (row.seconds > 1e-6).all()
            assert row.fit.low < 1 < row.fit.high


def test_a_device_without_a_link_says_so():
    with pytest.raises(calc.SpecError, match="m2-ultra: no link to other devices is known"):
        calc.estimate("llama-3.1-8b", "m2-ultra", calc.Deployment(tp=2))
    assert calc.estimate("llama-3.1-8b", "m2-ultra").tpot_s > 0


def test_rings_take_a_hop_for_each_device_and_trees_less():
    assert [ring_hops(world) for world in (1, 2, 4, 8)] == [0, 1, 3, 7]
    assert ring_hops(72) < 15
    assert ring_hops(64, dimensions=3) == pytest.approx(9)  # 4x4x4


def test_all_to_all_on_a_torus_crosses_its_middle():
    v6e = calc.load_device("tpu-v6e")
    fits = calibration_for(v6e)
    gather, other = (timed_op(exchange(kind, 1e9, 256), v6e, fits) for kind in ("allgather", "alltoall"))
    assert other.seconds > 4 * gather.seconds
