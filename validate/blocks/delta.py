"""The gated delta rule: a state that forgets, and corrects what it holds for a key."""

import torch

from validate.blocks.state_space import decays


def recurrent(q, k, v, decay, beta, state):
    r"""Return outputs and last state, one token after the other: what decode does.

    .. math::  S_t = e^{g_t} S_{t-1} + \beta_t k_t (v_t - e^{g_t} S_{t-1}^T k_t)^T,
               \qquad o_t = S_t^T q_t

    The state maps keys to values; each token replaces a share :math:`\beta_t` of what it
    holds for its key.

    Parameters
    ----------
    q, k : tensor (batch, heads, tokens, d_key)
        Keys of length 1.
    v : tensor (batch, heads, tokens, d_value)
    decay, beta : tensor (batch, heads, tokens)
        :math:`g_t \le 0`, and :math:`\beta_t` from 0 to 1.
    state : tensor (batch, heads, d_key, d_value)

    References
    ----------
    .. [1] S. Yang et al., "Gated Delta Networks", arXiv:2412.06464, equation 10.
    """
    outputs = []
    for t in range(q.shape[2]):
        state = decay[:, :, t].exp()[..., None, None] * state
        held = k[:, :, t, None, :] @ state
        correction = beta[:, :, t, None, None] * (v[:, :, t, None, :] - held)
        state = state + k[:, :, t, :, None] @ correction
        outputs.append(q[:, :, t, None, :] @ state)
    return torch.cat(outputs, dim=2), state


def chunked(q, k, v, decay, beta, state, chunk: int):
    """Return the same by products of matrices, a chunk of tokens at a time: what prefill does.

    The corrections inside a chunk depend on each other in a triangle: one inverse of a
    triangular matrix a chunk solves for all of them. ``chunk`` must divide the tokens.
    """
    parts = [part.split(chunk, dim=2) for part in (q, k, v, decay, beta)]
    outputs = []
    for part in zip(*parts, strict=True):
        output, state = _one_chunk(*part, state)
        outputs.append(output)
    return torch.cat(outputs, dim=2), state


def _one_chunk(q, k, v, decay, beta, state):
    """Return outputs and the state after one chunk."""
    elapsed = decay.cumsum(dim=-1)
    left = decays(elapsed)
    solve = _inverse((k @ k.transpose(-1, -2)) * left * beta[..., None])
    from_values = solve @ (beta[..., None] * v)
    from_keys = solve @ ((beta * elapsed.exp())[..., None] * k)
    corrections = from_values - from_keys @ state
    scores = (q @ k.transpose(-1, -2)) * left
    output = elapsed.exp()[..., None] * (q @ state) + scores @ corrections
    last = elapsed[..., -1:]
    added = ((last - elapsed).exp()[..., None] * k).transpose(-1, -2) @ corrections
    return output, last.exp()[..., None] * state + added


def _inverse(coupling):
    """Return (1 + strictly lower part)^-1, (..., chunk, chunk): row by row, by substitution."""
    one = torch.eye(coupling.shape[-1], dtype=coupling.dtype)
    return torch.linalg.solve_triangular(coupling.tril(-1) + one, one, upper=False, unitriangular=True)
