"""One engine start: what was asked for, what it logged, and what the calculator says to both."""

from dataclasses import dataclass, replace

import calc
from calc.specs.device import Device
from calc.specs.engine import Engine, covers
from calc.specs.model import Model
from calc.work.budget import Memory, memory_of
from calc.work.sharding import check_tp
from validate.names import cache_format_of, device_named, model_named, weight_format_of, with_memory

METRICS = (
    "weights_bytes",
    "cache_pool_bytes",
    "cache_tokens",
    "max_concurrency",
    "max_concurrency_given_pool",
)

#: from this version vLLM prints max_concurrency x max_model_len as "GPU KV cache size"
_TOKENS_FROM_CONCURRENCY = ">=0.21"


@dataclass(frozen=True)
class Logged:
    """What an engine logged, per device; None where it did not say. [byte], [tokens]"""

    weights_bytes: float | None = None
    cache_pool_bytes: float | None = None
    cache_tokens: float | None = None
    max_concurrency: float | None = None
    activation_bytes: float | None = None
    other_bytes: float | None = None
    graph_bytes: float | None = None
    block_count: float | None = None

    def measured(self, metric: str) -> float | None:
        """Return the logged figure that a metric of ``METRICS`` is held against."""
        if metric == "max_concurrency_given_pool":
            return self.max_concurrency if self.cache_pool_bytes else None
        return getattr(self, metric)


@dataclass(frozen=True)
class Setup:
    """How an engine was started, in the words of its log; blank or None is not said."""

    engine: str = "vllm"
    version: str | None = None
    model: str = ""
    device: str = ""
    device_bytes: float | None = None
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    dtype: str = ""
    quantization: str = ""
    weights: str | None = None
    kv_cache_dtype: str = ""
    request_tokens: int | None = None
    memory_utilization: float | None = None
    block_tokens: int | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None


@dataclass(frozen=True, eq=False)
class Scenario:
    """A setup in the calculator's terms."""

    setup: Setup
    model: Model
    device: Device
    deployment: calc.Deployment
    workload: calc.Workload

    def memory(self, device: Device | None = None) -> Memory:
        """Return the memory of the scenario, on another device if one is given."""
        device, d = device or self.device, self.deployment
        engine = calc.engine_of(d, self.device)  # limits of the real device, whatever its memory is set to
        check_tp(self.model, d.tp)
        if self.setup.block_tokens not in (None, engine.block_tokens):
            engine = _with_block(engine, self.setup.block_tokens)
        return memory_of(self.model, device, d, self.workload, engine)

    def memory_given_pool(self, pool_bytes: float) -> Memory:
        """Return the memory on a device of just the size that leaves this pool to the cache.

        The pool grows in proportion to the device's memory, so two sizes give the line.
        """
        sizes = [factor * 2**44 for factor in (1, 2)]
        pools = [self._pool(size) for size in sizes]
        slope = (pools[1] - pools[0]) / (sizes[1] - sizes[0])
        size = sizes[0] + (pool_bytes - pools[0]) / slope
        return self.memory(with_memory(self.device, size, "as the logged pool needs"))

    def _pool(self, device_bytes: float) -> float:
        device = with_memory(self.device, device_bytes, "a size to draw a line through")
        return self.memory(device).cache_pool_bytes_per_device


def scenario_of(setup: Setup) -> Scenario:
    """Return a setup in the calculator's terms.

    Raises
    ------
    SpecError
        If a name is not known or a value not allowed.
    """
    if not setup.model:
        raise calc.SpecError("model: not said; say which with --model")
    if not (setup.device or setup.device_bytes):
        raise calc.SpecError("device: not said; say which with --device")
    model, named = model_named(setup.model)
    deployment = calc.Deployment(
        engine=setup.engine,
        engine_version=setup.version,
        tp=setup.tp,
        pp=setup.pp,
        dp=setup.dp,
        ep=setup.ep,
        weight_dtype=setup.weights or weight_format_of(model, named, setup.dtype, setup.quantization),
        kv_dtype=cache_format_of(setup.dtype, setup.kv_cache_dtype),
        memory_utilization=setup.memory_utilization,
        max_sequences=setup.max_sequences,
        max_batched_tokens=setup.max_batched_tokens,
    )
    length = setup.request_tokens or model.max_context_tokens
    workload = calc.Workload(prompt_tokens=max(1, length - 1), output_tokens=1)
    device = device_named(setup.device or "device", setup.device_bytes)
    return Scenario(setup, model, device, deployment, workload)


def _with_block(engine: Engine, block_tokens: int) -> Engine:
    fact = replace(engine.facts["block_tokens"], value=block_tokens, kind="measured", note="as logged")
    return replace(engine, facts={**engine.facts, "block_tokens": fact})


def predicted(scenario: Scenario, logged: Logged) -> dict[str, float]:
    """Return the prediction for each metric of ``METRICS`` that was logged, per device and rank."""
    wanted = [metric for metric in METRICS if logged.measured(metric) is not None]
    free = scenario.memory()
    values = {
        "weights_bytes": free.weights_bytes_per_device + free.buffer_bytes_per_device,
        "cache_pool_bytes": free.cache_pool_bytes_per_device,
        "cache_tokens": _tokens(scenario, free),
        "max_concurrency": free.max_concurrency / free.dp,
    }
    if "max_concurrency_given_pool" in wanted:
        given = scenario.memory_given_pool(logged.cache_pool_bytes)
        values["max_concurrency_given_pool"] = given.max_concurrency / given.dp
    return {metric: float(values[metric]) for metric in wanted}


def _tokens(scenario: Scenario, memory: Memory):
    """Tokens as the engine's line "GPU KV cache size" counts them in its version."""
    setup, load = scenario.setup, scenario.workload
    if setup.engine == "vllm" and setup.version and covers(_TOKENS_FROM_CONCURRENCY, setup.version):
        return memory.max_concurrency / memory.dp * (load.prompt_tokens + load.output_tokens)
    return memory.cache_tokens / memory.dp
