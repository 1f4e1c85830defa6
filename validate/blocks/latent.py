"""Multi-head latent attention: one compressed latent per token is cached, for all heads."""

import math
from typing import NamedTuple

import torch

from validate.blocks.attention import grouped_query_attention


class Latents(NamedTuple):
    """What is cached: latents (batch, context, rank) and rotated keys (batch, context, d_rope)."""

    latent: torch.Tensor
    rope: torch.Tensor


class Expansion(NamedTuple):
    """From a latent to each head's key (heads, d_nope, rank) and value (heads, d_value, rank)."""

    key: torch.Tensor
    value: torch.Tensor


def expanded(q_nope, q_rope, cached: Latents, weights: Expansion, mask=None):
    """Return attention over keys and values expanded from the latents: what prefill does.

    Parameters
    ----------
    q_nope : tensor (batch, heads, new, d_nope)
    q_rope : tensor (batch, heads, new, d_rope)
        Already rotated; the rotated keys are the same for all heads.
    mask : bool tensor (new, context), optional

    Returns
    -------
    tensor (batch, heads, new, d_value)

    References
    ----------
    .. [1] DeepSeek-AI, "DeepSeek-V2", arXiv:2405.04434, section 2.1.
    """
    k_nope = cached.latent[:, None] @ weights.key.transpose(-1, -2)
    values = cached.latent[:, None] @ weights.value.transpose(-1, -2)
    k_rope = cached.rope[:, None].expand(-1, k_nope.shape[1], -1, -1)
    keys = torch.cat([k_nope, k_rope], dim=-1)
    return grouped_query_attention(torch.cat([q_nope, q_rope], dim=-1), keys, values, mask)


def absorbed(q_nope, q_rope, cached: Latents, weights: Expansion, mask=None):
    r"""Return the same from the latents alone, the expansion absorbed: what decode does.

    .. math::  q^T (W_k c) = (W_k^T q)^T c, \qquad \sum_t p_t W_v c_t = W_v \sum_t p_t c_t

    All heads read one latent a token: a cache of ``rank + d_rope`` values instead of
    ``heads * (d_nope + d_rope + d_value)``, for more arithmetic a pair.
    """
    q_latent = q_nope @ weights.key
    scores = q_latent @ cached.latent[:, None].transpose(-1, -2)
    scores = scores + q_rope @ cached.rope[:, None].transpose(-1, -2)
    scores = scores / math.sqrt(q_nope.shape[-1] + q_rope.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    mixed = scores.softmax(dim=-1) @ cached.latent[:, None]
    return mixed @ weights.value.transpose(-1, -2)
