"""Blocks and padded layer groups, against what vLLM printed at start."""

import numpy as np
import pytest

import calc
from calc.work.paging import layer_caches, paging

GIB = 2**30


def pages_of(model, tokens, kv_bytes=2, tp=1, block=16, batched=8192):
    return paging(layer_caches(calc.load_model(model), kv_bytes, tp), tokens, block, batched)


#: vLLM 0.19 start-up logs on H100, llm-d-planner pull request 205: model, tp, pool in GiB, length,
#: "GPU KV cache size" in tokens, "Maximum concurrency"
LOGGED = [
    ("google/gemma-2-27b-it", 1, 20.59, 8192, 58_672, 7.16),
    ("google/gemma-2-2b-it", 1, 66.47, 8192, 670_160, 81.73),
    ("google/gemma-2-9b-it", 1, 54.12, 8192, 168_880, 20.6),
    ("google/gemma-3-27b-it", 1, 19.53, 8192, 36_560, 4.46),
    ("openai/gpt-oss-20b", 2, 59.32, 8192, 2_591_776, 316.07),
    ("meta-llama/Llama-3.1-8B-Instruct", 1, 58.11, 16384, 476_016, 29.05),
    ("deepseek-ai/DeepSeek-V2-Lite-Chat", 1, 43.61, 8192, 1_505_552, 183.78),
    ("Qwen/Qwen2.5-7B-Instruct", 4, 67.34, 8192, 5_043_280, 615.63),
]


@pytest.mark.parametrize(("model", "tp", "pool", "length", "tokens", "concurrency"), LOGGED)
def test_tokens_and_concurrency_equal_the_log_given_its_pool(model, tp, pool, length, tokens, concurrency):
    """The pool is logged to 0.01 GiB, which is all that the tolerance covers."""
    p = pages_of(model, length, tp=tp)
    assert p.cache_tokens(pool * GIB) == pytest.approx(tokens, rel=0.01 / pool)
    assert p.max_concurrency(pool * GIB) == pytest.approx(concurrency, rel=0.01 / pool + 0.005 / concurrency)


@pytest.mark.parametrize(
    ("model", "real", "charged"),
    [("gemma-3-27b", 62, 70), ("gemma-3-4b", 34, 35), ("gemma-3-12b", 48, 48), ("llama-3.1-8b", 32, 32)],
)
def test_the_last_group_is_padded(model, real, charged):
    """vLLM warns for Gemma-3-27B: "Add 8 padding layers, may waste at most 15.38%"."""
    assert calc.load_model(model).n_layers == real
    assert pages_of(model, 8192).padded_layers == charged


def test_a_window_is_reserved_with_the_tokens_a_step_may_bring():
    """gpt-oss slides over 128 tokens, yet at 8192 tokens nothing is saved; beyond that it is."""
    short, long = (pages_of("gpt-oss-20b", tokens).request_pages for tokens in (8192, 65536))
    assert short == 512 + min(512, (127 + 8192 + 15) // 16) + 1
    assert long == 65536 / 16 + (127 + 8192 + 15) // 16 + 1


def test_recurrent_layers_enlarge_the_block_until_one_page_holds_a_state():
    rows = layer_caches(calc.load_model("qwen3-next-80b-a3b"), 2)
    state = next(row for row in rows if row.kind == "state")
    full = next(row for row in rows if row.kind == "full")
    p = paging(rows, 4096, 16, 8192)
    assert p.block_tokens % 16 == 0
    assert p.block_tokens * full.bytes_per_token >= state.state_bytes
    assert (p.block_tokens - 16) * full.bytes_per_token < state.state_bytes


def test_arrays_give_what_scalars_give():
    tokens = np.array([1, 16, 17, 100_000])
    together = pages_of("gemma-3-27b", tokens).request_pages
    assert together.tolist() == [pages_of("gemma-3-27b", int(n)).request_pages for n in tokens]
