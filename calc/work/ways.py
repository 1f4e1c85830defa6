"""Ways to fit: single changes that make a scenario fit, each with its new numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from calc.specs.deployment import Deployment
from calc.specs.device import Device, device_ids, load_device
from calc.specs.engine import engine_of
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.specs.quantization import kv_bytes, weight_format
from calc.specs.units import format_bytes
from calc.specs.workload import Workload
from calc.work.budget import Memory, memory_of
from calc.work.drafts import tp_choices_with_drafts
from calc.work.memory import precision_of

#: narrower weight formats that are offered, widest first
_NARROWER = ("bf16", "fp8", "nvfp4", "int4")
_UTILIZATION = 0.95


@dataclass(frozen=True, eq=False)
class Way:
    """One change that makes a scenario fit.

    ``kind`` is what it changes: ``"setting"``, ``"weights"``, ``"parallelism"``,
    ``"device"`` or ``"workload"``; ``label`` names it briefly, ``sentence`` with its numbers.
    """

    kind: str
    label: str
    device: Device
    deployment: Deployment
    workload: Workload
    memory: Memory

    @property
    def sentence(self) -> str:
        """The change with what it then needs and leaves."""
        needed = format_bytes(self.memory.required_bytes_per_device)
        usable = format_bytes(self.memory.usable_bytes_per_device)
        most = self.memory.max_concurrency
        return f"{self.label}: needs {needed} of {usable} per device, room for {most:,.1f} requests at once"


def single_changes(model: Model, device: Device, deployment: Deployment, load: Workload) -> list[Way]:
    """Return the single changes that make a scenario fit, least intrusive first.

    Settings come first (cache format, share of memory), then weight formats from wide to
    narrow, more devices, another device, and last a smaller workload. A scenario that fits
    already has no ways.

    Parameters
    ----------
    model, device, deployment, load
        One scenario; no arrays.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> h100 = load_device("h100-sxm")
    >>> llama = load_model("llama-3.1-70b")
    >>> ways = single_changes(llama, h100, Deployment(), Workload())
    >>> [way.label for way in ways][:3]
    ['weights nvfp4', 'weights int4', 'tp=2']
    """
    if np.ndim(memory_of(model, device, deployment, load, engine_of(deployment, device)).fits):
        raise SpecError("ways to fit are for one scenario, not arrays")
    if memory_of(model, device, deployment, load, engine_of(deployment, device)).fits:
        return []
    ways = []
    for kind, label, other, changed, smaller in _changes(model, device, deployment, load):
        try:
            memory = memory_of(model, other, changed, smaller, engine_of(changed, other))
        except SpecError:
            continue
        if memory.fits:
            ways.append(Way(kind, label, other, changed, smaller, memory))
    return ways


def _changes(model: Model, device: Device, d: Deployment, load: Workload) -> Iterator[tuple]:
    precision = precision_of(model, d)
    if precision.kv_bytes > kv_bytes("fp8"):
        yield "setting", "cache fp8", device, replace(d, kv_dtype="fp8"), load
    if d.memory_utilization is None or d.memory_utilization < _UTILIZATION:
        label = f"memory utilization {_UTILIZATION}"
        yield "setting", label, device, replace(d, memory_utilization=_UTILIZATION), load
    if d.speculation is not None and d.speculation.kind != "ngram":
        yield "setting", "no drafts", device, replace(d, speculation=None), load
    bits = weight_format(d.weight_dtype or model.checkpoint.weight_dtype).bits
    for name in _NARROWER:
        if weight_format(name).bits < bits:
            yield "weights", f"weights {name}", device, replace(d, weight_dtype=name), load
    yield from _more_devices(model, device, d, load)
    yield from _other_devices(device, d, load)
    yield from _smaller_loads(device, d, load)


def _more_devices(model: Model, device: Device, d: Deployment, load: Workload) -> Iterator[tuple]:
    for tp in tp_choices_with_drafts(model, d, (2, 4, 8, 16)):
        if tp > d.tp and tp <= device.link.domain:
            yield "parallelism", f"tp={tp}", device, replace(d, tp=tp), load
    for pp in (2, 4, 8):
        if pp > d.pp and pp <= model.n_layers:
            yield "parallelism", f"pp={pp}", device, replace(d, pp=pp), load


def _other_devices(device: Device, d: Deployment, load: Workload) -> Iterator[tuple]:
    """Devices with more memory, of the same vendor first, the smallest first."""
    others = [load_device(name) for name in device_ids()]
    bigger = [o for o in others if o.memory_bytes > device.memory_bytes and o.status == "available"]
    for other in sorted(bigger, key=lambda o: (o.vendor != device.vendor, o.memory_bytes, o.id)):
        yield "device", other.id, other, d, load


def _smaller_loads(device: Device, d: Deployment, load: Workload) -> Iterator[tuple]:
    if load.mode == "static":
        users = load.concurrency
        while users > 1:
            users //= 2
            yield "workload", f"{users} users", device, d, replace(load, concurrency=users)
    prompt = load.prompt_tokens
    while prompt > 256:
        prompt //= 2
        shared = min(load.shared_prefix_tokens, prompt)
        smaller = replace(load, prompt_tokens=prompt, shared_prefix_tokens=shared)
        yield "workload", f"{prompt} prompt tokens", device, d, smaller


def fit_sentence(memory: Memory, device: Device, ways: list[Way]) -> str:
    """Return in words whether a scenario fits, what is needed, what is there, and what would fit."""
    if memory.fits:
        return (
            f"fits: {format_bytes(memory.weights_bytes_per_device)} of weights per device, "
            f"room for {int(memory.max_concurrency):,} requests of this length at once"
        )
    needed, usable = memory.required_bytes_per_device, memory.usable_bytes_per_device
    reports = "reports" if device.reported else "is labelled"
    sentence = (
        f"does not fit: needs {format_bytes(needed)} per device, {device.id} {reports} "
        f"{format_bytes(memory.device_bytes_per_device)}, {format_bytes(usable)} of it usable "
        f"({format_bytes(memory.shortfall_bytes_per_device)} short)"
    )
    labels = _best_of_each(ways)
    return f"{sentence}; fits with {', or '.join(labels)}" if labels else f"{sentence}; no single change fits"


def _best_of_each(ways: list[Way]) -> list[str]:
    best: dict[str, str] = {}
    for way in ways:
        best.setdefault(way.kind, way.label)
    if len(best) > 1:
        best.pop("workload", None)
    return list(best.values())
