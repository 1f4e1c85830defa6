"""Attention of the flash-attn package (FlashAttention-2), prefill and decode."""

from validate.adapters.needs import import_error, missing

TITLE = "attention of the flash-attn package"
#: pages are a multiple of so many tokens
PAGE = 256


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    reason = missing("flash_attn", "flash-attn", capability=(8, 0))
    return reason or import_error("flash_attn", ["flash_attn_func", "flash_attn_with_kvcache"])


def kernels() -> dict:
    """Return the kernels by the name of the one they replace."""
    return {
        "decode_attention": decode_attention,
        "prefill_attention": prefill_attention,
        "paged_decode_attention": paged_decode_attention,
    }


def takes(kernel: str, sizes) -> bool:
    """Whether a kernel can run a case: pages have a least size.

    Examples
    --------
    >>> takes("paged_decode_attention", {"page": 16}), takes("decode_attention", {"batch": 4})
    (False, True)
    """
    return kernel != "paged_decode_attention" or sizes["page"] % PAGE == 0


def decode_attention(query, key, value, cache_k, cache_v, past: int, window: int = 0):
    """Return attention of one new token to the cache, which the same kernel writes.

    Tensors are ``[batch, heads, tokens, width]`` here and ``[batch, tokens, heads, width]``
    there: views, which the kernel reads by their strides.
    """
    from flash_attn import flash_attn_with_kvcache

    turned = [each.transpose(1, 2) for each in (query, cache_k, cache_v, key, value)]
    out = flash_attn_with_kvcache(
        turned[0], turned[1], turned[2], turned[3], turned[4], cache_seqlens=past, causal=True,
        window_size=_window(window),
    )  # fmt: skip
    return out.transpose(1, 2)


def paged_decode_attention(query, key, value, cache_k, cache_v, table, slots, seen: int):
    """Return attention of one new token to a cache in pages, which the same kernel reads and writes.

    The kernel finds the new token's place by itself, so ``slots`` is not used.
    """
    from flash_attn import flash_attn_with_kvcache

    turned = [each.transpose(1, 2) for each in (query, key, value)]
    cached = table.new_full((len(table),), seen - 1)
    out = flash_attn_with_kvcache(
        turned[0],
        cache_k,
        cache_v,
        turned[1],
        turned[2],
        cache_seqlens=cached,
        block_table=table,
        causal=True,
    )
    return out.transpose(1, 2)


def prefill_attention(query, key, value, cache_k, cache_v, past: int = 0, window: int = 0):
    """Return causal attention of new tokens to the cache and to each other, after writing them."""
    from flash_attn import flash_attn_func

    context = past + key.shape[2]
    cache_k[:, :, past:context], cache_v[:, :, past:context] = key, value
    if past:
        key, value = cache_k[:, :, :context], cache_v[:, :, :context]
    turned = [each.transpose(1, 2) for each in (query, key, value)]
    return flash_attn_func(*turned, causal=True, window_size=_window(window)).transpose(1, 2)


def _window(window: int) -> tuple[int, int]:
    """Return keys to the left and right of a query's own that it sees.

    Examples
    --------
    >>> _window(0), _window(128)
    ((-1, -1), (127, 0))
    """
    return (window - 1, 0) if window else (-1, -1)
