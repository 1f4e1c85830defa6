"""All-reduce over the links a topology offers."""

import numpy as np
import pytest

import calc
from calc.timing.collectives import (
    allreduce_time_s,
    link_bytes_per_s,
    ring_parameters,
    ring_time_s,
)


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
        for all_to_all in (False, True):
            together = np.broadcast_to(link_bytes_per_s(device, worlds, all_to_all), worlds.shape)
            alone = [float(link_bytes_per_s(device, int(world), all_to_all)) for world in worlds]
            np.testing.assert_allclose(together, alone)
            assert (together > 0).all()


def test_nine_rounds_of_a_ring_take_what_nine_payloads_take():
    once = ring_time_s(9e6, 8, 450e9, 0.0, 0.8, 1)
    assert ring_time_s(1e6, 8, 450e9, 0.0, 0.8, 9) == pytest.approx(once)
    assert ring_time_s(1e6, 8, 450e9, 7e-6, 0.8, 2) == allreduce_time_s(1e6, 8, 450e9, 7e-6, 0.8)


@pytest.mark.parametrize(
    ("device", "world", "measured_gb_per_s", "within"),
    [
        ("mi300x", 2, 47.7, 0.1),  # nccl-tests, all-reduce of 4 GiB
        ("mi300x", 8, 312.9, 0.1),
        ("h100-sxm", 4, 350.2, 0.1),  # of 512 MiB
        ("a100-sxm-80gb", 8, 222.3, 0.1),
        ("rtx-pro-6000-server", 2, 38.6, 0.1),
    ],
)
def test_a_ring_without_a_fit_comes_near_what_others_measured(device, world, measured_gb_per_s, within):
    device = calc.load_device(device)
    reached = ring_parameters(device, world)["e_link"] * link_bytes_per_s(device, world)
    assert reached == pytest.approx(1e9 * measured_gb_per_s, rel=within)


def test_devices_on_pcie_share_the_host():
    """L40S: 21, 5 and 1.4 GB/s between 2, 4 and 8; RTX PRO 6000: 39, 26 and 25 of its faster link."""
    l40s = calc.load_device("l40s")
    shares = [ring_parameters(l40s, world)["e_link"] for world in (2, 4, 8)]
    assert shares == pytest.approx([0.6, 0.3, 0.15])
