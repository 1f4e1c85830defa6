"""Inverse questions: the most users, the longest context, the fewest devices, the widest weights."""

from dataclasses import dataclass, replace

import numpy as np

from calc.estimate import SLO, Estimate, estimate
from calc.serving.steps import requests_of
from calc.specs.deployment import Deployment
from calc.specs.device import Device, load_device
from calc.specs.engine import engine_of
from calc.specs.errors import SpecError, unknown_name
from calc.specs.model import Model
from calc.specs.model_files import load_model
from calc.specs.quantization import WEIGHT_FORMATS
from calc.specs.workload import Workload
from calc.work.budget import Memory, memory_of
from calc.work.drafts import tp_choices_with_drafts
from calc.work.sharding import check_tp

#: what can be asked for
UNKNOWNS = ("concurrency", "context", "n_devices", "weight_dtype")
#: weight formats that are tried, widest first; of equal width the one engines favour
FORMATS = ("bf16", "fp8", "nvfp4", "int4")
_PARALLEL = (1, 2, 4, 8, 16)
_POINTS = 64


@dataclass(frozen=True, eq=False)
class Solution:
    """Answer of ``solve``: the value asked for, with the scenario at that value.

    ``value`` is None where nothing does; ``sentence`` says the answer in words. ``estimate``
    is None where times are not answered (an open loop with a shared prefix).
    """

    for_: str
    value: object
    sentence: str
    deployment: Deployment
    workload: Workload
    memory: Memory
    estimate: Estimate | None = None


@dataclass(frozen=True, eq=False)
class _Question:
    model: Model
    device: Device
    deployment: Deployment
    workload: Workload
    slo: SLO | None

    def memory(self, deployment: Deployment | None = None, load: Workload | None = None) -> Memory:
        d = deployment or self.deployment
        engine = engine_of(d, self.device)
        return memory_of(self.model, self.device, d, load or self.workload, engine)

    def holds(self, deployment: Deployment | None = None, load: Workload | None = None):
        """Whether it fits, all users at once, and keeps the limits; element by element."""
        d, load = deployment or self.deployment, load or self.workload
        memory = self.memory(d, load)
        good = np.asarray(memory.fits)
        if load.concurrency is not None:
            good = good & (np.asarray(memory.max_concurrency) >= load.concurrency)
        if self.slo is not None:
            good = good & np.asarray(estimate(self.model, self.device, d, load).meets(self.slo))
        return good

    def answer(self, for_, value, sentence, deployment=None, load=None) -> Solution:
        d, load = deployment or self.deployment, load or self.workload
        timed = load.mode != "open_loop" or not load.shared_prefix_tokens
        e = estimate(self.model, self.device, d, load) if timed else None
        return Solution(for_, value, sentence, d, load, self.memory(d, load), e)


def solve(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None = None,
    workload: Workload | None = None,
    *,
    for_: str,
    slo: SLO | None = None,
) -> Solution:
    """Return the value of one unknown at which a scenario just fits and keeps its limits.

    Parameters
    ----------
    model, device : Model, Device or str
    deployment, workload : Deployment, Workload
        The scenario; what is asked for is replaced.
    for_ : str
        ``"concurrency"`` the most users at once; ``"context"`` the longest request (prompt
        and output, output kept) at the given users; ``"n_devices"`` the fewest devices;
        ``"weight_dtype"`` the widest weight format. All users are held at once.
    slo : SLO, optional
        Limits on mean times that must hold as well.

    Raises
    ------
    SpecError
        If the unknown is not one of these, or a name or value is wrong.

    Examples
    --------
    >>> load = Workload(prompt_tokens=7680, output_tokens=512)
    >>> solve("llama-3.1-8b", "l40s", workload=load, for_="concurrency").value
    23
    """
    if for_ not in UNKNOWNS:
        raise unknown_name("unknown", for_, UNKNOWNS)
    model, device = load_model(model), load_device(device)
    q = _Question(model, device, deployment or Deployment(), workload or Workload(), slo)
    check_tp(model, q.deployment.tp)
    for name in ("prompt_tokens", "output_tokens", "concurrency"):
        if np.ndim(getattr(q.workload, name)):
            raise SpecError(f"{name}: an array is not allowed in solve; allowed is one number")
    return {
        "concurrency": _concurrency,
        "context": _context,
        "n_devices": _n_devices,
        "weight_dtype": _weight_dtype,
    }[for_](q)


def _limits(q: _Question) -> str:
    return " and meets the limits" if q.slo else ""


def _concurrency(q: _Question) -> Solution:
    one = replace(q.workload, mode="closed_loop", concurrency=1)
    memory = q.memory(load=one)
    engine = engine_of(q.deployment, q.device)
    sequences = q.deployment.dp * (q.deployment.max_sequences or engine.max_sequences)
    ceiling = int(requests_of(sequences, one.sequences_per_request))
    most = min(int(memory.max_concurrency), ceiling) if memory.fits else 0

    def good(users):
        return q.holds(load=replace(one, concurrency=users))

    best = _largest(good, 1, most)
    if best is None:
        return q.answer("concurrency", None, f"not one request of this length fits{_limits(q)}", load=one)
    why = "the engine's limit on sequences" if best == ceiling else "memory" if best == most else "the limits"
    sentence = f"{best:,} users at once; bounded by {why}"
    return q.answer("concurrency", best, sentence, load=replace(one, concurrency=best))


def _context(q: _Question) -> Solution:
    output, longest = q.workload.output_tokens, q.model.max_context_tokens

    def load(prompt):
        return replace(q.workload, prompt_tokens=prompt)

    best = _largest(lambda prompt: q.holds(load=load(prompt)), 1, max(1, longest - output))
    if best is None:
        return q.answer("context", None, f"no context fits{_limits(q)} for {q.workload.concurrency} users")
    total = best + output
    why = (
        "the model's longest context"
        if total >= longest
        else "memory"
        if q.slo is None
        else "memory or limits"
    )
    sentence = f"{total:,} tokens per request ({best:,} prompt + {output:,} output); bounded by {why}"
    return q.answer("context", total, sentence, load=load(best))


def _n_devices(q: _Question) -> Solution:
    reach = max(q.device.link.domain, q.device.devices_per_node)
    splits = [
        (tp * pp, pp, replace(q.deployment, tp=tp, pp=pp))
        for pp in _PARALLEL
        for tp in tp_choices_with_drafts(q.model, q.deployment, _PARALLEL)
        if tp <= reach and pp <= q.model.n_layers
    ]
    for n, _, deployment in sorted(splits, key=lambda row: row[:2]):
        if q.holds(deployment):
            sentence = f"{n * q.deployment.dp} devices: tp {deployment.tp}, pp {deployment.pp}"
            return q.answer("n_devices", deployment.n_devices, sentence, deployment)
    return q.answer("n_devices", None, f"no split tried fits{_limits(q)}", splits[-1][2])


def _weight_dtype(q: _Question) -> Solution:
    own = q.model.checkpoint.weight_dtype
    names = [own, *(name for name in FORMATS if WEIGHT_FORMATS[name].bits < WEIGHT_FORMATS[own].bits)]
    for name in names:
        deployment = replace(q.deployment, weight_dtype=name)
        if q.holds(deployment):
            sentence = f"weights in {name} ({WEIGHT_FORMATS[name].bits:g} bits)"
            return q.answer("weight_dtype", name, sentence, deployment)
    return q.answer("weight_dtype", None, f"no weight format fits{_limits(q)}")


def _largest(good, least: int, most: int) -> int | None:
    """Return the largest whole number that is good, taking good numbers to come first.

    Looks at a few dozen numbers at a time, so that each round is one array calculation.
    """
    if most < least or not bool(good(least)):
        return None
    low, high = least, most + 1  # low is good, high is not known to be
    while high - low > 1:
        points = np.unique(np.linspace(low, high, min(_POINTS, high - low + 1)).astype(int))[1:-1]
        if not points.size:
            points = np.array([low + 1])
        results = np.broadcast_to(good(points), points.shape)
        bad = np.flatnonzero(~results)
        if bad.size:
            high = int(points[bad[0]])
            low = int(points[bad[0] - 1]) if bad[0] else low
        else:
            low = int(points[-1])
            if high - low <= 1:
                break
    return low
