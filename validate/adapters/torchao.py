"""Projections with quantised weights by torchao: 8 and 4 bits, weight only or dynamic fp8."""

from validate.adapters.needs import import_error, missing

TITLE = "projections with quantised weights of torchao"
#: format -> configuration class of torchao.quantization
CONFIGS = {
    "int8": "Int8WeightOnlyConfig",
    "int4": "Int4WeightOnlyConfig",
    "fp8": "Float8DynamicActivationFloat8WeightConfig",
}
#: the one that a run compares with products of bf16 weights
COMPARED = "int8"


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    return missing("torchao") or import_error("torchao.quantization", ["quantize_", *CONFIGS.values()])


def kernels() -> dict:
    """Return the kernels by the name of the one they replace; weights come from ``quantised``."""
    return {"linear": linear}


def prepared(kernel: str, args: tuple) -> tuple:
    """Return activations, and the weight in 8 bits: what its time is to be compared with is bf16."""
    x, weight = args
    return x, quantised(weight, COMPARED)


def plain(kernel: str, args: tuple) -> tuple:
    """Return activations, and the weight as its 8 bits say it: rounding it is no error of the kernel."""
    x, weight = args
    return x, weight.dequantize()


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
