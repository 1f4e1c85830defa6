"""Memory of a deployment: weights by class, cache, the engine's budget."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc
from calc.specs.engine import engine_of
from calc.work.budget import memory_of
from calc.work.memory import cache_bytes_per_sequence, precision_of, weights_bytes_by_role

GIB = 2**30


def memory(model="llama-3.1-70b", device="h100-sxm", load=None, **deployment):
    d, device = calc.Deployment(**deployment), calc.load_device(device)
    load = load or calc.Workload(concurrency=16)
    return memory_of(calc.load_model(model), device, d, load, engine_of(d, device))


@pytest.mark.parametrize(("n_kv_heads", "expected"), [(8, 17_179_869_184), (32, 68_719_476_736)])
def test_the_textbook_formula_gives_the_known_cache_of_llama_3_8b(n_kv_heads, expected):
    """8k tokens, 16 sequences, 16 bits: 16 GiB with 8 KV heads, 64 GiB with 32."""
    assert calc.kv_cache_bytes(32, n_kv_heads, 128, 8192, 16, 2) == expected


def test_the_textbook_formula_takes_arrays():
    sizes = calc.kv_cache_bytes(32, 8, 128, np.array([8192, 16384]), 16, 2)
    assert sizes.tolist() == [17_179_869_184, 2 * 17_179_869_184]


def test_sixteen_bit_weights_are_two_bytes_a_parameter():
    """70,553,706,496 parameters as published for Llama-3.1-70B."""
    m = memory()
    assert m.weights_bytes == 2 * 70_553_706_496


def test_fp8_leaves_embedding_lm_head_and_norms_in_sixteen_bits():
    """RedHatAI's Llama-3.3-70B fp8 stores 2,109,382,656 parameters in 16 bits, 68,451,041,280 in 8.

    The split is the published dtype count of that checkpoint; its 16-bit count holds
    channel scales too, hence the tolerance of 0.4 %.
    """
    model = calc.load_model("llama-3.1-70b")
    by_role = weights_bytes_by_role(model, precision_of(model, calc.Deployment(weight_dtype="fp8")))
    kept = sum(by_role[role] for role in ("embedding", "lm_head", "norm"))
    eight_bit = sum(by_role.values()) - kept
    assert eight_bit == 68_451_041_280
    assert kept / 2 == pytest.approx(2_109_382_656, rel=4e-3)


@pytest.mark.parametrize(
    ("tp", "kv", "logged_gib", "logged_pool_gib", "logged_tokens"),
    [(2, None, 33.88, 37.28, 244_304), (4, None, 16.96, 54.09, 708_992)],
)
def test_the_budget_equals_what_vllm_logged_for_llama_70b_fp8(
    tp, kv, logged_gib, logged_pool_gib, logged_tokens
):
    """vLLM 0.19 start-up logs on H100 80GB at utilisation 0.95, llm-d-planner pull request 205."""
    m = memory(tp=tp, weight_dtype="fp8", kv_dtype=kv, memory_utilization=0.95, engine_version="0.19")
    assert m.weights_bytes_per_device / GIB == pytest.approx(logged_gib, rel=0.01)
    assert m.cache_pool_bytes_per_device / GIB == pytest.approx(logged_pool_gib, rel=0.015)
    assert m.cache_tokens == pytest.approx(logged_tokens, rel=0.015)


def test_a_model_too_large_says_by_how_much_and_is_no_error():
    m = memory(tp=1)
    assert not m.fits
    assert m.shortfall_bytes == m.required_bytes_per_device - m.usable_bytes_per_device
    assert m.shortfall_bytes > 141e9 - 85.1e9


def test_a_batch_of_static_mode_must_fit_as_a_whole_and_a_loop_queues():
    many = {"prompt_tokens": 4096, "output_tokens": 4096, "concurrency": 4000}
    assert not memory(tp=8, load=calc.Workload(mode="static", **many)).fits
    assert memory(tp=8, load=calc.Workload(mode="closed_loop", **many)).fits


def test_kv_heads_are_copied_beyond_their_number_and_split_below():
    model = calc.load_model("llama-3.1-70b")
    per_device = [cache_bytes_per_sequence(model, 1, 2, tp) for tp in (1, 4, 8, 16, 64)]
    assert per_device == [327_680, 81_920, 40_960, 40_960, 40_960]


@given(
    tp=st.sampled_from([1, 2, 4, 8]),
    users=st.integers(1, 5000),
    prompt=st.integers(1, 100_000),
    dtype=st.sampled_from(["bf16", "fp8", "int4", "nvfp4"]),
    kv=st.sampled_from(["bf16", "fp8"]),
    mode=st.sampled_from(["closed_loop", "static"]),
)
def test_the_rows_of_memory_sum_to_what_the_device_reports_or_to_what_is_needed(
    tp, users, prompt, dtype, kv, mode
):
    load = calc.Workload(prompt_tokens=prompt, output_tokens=64, concurrency=users, mode=mode)
    m = memory("llama-3.1-8b", load=load, tp=tp, weight_dtype=dtype, kv_dtype=kv)
    total = sum(size for _, size in m.breakdown())
    assert all(size >= 0 for _, size in m.breakdown())
    if m.fits:
        assert total == pytest.approx(m.device_bytes_per_device, rel=1e-9)
    else:
        assert total >= m.device_bytes_per_device
    assert sum(m.weights_bytes_by_role.values()) == pytest.approx(m.weights_bytes_per_device)


def test_arrays_give_what_scalars_give():
    together = memory(tp=np.array([1, 2, 4, 8]))
    one_by_one = [memory(tp=tp) for tp in (1, 2, 4, 8)]
    for name in ("weights_bytes", "cache_pool_bytes", "shortfall_bytes", "max_concurrency", "cache_bytes"):
        assert np.asarray(getattr(together, name)).tolist() == [
            float(getattr(m, name)) for m in one_by_one
        ], name
    assert json.dumps(np.asarray(together.fits).tolist()) == "[false, true, true, true]"
