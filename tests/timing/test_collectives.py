"""All-reduce over the links a topology offers."""

import numpy as np
import pytest

import calc
from calc.timing.collectives import allreduce_time_s, link_bytes_per_s


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


def test_beyond_the_links_domain_the_network_counts():
    h100 = calc.load_device("h100-sxm")
    assert link_bytes_per_s(h100, 16) == h100.network.value
