"""Grouped-query attention: its two ends, windows, and the work that calc counts."""

import pytest

from calc.work.attention_core import attention_core
from calc.work.causal import causal_pairs
from calc.work.op import Sequences

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from torch.nn.functional import scaled_dot_product_attention  # noqa: E402

from validate.blocks.attention import grouped_query_attention, visible  # noqa: E402


def causal(new, past=0, window=None):
    return visible(torch.arange(past, past + new), torch.arange(past + new), window)


@pytest.mark.parametrize("kv_heads", [1, 2, 8])
def test_it_agrees_with_torch(random, kv_heads):
    q, k, v = random(2, 8, 5, 16), random(2, kv_heads, 9, 16), random(2, kv_heads, 9, 16)
    mask = causal(5, past=4)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(grouped_query_attention(q, k, v, mask), expected)


def test_as_many_kv_heads_as_heads_is_multi_head_attention(random):
    q, k, v = random(1, 4, 6, 8), random(1, 4, 6, 8), random(1, 4, 6, 8)
    each = [grouped_query_attention(*(part[:, h : h + 1] for part in (q, k, v))) for h in range(4)]
    torch.testing.assert_close(grouped_query_attention(q, k, v), torch.cat(each, dim=1))


def test_one_kv_head_is_multi_query_attention(random):
    q, k, v = random(1, 4, 6, 8), random(1, 1, 6, 8), random(1, 1, 6, 8)
    each = [grouped_query_attention(q[:, h : h + 1], k, v) for h in range(4)]
    torch.testing.assert_close(grouped_query_attention(q, k, v), torch.cat(each, dim=1))


def test_groups_share_the_head_of_their_group(random):
    q, k, v = random(1, 4, 6, 8), random(1, 2, 6, 8), random(1, 2, 6, 8)
    wide = grouped_query_attention(q, k[:, [0, 0, 1, 1]], v[:, [0, 0, 1, 1]])
    torch.testing.assert_close(grouped_query_attention(q, k, v), wide)


@pytest.mark.parametrize(
    ("new", "past", "window"), [(6, 0, None), (4, 5, None), (6, 0, 3), (4, 5, 3), (1, 9, 4)]
)
def test_the_mask_has_as_many_pairs_as_calc_counts(new, past, window):
    assert causal(new, past, window).sum() == causal_pairs(new, past, window)


@pytest.mark.parametrize(("new", "past", "kv_heads"), [(6, 0, 4), (4, 8, 2), (1, 12, 1)])
def test_flops_and_bytes_are_those_of_calc(random, flops, elements, bf16, new, past, kv_heads):
    """torch multiplies the whole rectangle; of it the pairs under the mask are work."""
    q, k, v = random(2, 4, new, 16), random(2, kv_heads, past + new, 16), random(2, kv_heads, past + new, 8)
    mask = causal(new, past)
    share = mask.sum().item() / mask.numel()
    phase = "decode" if new == 1 else "prefill"
    op = attention_core(Sequences(phase, 2, new, past), 4, kv_heads, (16, 8), bf16)
    assert op.flops == pytest.approx(share * flops(grouped_query_attention, q, k, v, mask))
    written = elements(k[:, :, past:], v[:, :, past:])
    assert op.cache_bytes == 2 * (elements(k, v) + written)
    assert op.activation_bytes == 2 * elements(q, grouped_query_attention(q, k, v))
