"""Prefill and decode pools: transfer, rates that meet, and the ratio of pools."""

import pytest

import calc
from calc.serving.disaggregation import deterministic_queue_wait_s, exposed_transfer_s, transfer_s
from calc.work.op import Sequences

PREFILL, DECODE = ("h100-sxm", calc.Deployment(tp=4)), ("h200-sxm", calc.Deployment(tp=4))


def pair(load=None, **other):
    return calc.disaggregate("llama-3.1-70b", PREFILL, DECODE, load or calc.Workload(concurrency=16), **other)


def test_the_transfer_is_the_prompts_cache_over_the_link():
    """80 layers, 8 KV heads of 128, keys and values in two bytes; 4 ports of 50 GB/s."""
    d = pair(layer_wise=False)
    assert d.cache_bytes == 1024 * 80 * 2 * 8 * 128 * 2
    assert d.transfer_s == pytest.approx(1e-4 + d.cache_bytes / 200e9)
    assert d.exposed_transfer_s == d.transfer_s


def test_sending_layer_by_layer_leaves_the_last_layer_or_what_the_link_is_behind():
    fast, slow = transfer_s(80e6, 8e9, 0), transfer_s(80e6, 0.08e9, 0)
    assert exposed_transfer_s(fast, 0.1, 80, 0) == pytest.approx(0.01 / 80)
    assert exposed_transfer_s(slow, 0.1, 80, 0) == pytest.approx(1.0 - 0.1 * 79 / 80)


def test_the_wait_for_a_server_of_constant_service_is_half_that_of_a_random_one():
    assert deterministic_queue_wait_s(2.0, 0.8) == pytest.approx(0.5 * 2.0 * 0.8 / 0.2)


def test_one_user_sees_plain_prefill_the_transfer_and_plain_decode():
    d = pair(calc.Workload(concurrency=1))
    alone = float(calc.steps_of("llama-3.1-70b", *PREFILL).time(Sequences("prefill", 1, 1024, 0)).seconds)
    assert d.ttft_s == pytest.approx(alone + d.exposed_transfer_s, rel=0.02)
    decode = calc.estimate("llama-3.1-70b", *DECODE, calc.Workload(concurrency=1))
    assert d.tpot_s == pytest.approx(decode.tpot_s, rel=0.02)


def test_littles_law_holds_over_both_pools():
    for users in (4, 16, 300):
        d = pair(calc.Workload(concurrency=users))
        assert d.pools.requests_per_s * d.e2e_latency_s == pytest.approx(users, rel=0.01)


def test_the_slower_pool_sets_the_rate():
    d = pair(calc.Workload(mode="max_load"))
    assert d.bottleneck == "prefill"
    assert d.max_requests_per_s == pytest.approx(d.prefill_requests_per_s)
    more = pair(calc.Workload(mode="max_load"), instances=(3, 1))
    assert more.max_requests_per_s == pytest.approx(
        min(3 * d.prefill_requests_per_s, d.decode_requests_per_s)
    )


def test_the_best_ratio_is_that_of_the_rates():
    d = pair()
    ratio = d.decode_requests_per_s / d.prefill_requests_per_s
    assert d.best.prefill_instances / d.best.decode_instances == pytest.approx(ratio, rel=0.1)
    assert d.best.requests_per_s_per_device >= d.max_requests_per_s / d.pools.n_devices


def test_decodes_are_not_held_up_by_prompts():
    load = calc.Workload(concurrency=64)
    together = calc.estimate("llama-3.1-70b", *DECODE, load)
    assert pair(load).tpot_s < together.tpot_s


def test_a_rate_over_the_pools_has_no_steady_state():
    d = pair(calc.Workload(requests_per_s=50))
    assert not d.steady
    assert d.ttft_s == float("inf")
    assert pair(calc.Workload(requests_per_s=5)).steady


def test_what_is_not_answered_is_named():
    with pytest.raises(calc.SpecError, match="mode: 'static' is one batch"):
        pair(calc.Workload(mode="static"))
