"""Root-mean-square norm, alone and together with the residual sum."""


def rms_norm(x, weight, epsilon: float = 1e-6):
    r"""Return activations divided by their root mean square, times a weight per channel.

    .. math::  y = \frac{x}{\sqrt{\tfrac{1}{d} \sum_i x_i^2 + \epsilon}} \, w

    The mean of squares is taken in fp32, as models in 16 bits do.

    Parameters
    ----------
    x : tensor (..., d_model)
    weight : tensor (d_model,)

    References
    ----------
    .. [1] B. Zhang, R. Sennrich, "Root Mean Square Layer Normalization", arXiv:1910.07467.

    Examples
    --------
    >>> import torch
    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2)).square().mean().item()
    1.0000
    """
    wide = x.float() if x.element_size() < 4 else x
    scale = (wide.square().mean(dim=-1, keepdim=True) + epsilon).rsqrt()
    return (wide * scale).to(x.dtype) * weight


def add_rms_norm(x, residual, weight, epsilon: float = 1e-6):
    """Return the norm of ``x + residual``, and that sum: what engines run as one kernel.

    Two tensors are read and two written, which is ``norm_and_residual`` of ``calc.work.step``.

    Parameters
    ----------
    x, residual : tensor (..., d_model)
    weight : tensor (d_model,)
    """
    total = x + residual
    return rms_norm(total, weight, epsilon), total
