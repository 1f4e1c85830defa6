"""Bytes of weights and of cache, on one device or all."""

from calc.specs.deployment import Deployment
from calc.specs.model import Model
from calc.specs.numeric import ceil
from calc.specs.quantization import kv_bytes, weight_format
from calc.work.attention import attention
from calc.work.op import Precision
from calc.work.parameters import weights
from calc.work.sharding import parameters_per_device
from calc.work.weight_bytes import bits_by_role, formats_by_role, math_by_role


def kv_cache_bytes(n_layers, n_kv_heads, d_head, seq_len, batch, dtype_bytes):
    r"""Bytes of key and value cache of plain multi-head or grouped-query attention.

    .. math::  2 \, L \, n_{kv} \, d_{head} \, S \, B \, b

    Parameters
    ----------
    n_layers, n_kv_heads, d_head : int or array
        Layers, KV heads per layer and width of one head.
    seq_len : int or array
        Tokens per sequence. [tokens]
    batch : int or array
        Sequences.
    dtype_bytes : float or array
        Bytes per element. [byte]

    Returns
    -------
    number or array
        Cache size. [byte]

    Notes
    -----
    The textbook formula: no windows, no latent attention, no block rounding.

    Examples
    --------
    Llama-3.1-8B at 8k tokens, 16 users, 16 bits:

    >>> print(f"{kv_cache_bytes(32, 8, 128, 8192, 16, 2):,} bytes")
    17,179,869,184 bytes
    """
    return 2 * n_layers * n_kv_heads * d_head * seq_len * batch * dtype_bytes


def stored_bytes(parameters, bits):
    """Bytes of weights: parameters times bits over eight. [byte]

    Examples
    --------
    >>> stored_bytes(70_553_706_496, 16)
    141107412992.0
    """
    return parameters * bits / 8


def request_tokens(prompt_tokens, output_tokens, block_tokens):
    """Tokens a request is charged for: prompt and output in whole cache blocks. [tokens]

    Examples
    --------
    >>> request_tokens(1000, 250, 16)
    1264
    """
    return ceil((prompt_tokens + output_tokens) / block_tokens) * block_tokens


#: cache formats as calibrations name them: other 16-bit formats read alike
_KV_FORMATS = {"bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "int8": "fp8"}


def precision_of(model: Model, deployment: Deployment) -> Precision:
    """Return the formats a deployment runs in: bits per module class, cache, math."""
    fmt = weight_format(deployment.weight_dtype or model.checkpoint.weight_dtype)
    activation = fmt.math if fmt.math in ("fp16", "fp32") else "bf16"
    return Precision(
        bits=bits_by_role(model, fmt.name),
        kv_bytes=kv_bytes(deployment.kv_dtype or model.checkpoint.kv_dtype or "bf16"),
        math=fmt.math,
        math_by_role=math_by_role(model, fmt.name),
        formats=formats_by_role(model, fmt.name),
        kv_format=_KV_FORMATS.get(deployment.kv_dtype or model.checkpoint.kv_dtype or "bf16", "bf16"),
        activation=activation,
        activation_bytes=4.0 if activation == "fp32" else 2.0,
    )


def weights_bytes_by_role(model: Model, precision: Precision, tp=1, dp=1, ep=1) -> dict[str, object]:
    """Return bytes of weights on one device of a stage by module class. [byte]"""
    totals: dict[str, object] = {}
    for weight, count in weights(model):
        held = count * parameters_per_device(weight, tp, dp, ep)
        totals[weight.role] = totals.get(weight.role, 0.0) + stored_bytes(held, precision.bits[weight.role])
    return totals


def cache_bytes_per_sequence(model: Model, tokens, dtype_bytes, tp=1):
    """Return bytes of cache that one sequence of so many tokens keeps on one device. [byte]"""
    return sum(
        count * attention(layer.attention).cache_bytes(tokens, dtype_bytes, tp)
        for layer, count in model.distinct_layers
        if layer.attention
    )


def cache_bytes_per_token(model: Model, dtype_bytes=2, tp=1):
    """Return bytes of cache one more token of a short sequence takes on one device. [byte]

    All layers counted, those with a window too (below it); states that do not grow are not.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> cache_bytes_per_token(load_model("llama-3.1-8b"))
    131072.0
    """
    two = cache_bytes_per_sequence(model, 2, dtype_bytes, tp)
    return two - cache_bytes_per_sequence(model, 1, dtype_bytes, tp)
