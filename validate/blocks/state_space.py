"""Mamba-2: a decayed sum kept as a state of fixed size; token by token, and in chunks."""

import torch


def recurrent(values, decay, keys, queries, state):
    r"""Return outputs and last state, one token after the other: what decode does.

    .. math::  S_t = e^{a_t} S_{t-1} + x_t b_t^T, \qquad y_t = S_t c_t

    Parameters
    ----------
    values : tensor (batch, tokens, heads, d_head)
        :math:`x_t`, already times the time step.
    decay : tensor (batch, tokens, heads)
        :math:`a_t \le 0`.
    keys, queries : tensor (batch, tokens, groups, d_state)
        :math:`b_t` and :math:`c_t` (Mamba's B and C), shared by groups of heads.
    state : tensor (batch, heads, d_head, d_state)

    References
    ----------
    .. [1] T. Dao, A. Gu, "Transformers are SSMs", arXiv:2405.21060, equation 2 and listing 1.
    """
    keys, queries = (_by_head(part, values.shape[2]) for part in (keys, queries))
    outputs = []
    for t in range(values.shape[1]):
        added = values[:, t, :, :, None] @ keys[:, t, :, None, :]
        state = decay[:, t].exp()[..., None, None] * state + added
        outputs.append((state @ queries[:, t, :, :, None])[..., 0])
    return torch.stack(outputs, dim=1), state


def chunked(values, decay, keys, queries, state, chunk: int):
    """Return the same by products of matrices, a chunk of tokens at a time: what prefill does.

    Inside a chunk it is attention with decayed scores in place of the softmax; the past
    reaches it through the state alone. ``chunk`` must divide the tokens.
    """
    parts = [part.split(chunk, dim=1) for part in (values, decay, keys, queries)]
    outputs = []
    for x, a, b, c in zip(*parts, strict=True):
        y, state = _one_chunk(x.transpose(1, 2), a.transpose(1, 2), b, c, state)
        outputs.append(y.transpose(1, 2))
    return torch.cat(outputs, dim=1), state


def _one_chunk(x, a, b, c, state):
    """Return outputs (batch, heads, chunk, d_head) and the state after one chunk."""
    heads, elapsed = x.shape[1], a.cumsum(dim=-1)
    scores = c.transpose(1, 2) @ b.permute(0, 2, 3, 1)  # one product for each group of heads
    scores = scores.repeat_interleave(heads // scores.shape[1], dim=1) * decays(elapsed)
    b, c = _by_head(b, heads).transpose(1, 2), _by_head(c, heads).transpose(1, 2)
    from_past = elapsed.exp()[..., None] * (c @ state.transpose(-1, -2))
    last = elapsed[..., -1:]
    added = (x * (last - elapsed).exp()[..., None]).transpose(-1, -2) @ b
    return scores @ x + from_past, last.exp()[..., None] * state + added


def decays(elapsed):
    """Return what is left at token i of what token j <= i brought; 0 for later ones.

    Parameters
    ----------
    elapsed : tensor (..., chunk)
        Sum of the decays from the chunk's start, each token's own included.

    Returns
    -------
    tensor (..., chunk, chunk)

    Examples
    --------
    >>> decays(torch.tensor([0.5, 0.25]).log().cumsum(0)).tolist()
    [[1.0, 0.0], [0.25, 1.0]]
    """
    between = elapsed[..., :, None] - elapsed[..., None, :]
    later = torch.ones(between.shape[-2:], dtype=torch.bool).triu(1)
    return between.masked_fill(later, -torch.inf).exp()


def _by_head(shared, heads: int):
    """Return (batch, tokens, groups, d) repeated for each head of a group."""
    return shared.repeat_interleave(heads // shared.shape[2], dim=2)
