"""Memory of a deployment, per device and in total: weights, cache, the engine's share."""

from dataclasses import dataclass

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.engine import Engine
from calc.specs.model import ROLES, Model
from calc.specs.numeric import ceil, floor, maximum, where
from calc.specs.quantization import kv_bytes, stored_bits, weight_format
from calc.specs.workload import Workload
from calc.work.attention import attention
from calc.work.op import Precision
from calc.work.parameters import weights
from calc.work.sharding import parameters_per_device


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


def usable_bytes(device_bytes, utilization):
    """Bytes of a device's memory that the engine plans with. [byte]

    Examples
    --------
    >>> usable_bytes(80e9, 0.9)
    72000000000.0
    """
    return device_bytes * utilization


def activation_peak_bytes(fixed_bytes, bytes_per_logit, sequences, vocab_size):
    """Activation peak that an engine sets aside: the sampler's logits on top of a fixed part. [byte]

    Examples
    --------
    >>> activation_peak_bytes(2**28, 14, 1024, 128256)
    2107113472
    """
    return fixed_bytes + bytes_per_logit * sequences * vocab_size


def request_tokens(prompt_tokens, output_tokens, block_tokens):
    """Tokens a request is charged for: prompt and output in whole cache blocks. [tokens]

    Examples
    --------
    >>> request_tokens(1000, 250, 16)
    1264
    """
    return ceil((prompt_tokens + output_tokens) / block_tokens) * block_tokens


def precision_of(model: Model, deployment: Deployment) -> Precision:
    """Return the formats a deployment runs in: bits per module class, cache, math."""
    name = deployment.weight_dtype or model.checkpoint.weight_dtype
    fmt = weight_format(name)
    kept = model.checkpoint.kept if fmt.name == weight_format(model.checkpoint.weight_dtype).name else None
    activation = fmt.math if fmt.math in ("fp16", "fp32") else "bf16"
    return Precision(
        bits={role: stored_bits(role, fmt, kept) for role in ROLES},
        kv_bytes=kv_bytes(deployment.kv_dtype or "bf16"),
        math=fmt.math,
        activation=activation,
        activation_bytes=4.0 if activation == "fp32" else 2.0,
    )


def weights_bytes_by_role(model: Model, precision: Precision, tp=1) -> dict[str, object]:
    """Return bytes of weights on one device by module class. [byte]"""
    totals: dict[str, object] = {}
    for weight, count in weights(model):
        held = count * parameters_per_device(weight, tp)
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


@dataclass(frozen=True, eq=False)
class Memory:
    """Where the memory goes; plain names are the whole deployment, ``_per_device`` one device.

    ``cache_bytes`` is what the scenario's requests occupy, ``cache_pool_bytes`` what the
    engine can give them, ``cache_tokens`` and ``max_concurrency`` that pool in tokens and
    in requests of this length (the two lines vLLM prints at start). ``shortfall_bytes`` is
    what is missing when it does not fit. All in bytes.
    """

    n_devices: object
    device_bytes_per_device: object
    usable_bytes_per_device: object
    weights_bytes_per_device: object
    activation_bytes_per_device: object
    other_bytes_per_device: object
    request_cache_bytes_per_device: object
    held_concurrency: object
    max_concurrency: object
    cache_tokens: object
    weights_bytes_by_role: dict
    needed_requests: object

    @property
    def cache_pool_bytes_per_device(self):
        """What weights, activations and the rest leave to the cache. [byte]"""
        fixed = self.weights_bytes_per_device + self.activation_bytes_per_device + self.other_bytes_per_device
        return maximum(0.0, self.usable_bytes_per_device - fixed)

    @property
    def required_bytes_per_device(self):
        """Least memory with which the engine starts and serves. [byte]"""
        fixed = self.weights_bytes_per_device + self.activation_bytes_per_device + self.other_bytes_per_device
        return fixed + self.needed_requests * self.request_cache_bytes_per_device

    @property
    def shortfall_bytes_per_device(self):
        """Bytes missing on each device; 0 when it fits. [byte]"""
        return maximum(0.0, self.required_bytes_per_device - self.usable_bytes_per_device)

    @property
    def fits(self):
        """Whether the engine starts and can hold what the mode needs at once."""
        return self.shortfall_bytes_per_device <= 0

    @property
    def cache_bytes_per_device(self):
        """Cache that the requests in flight occupy. [byte]"""
        return self.held_concurrency * self.request_cache_bytes_per_device

    @property
    def unused_bytes_per_device(self):
        """Pool that the requests in flight leave empty. [byte]"""
        return maximum(0.0, self.cache_pool_bytes_per_device - self.cache_bytes_per_device)

    @property
    def weights_bytes(self):
        """Weights on all devices together. [byte]"""
        return self.n_devices * self.weights_bytes_per_device

    @property
    def cache_bytes(self):
        """Cache that the requests in flight occupy on all devices. [byte]"""
        return self.n_devices * self.cache_bytes_per_device

    @property
    def cache_pool_bytes(self):
        """The engine's cache pool on all devices. [byte]"""
        return self.n_devices * self.cache_pool_bytes_per_device

    @property
    def activation_bytes(self):
        """Activation peak on all devices. [byte]"""
        return self.n_devices * self.activation_bytes_per_device

    @property
    def other_bytes(self):
        """Driver, communication buffers and the like on all devices. [byte]"""
        return self.n_devices * self.other_bytes_per_device

    @property
    def shortfall_bytes(self):
        """Bytes missing on all devices together; 0 when it fits. [byte]"""
        return self.n_devices * self.shortfall_bytes_per_device

    def breakdown(self) -> list[tuple[str, object]]:
        """Rows (name, bytes per device) that sum to the memory the device reports.

        When it does not fit the last rows are 0 and the sum is what would be needed.
        """
        reserve = self.device_bytes_per_device - self.usable_bytes_per_device
        return [
            ("weights", self.weights_bytes_per_device),
            ("cache", self.cache_bytes_per_device),
            ("activations", self.activation_bytes_per_device),
            ("other", self.other_bytes_per_device),
            ("unused cache pool", self.unused_bytes_per_device),
            ("outside the engine's share", reserve),
        ]


def memory_of(model: Model, device: Device, deployment: Deployment, load: Workload, engine: Engine) -> Memory:
    """Return the memory of one scenario.

    The budget is vLLM's: pool = reported memory * utilisation - weights - activation peak
    - non-torch. A request is charged for prompt and output tokens in whole blocks.
    """
    tp, precision = deployment.tp, precision_of(model, deployment)
    by_role = weights_bytes_by_role(model, precision, tp)
    stored = sum(by_role.values())
    share = deployment.memory_utilization
    usable = usable_bytes(device.memory_bytes, engine.memory_utilization if share is None else share)
    sequences = deployment.max_sequences or engine.max_sequences
    activation = activation_peak_bytes(
        engine.activation_fixed, engine.activation_per_logit, sequences, model.vocab_size
    )
    other = where(tp > 1, engine.non_torch_parallel, engine.non_torch_single)
    pool = maximum(0.0, usable - stored - activation - other)

    tokens = request_tokens(load.prompt_tokens, load.output_tokens, engine.block_tokens)
    request = cache_bytes_per_sequence(model, tokens, precision.kv_bytes, tp)
    most = pool / maximum(request, 1.0)
    limit = floor(maximum(0, most))
    limit = where(limit > sequences, sequences, limit)
    if load.mode == "max_load":
        wanted, held = 1, maximum(1, limit)
    elif load.mode == "static":
        wanted = held = load.concurrency
    else:
        wanted, held = 1, where(load.concurrency > maximum(1, limit), maximum(1, limit), load.concurrency)
    return Memory(
        n_devices=deployment.n_devices,
        device_bytes_per_device=device.memory_bytes,
        usable_bytes_per_device=usable,
        weights_bytes_per_device=stored,
        activation_bytes_per_device=activation,
        other_bytes_per_device=other,
        request_cache_bytes_per_device=request,
        held_concurrency=held,
        max_concurrency=most,
        cache_tokens=floor(most * tokens),
        weights_bytes_by_role=by_role,
        needed_requests=wanted,
    )
