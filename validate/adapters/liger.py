"""Fused norm, rope and gated activation of liger-kernel (Triton)."""

from validate.adapters.needs import import_error, missing

TITLE = "fused norm, rope and SwiGLU of liger-kernel"
EPS = 1e-5


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    reason = missing("liger_kernel", "liger-kernel")
    return reason or import_error("liger_kernel.ops.rms_norm", ["LigerRMSNormFunction"])


def kernels() -> dict:
    """Return the kernels by the name of the one they replace."""
    return {"rms_norm": rms_norm, "swiglu": swiglu, "rope": rope}


def rms_norm(x, weight):
    """Return the RMS norm of ``(rows, d_model)``; the offset of the weight is 0 as in Llama."""
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction

    return LigerRMSNormFunction.apply(x, weight, EPS, 0.0, "llama", False)


def swiglu(gate_up):
    """Return the gated activation of a projection that holds gate and values side by side."""
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    gate, value = gate_up.chunk(2, -1)
    return LigerSiLUMulFunction.apply(gate.contiguous(), value.contiguous())


def rope(query, key, cos, sin):
    """Return ``[batch, heads, tokens, width]`` rotated by position; angles of half a head.

    liger-kernel rotates in place and reads angles of a whole head, both halves alike.
    """
    import torch
    from liger_kernel.ops.rope import LigerRopeFunction

    whole = [torch.cat((part, part), -1).view(1, -1, query.shape[-1]) for part in (cos, sin)]
    return LigerRopeFunction.apply(query.clone(), key.clone(), *whole)
