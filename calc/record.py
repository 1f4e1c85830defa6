"""An Estimate as plain data: the JSON of the CLI and of ``Estimate.to_dict``."""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from calc.estimate import Estimate
    from calc.serving.open_loop.answer import OpenLoop
    from calc.timing.overheads import Overheads
    from calc.work.budget import Memory

_MEMORY = (
    "n_devices", "weights_bytes", "draft_bytes", "adapter_bytes", "cache_bytes", "draft_cache_bytes",
    "cache_used_bytes", "activation_bytes", "other_bytes", "cache_pool_bytes", "shortfall_bytes",
    "weights_bytes_per_device", "draft_bytes_per_device", "adapter_bytes_per_device",
    "cache_bytes_per_device", "draft_cache_bytes_per_device",
    "activation_bytes_per_device", "other_bytes_per_device", "graph_bytes_per_device",
    "cache_pool_bytes_per_device", "required_bytes_per_device", "usable_bytes_per_device",
    "device_bytes_per_device", "shortfall_bytes_per_device",
    "cache_tokens", "max_concurrency", "host_cache_tokens",
)  # fmt: skip
_TIMES = ("ttft_s", "tpot_s", "e2e_latency_s", "output_tokens_per_s", "requests_per_s")
_COST = ("usd_per_device_hour", "usd_per_hour", "usd_per_mtok_output", "usd_per_mtok_input", "usd_per_mtok")


def plain(value):
    """Return a value as what JSON knows: numbers, lists, text; NumPy types turned into those.

    Examples
    --------
    >>> plain(np.float64(1.5)), plain(np.array([1, 2]))
    (1.5, [1, 2])
    """
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON knows no infinity
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def estimate_record(e: "Estimate") -> dict:
    """Return an Estimate as nested plain data with ``schema_version``."""
    record = {
        "schema_version": e.schema_version,
        "scenario": _scenario(e),
        "fits": e.fits,
        "fit": e.fit_sentence() if np.ndim(e.fits) == 0 else None,
        "memory": memory_record(e.memory),
        **{name: getattr(e, name) for name in _TIMES},
        "concurrency": e.service.concurrency,
        "queued": e.service.queued,
        "open_loop": [open_loop_record(each) for each in e.service.open_loop] or None,
        "bound": e.bound,
        "range": {name: list(e.range(name)) for name in _TIMES},
        "trust": {name: e.trust(name) for name in _TIMES},
        "cost": _cost(e),
        "breakdown": {
            name: [{"op": op, "seconds": seconds, "bound": bound} for op, seconds, bound in e.breakdown(name)]
            for name in ("ttft_s", "tpot_s")
        },
    }
    return plain(record)


def open_loop_record(found: "OpenLoop") -> dict:
    """Return what requests see at one arrival rate, times with mean and percentiles. [s]"""
    names = ("requests_per_s", "max_requests_per_s", "steady", "bottleneck", "cap", "mean_in_flight")
    spreads = {f"{name}_s": asdict(getattr(found, name)) for name in ("ttft", "tpot", "queue")}
    figures = {name: getattr(found, name) for name in (*names, "queue_probability")}
    return {**figures, "statement": found.statement(), **spreads}


def memory_record(memory: "Memory") -> dict:
    """Return the figures of a Memory by name. [byte]"""
    return {name: getattr(memory, name) for name in _MEMORY}


def _scenario(e: "Estimate") -> dict:
    deployment, load = e.deployment, e.workload
    return {
        "model": e.model.id,
        "device": e.device.id,
        "n_devices": e.n_devices,
        "engine": e.engine.id,
        "tp": deployment.tp,
        "pp": deployment.pp,
        "ep": deployment.ep,
        "dp": deployment.dp,
        "cp": deployment.cp,
        "weight_dtype": e.weight_dtype,
        "kv_dtype": deployment.kv_dtype or e.model.checkpoint.kv_dtype or "bf16",
        "mode": load.mode,
        "concurrency": load.concurrency,
        "requests_per_s": load.requests_per_s,
        "prompt_tokens": load.prompt_tokens,
        "output_tokens": load.output_tokens,
        "expert_skew": load.expert_skew,
        "equal_lengths": load.equal_lengths,
        "shared_prefix_tokens": load.shared_prefix_tokens,
        "sequences_per_request": load.sequences_per_request,
        "speculation": asdict(deployment.speculation) if deployment.speculation else None,
        "calibration": e.calibration.id,
        "overheads": overheads_record(e.overheads),
    }


def overheads_record(overheads: "Overheads") -> dict:
    """Return what an engine adds to its kernels, and how far measured runs were off."""
    return {
        "engine": overheads.engine,
        "versions": overheads.versions,
        "kind": overheads.kind,
        "host": {name: fact.value for name, fact in overheads.host.items()},
        "kernels": dict(overheads.kernels),
        "reach": dict(overheads.reach),
        "errors": {metric: asdict(error) for metric, error in overheads.errors.items()},
    }


def overheads_line(overheads: "Overheads", metric: str = "tpot_s") -> str:
    """Return one line on where an engine's overheads come from.

    Examples
    --------
    >>> from calc.timing.overheads import load_overheads
    >>> overheads_line(load_overheads("transformers"))
    'transformers any (assumed)'
    """
    name, error = f"{overheads.engine} {overheads.versions}", overheads.errors.get(metric)
    if error is None:
        return f"{name} ({overheads.kind})"
    runs = f"measured on {error.n:,} figures of runs, median error {error.median_pct:.1f} %"
    return f"{name} ({runs} where left out of the fit)"


def _cost(e: "Estimate") -> dict | None:
    if e.cost is None:
        return None
    record = {name: getattr(e.cost, name) for name in _COST}
    price = e.cost.price
    record["price"] = None if price is None else {
        "provider": price.provider,
        "term": price.term,
        "region": price.region,
        "date": price.fact.date,
        "kind": price.fact.kind,
        "stale": price.is_stale(),
        "sources": [source.url or source.title for source in price.fact.sources],
    }  # fmt: skip
    return record
