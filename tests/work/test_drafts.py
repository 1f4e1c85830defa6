"""Memory of what drafts: its weights, its cache, and what follows for the pool and for fitting."""

import numpy as np
import pytest

import calc
from calc.work.parameters import mtp_parameters

DRAFT = calc.Speculation("draft", 3, 0.7, draft_model="llama-3.2-1b")
EAGLE, MTP, NGRAM = (calc.Speculation(kind, 3, 0.7) for kind in ("eagle", "mtp", "ngram"))
#: Llama-3.2-1B as published: 1,235,814,400 parameters; 16 layers of 8 KV heads of 64, two bytes each
DRAFT_BYTES, DRAFT_BYTES_PER_TOKEN = 2 * 1_235_814_400, 16 * 2 * 8 * 64 * 2


def memory(speculation, model="llama-3.1-70b", device="h200-sxm", load=None, **deployment):
    d = calc.Deployment(speculation=speculation, **({"tp": 4} | deployment))
    return calc.memory(model, device, d, calc.Workload(**({"concurrency": 16} | (load or {}))))


def test_a_draft_model_brings_its_published_parameters_and_a_cache_of_the_same_tokens():
    alone, drafted = (memory(drafts, "llama-3.1-8b", tp=1) for drafts in (None, DRAFT))
    assert drafted.weights_bytes == alone.weights_bytes
    assert drafted.draft_bytes == DRAFT_BYTES
    assert drafted.draft_cache_bytes == 16 * 1280 * DRAFT_BYTES_PER_TOKEN
    assert drafted.cache_bytes == alone.cache_bytes + drafted.draft_cache_bytes
    assert drafted.cache_pool_bytes == pytest.approx(alone.cache_pool_bytes - DRAFT_BYTES)


def test_requests_and_tokens_of_the_pool_pay_for_the_cache_of_their_drafts():
    """Llama-3.1-8B keeps 131,072 bytes a token, its draft 32,768: four fifths of the pool are left."""
    m = memory(DRAFT, "llama-3.1-8b", tp=1)
    assert m.cache_tokens == pytest.approx(m.cache_pool_bytes / (131_072 + 32_768), rel=1e-3)
    assert m.max_concurrency == pytest.approx(m.cache_tokens / 1280, rel=1e-3)


def test_a_draft_model_is_cut_like_the_model_and_refused_where_its_heads_do_not_divide():
    one, four = (memory(DRAFT, tp=tp).draft_bytes_per_device for tp in (1, 4))
    norms = 2 * 2048 * (2 * 16 + 1)
    assert one == DRAFT_BYTES
    assert four == (DRAFT_BYTES - norms) / 4 + norms
    small = calc.Speculation("draft", 3, 0.7, draft_model="qwen2.5-0.5b")
    with pytest.raises(calc.SpecError, match=r"tp: 4 does not divide the 14 attention heads of qwen2.5-0.5b"):
        memory(small, "qwen2.5-3b", tp=4)
    assert calc.plan("qwen2.5-3b", "l4", calc.Deployment(speculation=small)).n_devices == 1


def test_an_eagle_head_is_a_layer_and_a_projection_of_two_hidden_states():
    """Llama-3.1-8B: 4096 x (4096 + 2 x 1024 + 4096) + 3 x 4096 x 14336 + two norms, and 2 x 4096 x 4096."""
    layer = 4096 * (4096 + 2 * 1024 + 4096) + 3 * 4096 * 14_336 + 2 * 4096
    m = memory(EAGLE, "llama-3.1-8b", tp=1)
    assert m.draft_bytes == 2 * (layer + 2 * 4096**2)
    assert m.draft_cache_bytes == pytest.approx(m.cache_bytes / 33)


def test_behind_pipeline_stages_a_head_holds_an_embedding_and_sits_on_the_last_stage():
    one, two = (memory(EAGLE, tp=1, pp=pp).draft_bytes for pp in (1, 2))
    assert two == one + 2 * 128_256 * 8192
    drafting = [stage.draft_bytes for stage in memory(EAGLE, tp=2, pp=4).stages]
    assert drafting[:3] == [0.0, 0.0, 0.0]
    assert drafting[3] > 0


def test_next_token_layers_are_the_checkpoints_own_without_their_shared_tables():
    """DeepSeek-V3's README: 14 billion parameters of the MTP module, 11.5 of them its own; fp8."""
    m, model = memory(MTP, "deepseek-v3", tp=1), calc.load_model("deepseek-v3")
    own = mtp_parameters(model) - 2 * model.vocab_size * model.d_model
    assert own == pytest.approx(11.5e9, rel=0.015)
    assert m.draft_bytes == pytest.approx(own, rel=0.02)
    assert m.draft_cache_bytes == pytest.approx(m.cache_bytes / 62)


def test_an_ngram_takes_nothing():
    without, with_it = memory(None), memory(NGRAM)
    assert with_it.draft_bytes == with_it.draft_cache_bytes == 0
    assert with_it.max_concurrency == without.max_concurrency


def test_rows_sum_and_what_fits_follows():
    """141.1 GB of weights on two H100 of 85.0 GB at 0.885 leave less than the 1.2 GB of a draft model."""
    alone, drafted = (
        memory(drafts, device="h100-sxm", tp=2, memory_utilization=0.885, max_batched_tokens=2048,
               load={"concurrency": 1}, max_sequences=64)
        for drafts in (None, DRAFT)
    )  # fmt: skip
    for m in (alone, drafted):
        needed = m.required_bytes_per_device + m.device_bytes_per_device - m.usable_bytes_per_device
        total = sum(size for _, size in m.breakdown())
        assert total == pytest.approx(max(m.device_bytes_per_device, needed))
    assert dict(drafted.breakdown())["drafts"] == drafted.draft_bytes_per_device
    assert drafted.required_bytes_per_device - alone.required_bytes_per_device == pytest.approx(
        drafted.draft_bytes_per_device + 1280 * DRAFT_BYTES_PER_TOKEN / 2
    )
    assert alone.fits
    assert not drafted.fits
    d = calc.Deployment(
        tp=2, memory_utilization=0.885, max_batched_tokens=2048, max_sequences=64, speculation=DRAFT
    )
    ways = calc.ways_to_fit("llama-3.1-70b", "h100-sxm", d, calc.Workload())
    assert "no drafts" in [way.label for way in ways]


def test_arrays_of_ranks_give_what_scalars_give():
    together = memory(DRAFT, tp=np.array([1, 2, 4]))
    for name in ("draft_bytes", "draft_cache_bytes", "max_concurrency", "cache_tokens"):
        alone = [float(getattr(memory(DRAFT, tp=tp), name)) for tp in (1, 2, 4)]
        assert np.asarray(getattr(together, name)).tolist() == pytest.approx(alone), name


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
@pytest.mark.parametrize(
    ("model", "drafts", "deployment"),
    [
        ("llama-3.1-70b", DRAFT, {}),
        ("gemma-3-27b", EAGLE, {"tp": 2, "pp": 2}),
        ("deepseek-v3", MTP, {"tp": 8}),
        ("llama-3.1-8b", NGRAM, {"tp": 1}),
    ],
)
@pytest.mark.parametrize("load", [{}, {"shared_prefix_tokens": 500}])
def test_memory_with_drafts_and_shared_prefixes_is_explained(engine, model, drafts, deployment, load):
    d = calc.Deployment(engine=engine, speculation=drafts, **({"tp": 4} | deployment))
    e = calc.estimate(model, "h200-sxm", d, calc.Workload(concurrency=8, **load))
    values = {
        "memory": e.memory.required_bytes_per_device,
        "cache_bytes": e.memory.cache_bytes,
        "cache_tokens": e.memory.cache_tokens,
        "max_concurrency": e.memory.max_concurrency,
    }
    for metric, value in values.items():
        why = e.explain(metric)
        assert why.value == pytest.approx(value, rel=1e-12), metric
        assert sum(part.value for part in why.parts) in (0, pytest.approx(value, rel=1e-12)), metric
        assert why.to_text().isascii()
