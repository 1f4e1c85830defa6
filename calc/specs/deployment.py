"""Deployment: engine, parallelism, number formats and memory share."""

from dataclasses import dataclass

import numpy as np

from calc.specs.errors import SpecError
from calc.specs.quantization import kv_bytes, weight_format
from calc.specs.workload import whole_number


@dataclass(frozen=True, eq=False)
class Deployment:
    """How a model is served; ``tp`` and ``memory_utilization`` may be arrays that broadcast.

    Attributes
    ----------
    engine : str
        Serving engine, an id of ``calibrations/engines``.
    tp, pp, ep, dp : int
        Tensor, pipeline, expert and data parallel ranks; this release answers ``tp`` only.
    weight_dtype : str, optional
        Weight format; the checkpoint's own when not given.
    kv_dtype : str, optional
        Cache format; 16 bits when not given.
    memory_utilization : float or array, optional
        Share of device memory the engine may use; the engine's default when not given.
    max_sequences, max_batched_tokens : int, optional
        Scheduler limits; the engine's defaults when not given.

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

    def __post_init__(self):
        put = object.__setattr__
        put(self, "tp", whole_number("tp", self.tp, 1, 1024))
        for name in ("pp", "ep", "dp"):
            if np.any(whole_number(name, getattr(self, name), 1, 4096) != 1):
                raise SpecError(f"{name}: {getattr(self, name)} is not answered yet; allowed is 1 (use tp)")
        for name, least in (("max_sequences", 1), ("max_batched_tokens", 1)):
            if getattr(self, name) is not None:
                put(self, name, whole_number(name, getattr(self, name), least))
        if self.weight_dtype is not None:
            put(self, "weight_dtype", weight_format(self.weight_dtype).name)
        if self.kv_dtype is not None:
            kv_bytes(self.kv_dtype)
        self._check_utilization()

    def _check_utilization(self):
        if self.memory_utilization is None:
            return
        try:
            share = np.asarray(self.memory_utilization, dtype=float)
        except (TypeError, ValueError):
            share = np.asarray(np.nan)
        if not np.all((share > 0) & (share <= 1)):
            raise SpecError(
                f"memory_utilization: {self.memory_utilization!r} is not allowed; allowed are 0 < share <= 1"
            )

    @property
    def n_devices(self):
        """Devices of the whole deployment: tp * pp * dp."""
        return self.tp * self.pp * self.dp
