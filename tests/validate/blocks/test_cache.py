"""Decode from the cache gives what computing everything again gives; the cache is as large as calc says."""

import pytest

from calc.work.grouped_query import GroupedQuery
from calc.work.op import Sequences

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.attention import grouped_query_attention, visible  # noqa: E402
from validate.blocks.cache import KVCache, Projections, attention_layer  # noqa: E402
from validate.blocks.rope import rotated  # noqa: E402

HEADS, KV_HEADS, D_HEAD, D_MODEL, TOKENS = 4, 2, 8, 32, 12


@pytest.fixture
def weights(random):
    wide, narrow = HEADS * D_HEAD, KV_HEADS * D_HEAD
    sizes = (wide, D_MODEL), (narrow, D_MODEL), (narrow, D_MODEL), (D_MODEL, wide)
    return Projections(*(random(*size) / 4 for size in sizes))


def layer(x, weights, cache):
    return attention_layer(x, weights, HEADS, KV_HEADS, cache)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("prompt", [1, 7, 11])
def test_decode_equals_full_recompute(random, weights, window, prompt):
    x = random(2, TOKENS, D_MODEL)
    full = layer(x, weights, KVCache(window))
    cache = KVCache(window)
    parts = [layer(x[:, :prompt], weights, cache)]
    parts += [layer(x[:, t : t + 1], weights, cache) for t in range(prompt, TOKENS)]
    torch.testing.assert_close(torch.cat(parts, dim=1), full)


def test_a_prompt_in_chunks_equals_a_prompt_at_once(random, weights):
    x, cache = random(2, TOKENS, D_MODEL), KVCache()
    parts = [layer(part, weights, cache) for part in x.split(5, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, weights, KVCache()))


def test_a_sliding_window_equals_full_attention_under_a_mask(random, weights):
    """The window's cache forgets; full attention remembers all but looks away."""
    x, cache, at = random(1, TOKENS, D_MODEL), KVCache(window=5), torch.arange(TOKENS)
    parts = [layer(x[:, t : t + 1], weights, cache) for t in range(TOKENS)]
    whole = KVCache()
    layer(x, weights, whole)
    q = rotated((x @ weights.query.T).unflatten(-1, (HEADS, D_HEAD)).transpose(1, 2), at)
    mixed = grouped_query_attention(q, whole.keys, whole.values, visible(at, at, 5))
    expected = mixed.transpose(1, 2).flatten(2) @ weights.output.T
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("tokens", [3, 5, 12])
def test_the_cache_is_as_large_as_calc_says(random, weights, window, tokens):
    cache = KVCache(window)
    layer(random(2, tokens, D_MODEL).float(), Projections(*(w.float() for w in weights)), cache)
    kind = GroupedQuery(D_MODEL, HEADS, KV_HEADS, D_HEAD, window=window)
    assert cache.bytes == 2 * kind.cache_bytes(tokens, 4)


def test_projections_are_the_matrix_products_of_calc(random, weights, flops, bf16):
    """All products of the layer are those of calc, with attention over the whole square."""
    x, kind = random(2, TOKENS, D_MODEL), GroupedQuery(D_MODEL, HEADS, KV_HEADS, D_HEAD)
    ops = {op.name: op for op in kind.ops((Sequences("prefill", 2, TOKENS, 0),), bf16, 1)}
    square = 2 * 2 * 2 * HEADS * TOKENS**2 * D_HEAD
    counted = ops["attention.qkv_proj"].flops + ops["attention.o_proj"].flops
    assert flops(layer, x, weights, KVCache()) - square == counted
    weight_bytes = ops["attention.qkv_proj"].weight_bytes + ops["attention.o_proj"].weight_bytes
    assert weight_bytes == 2 * sum(weight.numel() for weight in weights)


@pytest.mark.parametrize("window", [None, 5])
def test_a_step_of_decode_reads_the_cache_and_writes_a_token(random, weights, bf16, window):
    cache, kind = KVCache(window), GroupedQuery(D_MODEL, HEADS, KV_HEADS, D_HEAD, window=window)
    layer(random(2, TOKENS, D_MODEL), weights, cache)
    ops = {op.name: op for op in kind.ops((Sequences("decode", 2, 1, TOKENS - 1),), bf16, 1)}
    written = 2 * 2 * KV_HEADS * D_HEAD
    assert ops["attention.decode"].cache_bytes == 2 * (cache.keys.numel() + cache.values.numel() + written)
