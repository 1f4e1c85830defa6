"""Feed-forward layers: with a gate (SwiGLU), and the plain one of the same size."""

from torch.nn.functional import gelu, silu


def gated_width(d_model: int) -> float:
    """Return the inner width at which a gated layer is as large as a plain one of ``4 d_model``.

    Three matrices of ``8/3 d`` are as many parameters and flops as two of ``4 d``; models round it.

    Examples
    --------
    >>> gated_width(3072)
    8192.0
    """
    return 8 * d_model / 3


def swiglu(x, gate, up, down):
    r"""Return the output of a gated feed-forward.

    .. math::  W_{down} \left( \operatorname{silu}(W_{gate} x) \odot W_{up} x \right)

    Parameters
    ----------
    x : tensor (..., d_model)
    gate, up : tensor (d_ff, d_model)
    down : tensor (d_model, d_ff)

    References
    ----------
    .. [1] N. Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202, equation 6.
    """
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def gelu_mlp(x, up, down):
    """Return the output of a plain feed-forward with GELU, as in GPT-2.

    Parameters
    ----------
    x : tensor (..., d_model)
    up : tensor (d_ff, d_model)
    down : tensor (d_model, d_ff)
    """
    return gelu(x @ up.T) @ down.T
