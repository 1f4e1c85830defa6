"""Attention with any number of key-value heads, and which keys a query sees."""

import math


def visible(query_positions, key_positions, window: int | None = None):
    """Return which keys each query sees: those not later than itself, the last ``window`` of them.

    Parameters
    ----------
    query_positions : tensor (new,)
    key_positions : tensor (context,)
    window : int, optional
        Keys that a query sees at most, its own included.

    Returns
    -------
    bool tensor (new, context)

    Examples
    --------
    >>> import torch
    >>> visible(torch.arange(3), torch.arange(3), window=2).int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    distance = query_positions[:, None] - key_positions[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


def grouped_query_attention(q, k, v, mask=None):
    r"""Return attention of queries over keys and values shared by groups of heads.

    .. math::  \operatorname{softmax}\left(\frac{q k^T}{\sqrt{d}}\right) v

    As many key-value heads as heads is multi-head attention (MHA), one is multi-query (MQA).

    Parameters
    ----------
    q : tensor (batch, heads, new, d_head)
    k : tensor (batch, kv_heads, context, d_head)
    v : tensor (batch, kv_heads, context, d_value)
    mask : bool tensor (new, context), optional
        True where a query sees a key; all where none is given.

    Returns
    -------
    tensor (batch, heads, new, d_value)

    References
    ----------
    .. [1] J. Ainslie et al., "GQA", arXiv:2305.13245; N. Shazeer, "Fast Transformer Decoding"
       (MQA), arXiv:1911.02150; A. Vaswani et al., "Attention Is All You Need", arXiv:1706.03762.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1) @ v
