"""Decode attention over a cache in pages, and prompts packed one behind the other: torch functions only."""

import torch
import torch.nn.functional as F  # noqa: N812


def write_pages(cache, new, slots) -> None:
    """Write the new token of each sequence, ``[batch, kv_heads, 1, width]``, to its slot of the pages."""
    cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, new[:, :, 0])


def paged_decode_attention(query, key, value, cache_k, cache_v, table, slots, seen: int, room):
    """Return attention of one new token to a cache in pages, gathered first.

    Parameters
    ----------
    query : tensor
        ``[batch, heads, 1, width]``.
    key, value : tensor
        ``[batch, kv_heads, 1, width]``.
    cache_k, cache_v : tensor
        ``[pages, tokens of a page, kv_heads, width]``.
    table : tensor
        Pages of each sequence in order, ``[batch, most pages]``, int32.
    slots : tensor
        Where the new token of each sequence goes, counted in tokens over all pages.
    seen : int
        Tokens of each sequence, the new one included.
    room : pair of tensors
        Where pages are gathered, ``[batch * most pages, tokens of a page, kv_heads, width]``.
    """
    write_pages(cache_k, key, slots)
    write_pages(cache_v, value, slots)
    keys, values = (
        torch.index_select(cache, 0, table.view(-1), out=gathered)
        .view(len(table), -1, *cache.shape[2:])[:, :seen]
        .transpose(1, 2)
        for cache, gathered in zip((cache_k, cache_v), room, strict=True)
    )
    return F.scaled_dot_product_attention(query, keys, values, enable_gqa=query.shape[1] != cache_k.shape[2])


def varlen_decode(query, key, value, cache_k, cache_v, table, slots, seen: int, lengths):
    """Return the same by the kernel that reads pages where they lie.

    ``lengths`` are two int32 tensors: queries before each sequence, and tokens of each.

    Raises
    ------
    NotImplementedError
        If the attention of this build takes no pages.
    """
    from torch.nn.attention.varlen import varlen_attn

    starts, used = lengths
    write_pages(cache_k, key, slots)
    write_pages(cache_v, value, slots)
    try:
        out = varlen_attn(
            query.squeeze(2), cache_k, cache_v, starts, None, 1, seen, window_size=(-1, 0), enable_gqa=True,
            seqused_k=used, block_table=table,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        if "out of memory" in str(error):
            raise
        first = str(error).splitlines()[0].partition(". ")[0]
        raise NotImplementedError(f"varlen_attn takes no pages here: {first}") from None
    return out.unsqueeze(2)


def varlen_prefill(query, key, value, cache_k, cache_v, past: int, window: int, ends):
    """Return causal attention of prompts packed one behind the other, after writing them to the cache.

    ``ends`` counts the tokens before each sequence, int32.

    Raises
    ------
    NotImplementedError
        After a prefix: keys then lie in the cache, unpacked.
    """
    from torch.nn.attention.varlen import varlen_attn

    if past:
        raise NotImplementedError("varlen_attn is compared on prompts without a prefix")
    tokens = query.shape[2]
    cache_k[:, :, :tokens], cache_v[:, :, :tokens] = key, value
    packed = [x.transpose(1, 2).flatten(0, 1) for x in (query, key, value)]
    left = window - 1 if window else -1
    out = varlen_attn(*packed, ends, ends, tokens, tokens, window_size=(left, 0), enable_gqa=True)
    return out.view(len(query), tokens, *out.shape[1:]).transpose(1, 2)
