"""How transformers keeps its caches, in terms of ours: each convention written out once."""

from dataclasses import replace

import pytest

COUNTER = 8  # a counter of 64 bits beside every sliding window


def cache_bytes(kind, tokens):
    """Bytes that transformers keeps for a layer of one of our attention kinds."""
    if hasattr(kind, "ratio"):
        return deepseek_v4_bytes(kind, tokens)
    for limit in ("window", "chunk"):
        if getattr(kind, limit, None):  # it keeps one token less than the window
            shorter = replace(kind, **{limit: getattr(kind, limit) - 1})
            return shorter.cache_bytes(tokens, 2) + (0 if kind.shares_cache else COUNTER)
    return kind.cache_bytes(tokens, 2)


def deepseek_v4_bytes(kind, tokens):
    """Whole entries and the tokens not compressed yet, of which we reserve as many as there can be."""
    window, *compressed = kind.cache_parts(2)
    kept = min(tokens, window.reach - 1) * window.bytes_per_token
    if not compressed:
        return 2 * kept + COUNTER  # the one vector is listed as key and as value
    entries, held = compressed
    per_entry = entries.bytes_per_token * kind.ratio
    assert per_entry == 2 * (kind.d_head + kind.d_index)
    series = 2 if kind.n_index_heads else 1
    overlap = 2 * per_entry * kind.ratio if series == 2 else 0
    waiting = 2 * series * per_entry
    assert held.state_bytes == kind.ratio * waiting + overlap
    return kept + COUNTER + tokens // kind.ratio * per_entry + tokens % kind.ratio * waiting + overlap


@pytest.fixture(scope="session")
def transformers_bytes():
    return cache_bytes
