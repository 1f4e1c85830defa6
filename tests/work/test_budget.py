"""What engines leave to the cache, over versions, stages and ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc

GIB = 2**30


def memory(model="llama-3.1-8b", device="h100-sxm", tokens=8192, users=1, mode="", load=None, **deployment):
    load = load or calc.Workload(prompt_tokens=tokens - 1, output_tokens=1, concurrency=users, mode=mode)
    return calc.memory(model, device, calc.Deployment(**deployment), load)


#: vLLM start-up logs on H100 80GB (79.19 GiB), llm-d-planner pull request 205: model, version, tp,
#: utilisation, activation peak and pool in GiB
LOGGED = [
    ("llama-3.1-8b", "0.19.0", 1, 0.95, 1.89, 58.11),
    ("llama-3.1-8b", "0.19.0", 2, 0.95, 1.89, 63.76),
    ("llama-3.1-8b", "0.19.0", 4, 0.95, 1.89, 67.44),
    ("llama-3.1-8b", "0.11.0", 1, 0.9, 4.76, 51.38),
    ("qwen3-8b", "0.19.0", 1, 0.95, 2.21, 57.5),
    ("gemma-2-27b", "0.19.0", 1, 0.95, 3.66, 20.59),
    ("phi-4", "0.19.0", 1, 0.95, 1.52, 46.08),
    ("mixtral-8x7b", "0.19.0", 2, 0.95, 1.21, 28.44),
    ("deepseek-v2-lite", "0.19.0", 1, 0.95, 1.93, 43.61),
    ("qwen1.5-moe-a2.7b", "0.19.0", 1, 0.95, 2.47, 45.83),
    ("qwen3-14b", "0.16.0", 1, 0.95, 5.64, 41.94),
    ("qwen3-14b", "0.17.0", 1, 0.95, 2.23, 45.34),
    ("qwen3-32b", "0.11.0", 2, 0.9, 5.64, 34.49),
]


@pytest.mark.parametrize(("model", "version", "tp", "share", "activation", "pool"), LOGGED)
def test_activation_peak_and_pool_are_what_vllm_logged(model, version, tp, share, activation, pool):
    m = memory(model, tp=tp, memory_utilization=share, engine_version=version)
    assert m.activation_bytes_per_device / GIB == pytest.approx(activation, abs=0.08)
    assert m.cache_pool_bytes_per_device / GIB == pytest.approx(pool, rel=0.015)


def test_the_tightest_pipeline_stage_decides():
    """vLLM 0.19, Llama-3.1-8B, pp 4: 4.26 GiB of weights, 69.8 GiB pool on the tightest stage, 275.5x."""
    m = memory(pp=4, memory_utilization=0.95)
    assert m.weights_bytes_per_device / GIB == pytest.approx(4.26, rel=0.01)
    assert m.cache_pool_bytes_per_device / GIB == pytest.approx(69.8, rel=0.015)
    assert m.max_concurrency == pytest.approx(275.54, rel=0.02)
    assert m.max_concurrency == min(stage.max_concurrency for stage in m.stages)


def test_stages_hold_the_model_once():
    whole = memory()
    for pp in (2, 3, 5, 32):
        assert memory(pp=pp).weights_bytes == pytest.approx(whole.weights_bytes, rel=2e-3)


def test_a_tied_embedding_is_held_twice_when_first_and_last_stage_differ():
    tied = calc.load_model("llama-3.2-1b")
    once, twice = (memory(tied, pp=pp).weights_bytes for pp in (1, 2))
    assert twice - once == pytest.approx(tied.vocab_size * tied.d_model * 2, rel=5e-3)


def test_attention_data_parallel_ranks_copy_all_but_routed_experts():
    """DeepSeek-V3 on 16 devices: experts once over all, the rest once per data parallel rank."""
    tp8, dp2 = memory("deepseek-v3", "h200-sxm", tp=8), memory("deepseek-v3", "h200-sxm", tp=8, dp=2, ep=16)
    experts = tp8.weights_bytes_by_role["expert"]
    assert dp2.weights_bytes_by_role["expert"] == pytest.approx(experts / 2, rel=1e-6)
    assert dp2.weights_bytes_by_role["attention"] == tp8.weights_bytes_by_role["attention"]
    assert dp2.n_devices == 16


def test_latent_cache_is_copied_by_tp_and_shared_out_by_dp():
    """DeepSeek-V4-Flash users saw 7.7 times the concurrency from dp 8 instead of tp 8; here V2-Lite."""
    tp8 = memory("deepseek-v2-lite", tp=8, users=64)
    dp8 = memory("deepseek-v2-lite", dp=8, ep=8, users=64)
    assert tp8.request_cache_bytes_per_device == dp8.request_cache_bytes_per_device
    assert dp8.cache_bytes == pytest.approx(tp8.cache_bytes / 8)


def test_context_parallel_ranks_share_the_tokens():
    whole, shared = memory("deepseek-v2-lite", tp=8), memory("deepseek-v2-lite", tp=8, cp=8)
    assert shared.request_cache_bytes_per_device == pytest.approx(whole.request_cache_bytes_per_device / 8)
    assert shared.max_concurrency == pytest.approx(8 * whole.max_concurrency, rel=0.01)


def test_a_shared_prefix_is_kept_once():
    load = {"prompt_tokens": 4096, "output_tokens": 256, "concurrency": 32}
    alone = memory(load=calc.Workload(**load))
    shared = memory(load=calc.Workload(**load, shared_prefix_tokens=2048))
    assert alone.cache_bytes - shared.cache_bytes == 31 * 2048 * 131_072
    assert shared.max_concurrency > alone.max_concurrency


def test_beams_share_the_prompt():
    load = {"prompt_tokens": 4096, "output_tokens": 256, "concurrency": 8}
    one, four = (
        memory(load=calc.Workload(**load, sequences_per_request=n)).request_cache_bytes_per_device
        for n in (1, 4)
    )
    assert one == 4352 * 131_072
    assert four == (4096 + 4 * 256) * 131_072


def test_every_sequence_and_every_request_has_states_of_its_own():
    """Qwen3-Next: beams share blocks of their prompt, but no recurrent state; nor do requests."""
    load = {"prompt_tokens": 4096, "output_tokens": 256, "concurrency": 8}
    for engine in ("vllm", "sglang"):
        at = {"model": "qwen3-next-80b-a3b", "tp": 4, "engine": engine}
        one, two, four = (
            memory(**at, load=calc.Workload(**load, sequences_per_request=n)).request_cache_bytes_per_device
            for n in (1, 2, 4)
        )
        assert four - two == pytest.approx(2 * (two - one))
        states = 36 * (8 * 128 * 128 * 4)  # 32 value heads of 128 x 128, in 32 bits, over four ranks
        assert two - one > states
        prefix = memory(**at, load=calc.Workload(**load, shared_prefix_tokens=4096))
        assert prefix.request_cache_bytes_per_device > states
    only = {"model": "mamba2-2.7b"}
    one, two = (
        memory(**only, load=calc.Workload(**load, sequences_per_request=n)).request_cache_bytes_per_device
        for n in (1, 2)
    )
    assert two == 2 * one


def test_adapters_take_their_slots():
    """16 x 39,976,960 parameters / 16: rank 16 on all linear layers of Llama-2-7B, in 16 bits."""
    assert memory("llama-2-7b", lora_slots=4).adapter_bytes == 4 * 39_976_960 * 2


def test_host_memory_adds_tokens_and_changes_nothing_on_the_device():
    without, with_host = memory(), memory(host_cache_bytes=64.0 * GIB)
    assert with_host.host_cache_tokens == 64 * GIB // 131_072
    assert with_host.max_concurrency == without.max_concurrency


@pytest.mark.parametrize(
    ("engine", "share"), [("vllm", 0.9), ("sglang", 0.88), ("tensorrt-llm", 0.9), ("llama.cpp", 1.0)]
)
def test_each_engine_budgets_in_its_own_way(engine, share):
    m = memory(engine=engine)
    free = m.device_bytes_per_device - m.weights_bytes_per_device - m.activation_bytes_per_device
    free -= m.other_bytes_per_device
    if engine == "tensorrt-llm":
        assert m.cache_pool_bytes_per_device == pytest.approx(share * free)
    else:
        assert m.cache_pool_bytes_per_device == pytest.approx(free - (1 - share) * m.device_bytes_per_device)


def test_a_static_batch_may_use_the_whole_device():
    """TensorRT-LLM ran Llama-2-7B in 16 bits on an A100 80GB with 60 x (128 + 2048) tokens: 81.9 GB."""
    ran = calc.Workload(prompt_tokens=128, output_tokens=2048, concurrency=60, mode="static")
    assert memory("llama-2-7b", "a100-sxm-80gb", load=ran, engine="tensorrt-llm").fits
    more = calc.Workload(prompt_tokens=128, output_tokens=2048, concurrency=66, mode="static")
    assert not memory("llama-2-7b", "a100-sxm-80gb", load=more, engine="tensorrt-llm").fits


@given(
    model=st.sampled_from(["llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "gemma-3-27b", "gpt-oss-20b"]),
    engine=st.sampled_from(calc.engine_ids()),
    tp=st.sampled_from([1, 2, 4]),
    pp=st.sampled_from([1, 2, 4]),
    dp=st.sampled_from([1, 2]),
    users=st.integers(1, 300),
    prompt=st.integers(1, 50_000),
    shared=st.integers(0, 1),
    sequences=st.sampled_from([1, 4]),
    mode=st.sampled_from(["closed_loop", "static"]),
)
def test_rows_sum_and_no_figure_is_negative(
    model, engine, tp, pp, dp, users, prompt, shared, sequences, mode
):
    load = calc.Workload(
        prompt_tokens=prompt,
        output_tokens=100,
        concurrency=users,
        mode=mode,
        shared_prefix_tokens=shared * (prompt // 2),
        sequences_per_request=sequences,
    )
    m = memory(model, load=load, tp=tp, pp=pp, dp=dp, engine=engine)
    rows = m.breakdown()
    assert all(size >= -1e-3 for _, size in rows), rows
    total = sum(size for _, size in rows)
    assert total >= m.device_bytes_per_device * (1 - 1e-9)
    if m.fits:
        assert total == pytest.approx(m.device_bytes_per_device, rel=1e-6)
    assert (m.shortfall_bytes > 0) == (not m.fits)
    assert m.cache_used_bytes <= m.cache_bytes * (1 + 1e-9)


def test_arrays_give_what_scalars_give():
    tp, prompt = np.array([[1], [2], [4]]), np.array([1000, 20_000, 60_000])
    for pp in (1, 2):
        load = calc.Workload(prompt_tokens=prompt, output_tokens=10, concurrency=3)
        together = memory("gemma-2-9b", load=load, tp=tp, pp=pp)
        for i in range(3):
            for j in range(3):
                one_load = calc.Workload(prompt_tokens=int(prompt[j]), output_tokens=10, concurrency=3)
                one = memory("gemma-2-9b", load=one_load, tp=int(tp[i, 0]), pp=pp)
                for name in ("max_concurrency", "cache_bytes_per_device", "shortfall_bytes", "cache_tokens"):
                    value = np.broadcast_to(getattr(together, name), (3, 3))[i, j]
                    assert value == pytest.approx(getattr(one, name), rel=1e-12), (name, i, j)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pp": 100}, "pp: 100 is more than the 32 layers"),
        ({"cp": 3, "tp": 4}, "cp: 3 does not divide tp (4)"),
        ({"ep": 3, "tp": 4}, "ep: 3 does not divide tp * dp (4)"),
        ({"engine_version": "newest"}, "engine_version: 'newest' is not a version"),
        ({"lora_slots": -1}, "lora_slots: -1 is not allowed"),
        ({"host_cache_bytes": float("nan")}, "host_cache_bytes: nan is not allowed"),
        ({"pp": np.array([1, 2])}, "pp: an array is not allowed"),
    ],
)
def test_wrong_values_are_named_in_one_line(change, message):
    with pytest.raises(calc.SpecError) as error:
        memory(**change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
