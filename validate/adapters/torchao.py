"""Projections with quantised weights by torchao: 8 and 4 bits, weight only or dynamic fp8."""

from validate.adapters.needs import import_error, missing

TITLE = "projections with quantised weights of torchao"
#: format -> configuration class of torchao.quantization
CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int4": "Int4WeightOnlyConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    return missing("torchao") or import_error("torchao.quantization", ["quantize_", *CONFIGS.values()])


def kernels() -> dict:
    """Return the kernels by the name of the one they replace; weights come from ``quantised``."""
    return {"linear": linear}


def quantised(weight, fmt: str):
    """Return an ``n x k`` weight in a format of ``CONFIGS``, as ``linear`` takes it."""
    import torch
    from torchao import quantization

    config = getattr(quantization, CONFIGS[fmt])()
    n, k = weight.shape
    layer = torch.nn.Linear(k, n, bias=False, device=weight.device, dtype=weight.dtype)
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    quantization.quantize_(layer, config)
    return layer.weight


def linear(x, weight):
    """Return ``x weight^T``; a plain weight is taken as it is."""
    import torch.nn.functional as F  # noqa: N812

    return F.linear(x, weight)
