"""Exchanges in a step: the kernels an engine uses, links inside a node and beyond."""

import numpy as np
import pytest

import calc
from calc.timing.calibration import calibration_for
from calc.timing.exchange import exchange
from calc.work.communication import FP8_ROW_BYTES, collective, expert_exchange, stage_hops
from calc.work.op import Precision
from calc.work.sharding import Split

H100 = calc.load_device("h100-sxm")
BF16 = Precision({}, kv_bytes=2, math="bf16")
#: DeepEP README of 2026-02 (567632d), H800 with 400 Gb/s: 128 tokens of 7168, 8 experts each
LOW_LATENCY_US = {
    "dispatch": {16: 118, 32: 155, 64: 173, 128: 192, 256: 194},
    "combine": {16: 195, 32: 273, 64: 314, 128: 369, 256: 360},
}


def seconds(op, device=H100, engine="vllm", calibration="default"):
    return exchange(op, device, calibration_for(device, calibration), engine).parts.seconds


def summed(elements, world):
    return collective("allreduce", "sum", elements, world, BF16)


def test_a_small_sum_takes_the_engines_own_kernel_and_a_large_one_the_library():
    for elements, quicker in ((32 * 1024, "custom_allreduce"), (64 * 2**20, "allreduce")):
        library = exchange(summed(elements, 8), H100, calibration_for(H100))
        inside = exchange(summed(elements, 8), H100, calibration_for(H100), "sglang")
        if quicker == "custom_allreduce":
            assert inside.parts.seconds < min(library.parts.seconds, 2e-5)
            assert inside.fit.kernel == "vLLM_custom_graph"
        else:
            assert inside.parts.seconds == library.parts.seconds


def test_each_engine_has_its_own_kernel():
    kernels = {
        engine: exchange(summed(2**15, 8), H100, calibration_for(H100), engine).fit.kernel
        for engine in ("vllm", "tensorrt-llm")
    }
    assert kernels == {"vllm": "vLLM_custom_graph", "tensorrt-llm": "TRTLLM"}


def test_assumed_figures_do_not_compete():
    d = calc.load_device("mi300x")
    assert seconds(summed(1024, 8), d) == seconds(summed(1024, 8), d, engine="")


@pytest.mark.parametrize("kind", ["allreduce", "allgather", "deepep_ll_dispatch", "dispatch", "p2p"])
def test_more_bytes_never_take_less_time_wherever_the_devices_are(kind):
    sizes = np.geomspace(1e2, 1e9, 200)
    for world in (2, 8, 16, 64):
        op = collective("allreduce" if kind == "p2p" else kind, "x", sizes, world, BF16)
        op = stage_hops(sizes, Split(tp=8, pp=4), BF16) if kind == "p2p" else op
        if "dispatch" in kind:
            op = expert_exchange(kind, "x", sizes, 8, 1, 2, 256, world)
        assert np.all(np.diff(seconds(op)) >= 0)


def test_worlds_inside_and_beyond_a_node_broadcast_as_one_by_one():
    worlds = np.array([1, 2, 8, 16, 32])
    together = exchange(summed(1e6, worlds), H100, calibration_for(H100), "vllm")
    assert together.parts.seconds.tolist() == pytest.approx(
        [seconds(summed(1e6, w)) for w in (1, 2, 8, 16, 32)]
    )
    assert together.outside.tolist() == [False, False, False, True, True]


def test_beyond_a_node_nothing_is_called_calibrated():
    assert exchange(summed(1e6, 16), H100, calibration_for(H100), "vllm").fit.trust == "datasheet"


def test_a_group_of_every_eighth_device_goes_over_the_network():
    """Two devices of a node have NVLink between them, two of different nodes 50 GB/s."""
    near, far = (seconds(collective("allgather", "x", 1e9, 2, BF16, stride)) for stride in (1, 8))
    assert far > 1e9 * 2 / 2 / H100.network.value > near


def seconds_per_byte(split):
    one, two = (seconds(stage_hops(n, split, BF16)) for n in (1e9, 2e9))
    return (two - one) / 2e9


def test_a_hop_moves_its_payload_once_over_the_link_or_the_network():
    """Elements of 2 bytes at 450 GB/s, or at 50; the shares of either reached are alike."""
    near, far = (seconds_per_byte(Split(tp=tp, pp=2)) for tp in (4, 8))
    assert 0.5 <= 1 / 450e9 / near <= 1
    assert far == pytest.approx(9 * near, rel=0.1)


def test_of_four_stages_in_two_nodes_one_hop_in_three_crosses():
    near, far, mean = (
        seconds_per_byte(split) for split in (Split(tp=4, pp=2), Split(tp=8, pp=2), Split(tp=4, pp=4))
    )
    assert mean == pytest.approx(2 / 3 * near + 1 / 3 * far, rel=0.1)


@pytest.mark.parametrize("way", LOW_LATENCY_US)
@pytest.mark.parametrize("world", LOW_LATENCY_US["dispatch"])
def test_low_latency_exchanges_over_nodes_take_what_deepep_published(way, world):
    row_bytes = FP8_ROW_BYTES if way == "dispatch" else 2
    op = expert_exchange(f"deepep_ll_{way}", way, 128, 8, 7168, row_bytes, 256, world)
    assert 1e6 * seconds(op) == pytest.approx(LOW_LATENCY_US[way][world], rel=0.45)
