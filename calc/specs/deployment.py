"""Deployment: engine, parallelism, number formats and memory share."""

from dataclasses import dataclass

import numpy as np

from calc.specs.errors import SpecError
from calc.specs.quantization import kv_bytes, weight_format
from calc.specs.speculation import Speculation
from calc.specs.workload import whole_number


@dataclass(frozen=True, eq=False)
class Deployment:
    """How a model is served; ``tp``, ``ep``, ``dp``, ``cp`` and shares may be arrays that broadcast.

    Attributes
    ----------
    engine, engine_version : str
        Serving engine, an id of ``calibrations/engines``, and its version (newest known).
    tp, pp, dp : int
        Tensor, pipeline and attention-data parallel ranks: ``tp * pp * dp`` devices.
    ep : int
        Ranks that share out experts, within the ``tp * dp`` devices of a stage.
    cp : int
        Decode context parallel ranks, within the tp ranks: each keeps 1/cp of the tokens.
    weight_dtype, kv_dtype : str, optional
        Weight and cache format; the checkpoint's own when not given.
    memory_utilization : float or array, optional
        The engine's own knob: share of device memory (vLLM, SGLang) or of what is left free
        (TensorRT-LLM); the engine's default when not given.
    max_sequences, max_batched_tokens : int, optional
        Scheduler limits; the engine's defaults when not given.
    max_context_tokens : int or array, optional
        Longest request the engine is started for; the workload's length when not given.
    lora_slots, lora_rank : int
        Adapters held at once and their rank (on all attention and feed-forward matrices).
    host_cache_bytes : float
        Host memory per device that the cache may be offloaded to. [byte]
    speculation : Speculation, optional
        Speculative decoding: what drafts is held in memory and timed in every decode step.
    hold_steps : float
        Decode steps that the scheduler's settings let a new request wait on average: half of
        SGLang's ``scheduler_recv_interval``, TensorRT-LLM's ``batch_wait_timeout_iters`` where
        few requests come meanwhile. Closed loops only.

    Examples
    --------
    >>> Deployment(tp=4, weight_dtype="fp8").n_devices
    4
    """

    engine: str = "vllm"
    tp: object = 1
    pp: object = 1
    ep: object = 1
    dp: object = 1
    weight_dtype: str | None = None
    kv_dtype: str | None = None
    memory_utilization: object = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    engine_version: str | None = None
    cp: object = 1
    max_context_tokens: object = None
    lora_slots: int = 0
    lora_rank: int = 16
    host_cache_bytes: float = 0.0
    speculation: Speculation | None = None
    hold_steps: float = 0.0

    def __post_init__(self):
        put = object.__setattr__
        for name in ("tp", "pp", "ep", "dp", "cp"):
            put(self, name, whole_number(name, getattr(self, name), 1, 4096))
        if np.ndim(self.pp):
            raise SpecError("pp: an array is not allowed; allowed is one whole number")
        self._check_divides("cp", self.cp, "tp", self.tp)
        self._check_divides("ep", self.ep, "tp * dp", self.tp * self.dp)
        for name, least in (("max_sequences", 1), ("max_batched_tokens", 1), ("max_context_tokens", 1)):
            if getattr(self, name) is not None:
                put(self, name, whole_number(name, getattr(self, name), least))
        put(self, "lora_slots", whole_number("lora_slots", self.lora_slots, 0, 10_000))
        put(self, "lora_rank", whole_number("lora_rank", self.lora_rank, 1, 4096))
        if self.weight_dtype is not None:
            put(self, "weight_dtype", weight_format(self.weight_dtype).name)
        if self.kv_dtype is not None:
            kv_bytes(self.kv_dtype)
        self._check_utilization()
        _finite("host_cache_bytes", self.host_cache_bytes, "bytes")
        _finite("hold_steps", self.hold_steps, "steps")
        if self.speculation is not None and not isinstance(self.speculation, Speculation):
            raise SpecError(f"speculation: {self.speculation!r} is not allowed; allowed is a Speculation")

    def _check_divides(self, name, value, of_name, of):
        if np.any(np.asarray(of) % np.asarray(value)):
            raise SpecError(f"{name}: {value} does not divide {of_name} ({of}); allowed are its divisors")

    def _check_utilization(self):
        if self.memory_utilization is None:
            return
        try:
            share = np.asarray(self.memory_utilization, dtype=float)
        except (TypeError, ValueError):
            share = np.asarray(np.nan)
        if not np.all((share > 0) & (share <= 1)):
            given = self.memory_utilization
            raise SpecError(f"memory_utilization: {given!r} is not allowed; allowed are 0 < share <= 1")

    @property
    def n_devices(self):
        """Devices of the whole deployment: tp * pp * dp."""
        return self.tp * self.pp * self.dp


def _finite(name: str, value, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise SpecError(f"{name}: {value!r} is not allowed; allowed are {what} from 0")
