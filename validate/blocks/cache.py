"""One attention layer with its key-value cache: a prompt at once, or token by token."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from validate.blocks.attention import grouped_query_attention, visible
from validate.blocks.rope import rotated


class Projections(NamedTuple):
    """Weights of an attention layer, each (out features, in features)."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor


@dataclass
class KVCache:
    """Keys and values of one layer, (batch, kv_heads, tokens, d_head); the last ``window`` of them.

    ``tokens`` counts all that were ever added: the position of the next one.
    """

    window: int | None = None
    tokens: int = 0
    keys: torch.Tensor | None = field(default=None, repr=False)
    values: torch.Tensor | None = field(default=None, repr=False)

    def add(self, keys, values):
        """Append the keys and values of new tokens; return all that these tokens may see."""
        if self.keys is not None:
            keys = torch.cat([self.keys, keys], dim=2)
            values = torch.cat([self.values, values], dim=2)
        self.tokens += keys.shape[2] - (0 if self.keys is None else self.keys.shape[2])
        kept = slice(None) if self.window is None else slice(-self.window, None)
        self.keys, self.values = keys[:, :, kept], values[:, :, kept]
        return keys, values

    @property
    def bytes(self) -> int:
        """Bytes that the cache keeps."""
        return sum(part.numel() * part.element_size() for part in (self.keys, self.values))


def attention_layer(x, weights: Projections, n_heads: int, n_kv_heads: int, cache: KVCache):
    """Return the output of an attention layer for new tokens, whose keys and values it caches.

    Given a prompt it is prefill, given one token it is a step of decode: the same function.

    Parameters
    ----------
    x : tensor (batch, new, d_model)
    weights : Projections
    cache : KVCache
        Of the tokens before; it grows by the new ones.

    Returns
    -------
    tensor (batch, new, d_model)
    """
    past, new = cache.tokens, x.shape[1]
    positions = torch.arange(past, past + new)
    q = rotated(_heads(x @ weights.query.T, n_heads), positions)
    k = rotated(_heads(x @ weights.key.T, n_kv_heads), positions)
    keys, values = cache.add(k, _heads(x @ weights.value.T, n_kv_heads))
    mask = visible(positions, torch.arange(past + new - keys.shape[2], past + new), cache.window)
    mixed = grouped_query_attention(q, keys, values, mask)
    return mixed.transpose(1, 2).flatten(2) @ weights.output.T


def _heads(x, n_heads: int):
    """Return (batch, tokens, heads * d_head) as (batch, heads, tokens, d_head)."""
    return x.unflatten(-1, (n_heads, -1)).transpose(1, 2)
