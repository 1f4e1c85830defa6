"""RMS norm and the residual sum before it as one Triton kernel: one pass over the activations."""

from validate.adapters.needs import interprets_triton, missing

TITLE = "RMS norm with the residual sum, one Triton kernel"
EPS = 1e-5


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    reason = missing("triton")
    return None if reason == "no CUDA or ROCm device" and interprets_triton() else reason


def kernels() -> dict:
    """Return the kernels by the name of the one they replace."""
    return {"norm_and_residual": norm_and_residual, "rms_norm": rms_norm}


def norm_and_residual(x, delta, weight):
    """Return the sum of a residual stream and an update, and its RMS norm.

    Parameters
    ----------
    x, delta : tensor (rows, d_model)
        Contiguous.
    weight : tensor (d_model,)
    """
    import torch

    total, out = torch.empty_like(x), torch.empty_like(x)
    _launch(x, delta, weight, total, out)
    return total, out


def rms_norm(x, weight):
    """Return the RMS norm alone."""
    import torch

    out = torch.empty_like(x)
    _launch(x, None, weight, None, out)
    return out


def _launch(x, delta, weight, total, out) -> None:
    import triton

    from validate.adapters.triton_kernels import rms_norm_rows

    rows, width = x.view(-1, x.shape[-1]).shape
    block = triton.next_power_of_2(width)
    alone = delta is None
    rms_norm_rows[(rows,)](
        x, x if alone else delta, weight, out if alone else total, out, width, EPS, alone, block,
        num_warps=max(1, min(16, block // 256)),
    )  # fmt: skip
