"""Rotary position embedding: positions as rotations of queries and keys."""

import torch


def angles(positions, d_head: int, base: float = 10_000.0):
    r"""Return the angle of each position and pair of channels. [rad]

    .. math::  \varphi_{t,i} = t \, b^{-2i/d}, \quad i = 0 \ldots d/2 - 1

    Parameters
    ----------
    positions : tensor (tokens,)
    d_head : int
        Even width of a head.
    base : float
        ``rope_theta`` of a ``config.json``.

    Returns
    -------
    tensor (tokens, d_head / 2)

    References
    ----------
    .. [1] J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
       arXiv:2104.09864, section 3.2.
    """
    frequencies = base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)
    return positions.double()[:, None] * frequencies


def rotated(x, positions, base: float = 10_000.0):
    """Return queries or keys rotated to their positions.

    Channel ``i`` is paired with ``i + d_head / 2``, as Llama's checkpoints are stored; the
    paper pairs neighbours, which is the same up to the order of channels.

    Parameters
    ----------
    x : tensor (..., tokens, d_head)
    positions : tensor (tokens,)

    Examples
    --------
    A quarter of a turn sends the first channel of a pair to the second:

    >>> rotated(torch.tensor([[1.0, 0.0]]), torch.tensor([torch.pi / 2])).round().tolist()
    [[-0.0, 1.0]]
    """
    turn = angles(positions, x.shape[-1], base)
    cos, sin = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
