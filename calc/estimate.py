"""One scenario through all layers: specs, work, time, service, cost -> Estimate."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from calc.economics.cost import Cost, cost_of
from calc.economics.prices import device_price
from calc.serving.batching import Service, batch_of, service_of
from calc.serving.open_loop.arrivals import open_loop_service
from calc.serving.speculation import with_drafts
from calc.serving.steps import Steps
from calc.specs.deployment import Deployment
from calc.specs.device import Device, load_device
from calc.specs.engine import Engine, as_served, engine_of
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.specs.model_files import load_model
from calc.specs.numeric import floor, minimum
from calc.specs.workload import Workload
from calc.timing.calibration import Z80, Calibration, calibration_for
from calc.timing.overheads import Overheads, RunError, overheads_of
from calc.timing.step_time import RooflinePoint, longest, roofline_point
from calc.work.budget import Memory, memory_of
from calc.work.op import Sequences
from calc.work.sharding import check_cp, check_tp
from calc.work.ways import Way, fit_sentence, single_changes

#: metrics with a range, a breakdown and an explanation
TIMES = ("ttft_s", "tpot_s")
RATES = ("output_tokens_per_s", "requests_per_s")
METRICS = (*TIMES, "e2e_latency_s", *RATES)
#: label of the kernels -> exponent on an interval, over that of the runs which it comes from
RUN_WIDEN = {"calibrated": 1.0, "extrapolated": 1.15, "family": 1.3, "datasheet": 1.6}


@dataclass(frozen=True, eq=False)
class Estimate:
    """Memory, speed and cost of one scenario; fields are arrays where inputs were.

    See ``estimate`` for how to get one. "Does not fit" is a value: ``fits`` is False and
    ``memory.shortfall_bytes`` says by how much; times are then those of a device that had
    the memory.
    """

    schema_version: ClassVar[int] = 1

    model: Model
    device: Device
    deployment: Deployment
    workload: Workload
    engine: Engine
    calibration: Calibration
    overheads: Overheads
    memory: Memory
    service: Service = field(repr=False)
    cost: Cost | None

    @property
    def fits(self):
        """Whether weights, activations and the cache the mode needs find room."""
        return self.memory.fits

    @property
    def ttft_s(self):
        """Mean time to first token. [s]"""
        return self.service.ttft.seconds

    @property
    def tpot_s(self):
        """Mean time per output token after the first. [s]"""
        return self.service.tpot.seconds

    @property
    def e2e_latency_s(self):
        """Mean time from request to last token. [s]"""
        return self.service.e2e_latency_s

    @property
    def output_tokens_per_s(self):
        """Output tokens per second of the whole deployment. [tokens/s]"""
        return self.service.output_tokens_per_s

    @property
    def requests_per_s(self):
        """Requests finished per second by the whole deployment. [1/s]"""
        return self.service.requests_per_s

    @property
    def open_loop(self):
        """What requests see at the arrival rate, with percentiles; a tuple of them for several rates."""
        found = self.service.open_loop
        if not found:
            raise SpecError(f"open_loop: mode {self.workload.mode!r} has none; allowed is 'open_loop'")
        return found if np.ndim(self.workload.requests_per_s) else found[0]

    @property
    def n_devices(self):
        """Devices of the whole deployment."""
        return self.deployment.n_devices

    @property
    def bound(self):
        """What most of a decode step is spent on: memory bandwidth, compute, interconnect or overhead."""
        return self.service.tpot.bound

    @cached_property
    def steps(self) -> Steps:
        """Step times of this deployment."""
        return Steps(
            self.model, self.device, self.deployment, self.engine, self.calibration,
            self.overheads, self.workload.expert_skew, self.workload.sequences_per_request,
        )  # fmt: skip

    @cached_property
    def weight_dtype(self) -> str:
        """Weight format the deployment runs in."""
        return self.deployment.weight_dtype or self.model.checkpoint.weight_dtype

    def range(self, metric: str):
        """Return (low, high) of the 80 % interval of a metric."""
        value = self._metric(metric)
        low, high = self._spread(metric)
        with np.errstate(invalid="ignore"):  # without a steady state times and their range are infinite
            return (value / high, value / low) if metric in RATES else (value * low, value * high)

    def _spread(self, metric: str):
        """Factors on a time between which 80 % of measured ones lie.

        Those of measured runs of the engine where there are any, wider where kernels are known
        less well than in those runs; else the spread of kernels and host time.
        """
        error = self.run_error(metric)
        if error is None:
            ratio = np.exp(Z80 * self._duration(metric).sigma)
            return 1 / ratio, ratio
        widen = self.widening(metric)
        return error.low**widen, error.high**widen

    def widening(self, metric: str) -> float:
        """Return the exponent on the interval of measured runs whose kernels were known better; else 1."""
        error = self.run_error(metric)
        if error is None:
            return 1.0
        return max(1.0, RUN_WIDEN[self.trust(metric)] / RUN_WIDEN[error.trust])

    def run_error(self, metric: str) -> RunError | None:
        """Return how far measured runs of the engine were off, None where there are none."""
        self._metric(metric)
        return self.overheads.errors.get("ttft_s" if metric == "ttft_s" else "tpot_s")

    def trust(self, metric: str) -> str:
        """Return how far a metric can be trusted: calibrated, family, datasheet or extrapolated."""
        self._metric(metric)
        return self._duration(metric).trust

    def _duration(self, metric: str):
        """The time that a metric's spread and trust come from."""
        return self.service.ttft if metric == "ttft_s" else self.service.tpot

    def breakdown(self, metric: str) -> list[tuple[str, object, object]]:
        """Return rows (op, seconds, bound) that sum to a time metric."""
        if metric not in TIMES:
            raise SpecError(f"breakdown: {metric!r} has none; allowed are {', '.join(TIMES)}")
        duration = self._duration(metric)
        return [(row.name, row.seconds, longest(row.by_bound())) for row in duration.merged().rows]

    def roofline(self, metric: str) -> list[RooflinePoint]:
        """Return where each kind of kernel call stands under the roofline.

        For ``tpot_s`` of a plain decode step at the mean context, for ``ttft_s`` of the prefill
        of one prompt (a static batch: of all). One point for every operation with work of its
        own: intensity, attained, ridge and bound.
        """
        if metric not in TIMES:
            raise SpecError(f"roofline: {metric!r} has none; allowed are {', '.join(TIMES)}")
        load = self.workload
        users = batch_of(self.service.concurrency, self.steps.ranks)
        if metric == "tpot_s":
            context = load.prompt_tokens + (load.output_tokens - 1) / 2
            group = Sequences("decode", users, 1, context)
        else:
            group = Sequences("prefill", users if load.mode == "static" else 1, load.prompt_tokens, 0)
        return [roofline_point(row, self.device) for row in self.steps.time(group).rows if row.has_work]

    def _metric(self, metric: str):
        if metric not in METRICS:
            raise SpecError(f"metric: {metric!r} is not known; allowed are {', '.join(METRICS)}")
        return getattr(self, metric)

    def meets(self, slo: "SLO"):
        """Return whether the scenario fits and keeps the given limits on its mean times."""
        good = np.asarray(self.fits) & np.isfinite(self.ttft_s)  # infinite without a steady state
        if slo.ttft_s is not None:
            good = good & (np.asarray(self.ttft_s) <= slo.ttft_s)
        if slo.tpot_s is not None:
            good = good & (np.asarray(self.tpot_s) <= slo.tpot_s)
        return bool(good) if good.ndim == 0 else good

    def ways_to_fit(self) -> list[Way]:
        """Return single changes that make it fit, least intrusive first; none when it fits."""
        return single_changes(self.model, self.device, self.deployment, self.workload)

    def fit_sentence(self) -> str:
        """Return in words whether it fits, what is needed and what would fit; not for arrays."""
        return fit_sentence(self.memory, self.device, self.ways_to_fit())

    def explain(self, metric: str):
        """Return the explanation of a metric: formula, formula with numbers, sources."""
        from calc.explain import explain

        return explain(self, metric)

    def to_dict(self) -> dict:
        """Return the estimate as plain data, with units in the names; the JSON of the CLI."""
        from calc.record import estimate_record

        return estimate_record(self)


@dataclass(frozen=True)
class SLO:
    """Service level objective: limits on mean times; ``None`` is no limit. [s]"""

    ttft_s: float | None = None
    tpot_s: float | None = None

    def __post_init__(self):
        for name in ("ttft_s", "tpot_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SpecError(f"{name}: {value!r} is not allowed; allowed are times above 0")


def _scenario(model, device, deployment, workload) -> tuple[Model, Device, Deployment, Workload]:
    """Return what is given, loaded where it was named, with defaults where it was left out."""
    model, device = load_model(model), load_device(device)
    return model, device, deployment or Deployment(), workload or Workload()


def memory(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None = None,
    workload: Workload | None = None,
) -> Memory:
    """Return the memory of one scenario, without its times.

    Answers offloading too, which ``estimate`` does not time.

    Parameters
    ----------
    model, device : Model, Device or str
    deployment : Deployment, optional
    workload : Workload, optional

    Examples
    --------
    >>> m = memory("llama-3.1-70b", "h100-sxm", Deployment(tp=2, pp=2), Workload(concurrency=16))
    >>> bool(m.fits), print(f"{m.weights_bytes / 1e9:.1f} GB of weights")
    141.1 GB of weights
    (True, None)
    """
    model, device, deployment, workload = _scenario(model, device, deployment, workload)
    check_tp(model, deployment.tp)
    check_cp(model, deployment.tp, deployment.cp)
    engine = engine_of(deployment, device)
    return memory_of(model, device, deployment, workload, engine)


def ways_to_fit(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None = None,
    workload: Workload | None = None,
) -> list[Way]:
    """Return the single changes that make a scenario fit, least intrusive first.

    Parameters
    ----------
    model, device : Model, Device or str
    deployment : Deployment, optional
    workload : Workload, optional

    Examples
    --------
    >>> [way.label for way in ways_to_fit("llama-3.1-8b", "l4", workload=Workload(prompt_tokens=40_000))][0]
    'cache fp8'
    """
    model, device, deployment, workload = _scenario(model, device, deployment, workload)
    check_tp(model, deployment.tp)
    return single_changes(model, device, deployment, workload)


def _check_timed(deployment: Deployment, workload: Workload) -> None:
    """Raise SpecError for what only memory is answered for."""
    if workload.mode == "open_loop" and np.any(np.asarray(workload.shared_prefix_tokens) != 0):
        shared = workload.shared_prefix_tokens
        raise SpecError(
            f"shared_prefix_tokens: {shared}: allowed is 0 in an open loop; closed loops are timed"
        )
    if deployment.hold_steps and workload.mode == "open_loop":
        held = deployment.hold_steps
        raise SpecError(f"hold_steps: {held:g}: allowed is 0 in an open loop; closed loops are timed")
    if deployment.speculation is not None and workload.mode == "open_loop":
        kind = deployment.speculation.kind
        raise SpecError(f"speculation: {kind!r}: allowed is None in an open loop; closed loops are timed")


def estimate(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None = None,
    workload: Workload | None = None,
    *,
    calibration: Calibration | str = "default",
    overheads: str | None = None,
    usd_per_device_hour: float | None = None,
    price_term: str = "on-demand",
) -> Estimate:
    """Return memory, speed and cost of one scenario.

    Parameters
    ----------
    model : Model or str
        A model, its id, Hugging Face name or path.
    device : Device or str
        A device, its id or path.
    deployment : Deployment, optional
        Engine, parallelism and formats; vLLM on one device when not given.
    workload : Workload, optional
        Lengths and concurrency; one request of 1024 + 256 tokens when not given.
    calibration : Calibration or str
        Kernel efficiencies: ``"default"``, an id or a path.
    overheads : str, optional
        Path of a file with the engine's overheads, as ``ullage calibrate`` writes it.
    usd_per_device_hour : float, optional
        Your own price; else the median dated price of the device. [USD/h]
    price_term : str
        Which prices to look at: on-demand, spot, reserved, capacity-block, market.

    Returns
    -------
    Estimate
        Fields are arrays where the inputs were; they broadcast.

    Raises
    ------
    SpecError
        If a name is not known or a value not allowed. Not fitting is no error.

    Examples
    --------
    >>> e = estimate("llama-3.1-8b", "h100-sxm", workload=Workload(concurrency=8))
    >>> e.fits, e.bound
    (True, 'memory bandwidth')
    """
    model, device, deployment, workload = _scenario(model, device, deployment, workload)
    _check_timed(deployment, workload)
    check_tp(model, deployment.tp)
    check_cp(model, deployment.tp, deployment.cp)
    engine = engine_of(deployment, device)
    model = as_served(model, engine)
    calibration = calibration_for(device, calibration)
    memory = memory_of(model, device, deployment, workload, engine)
    adds = overheads_of(deployment, device, overheads, workload.mode)
    branches = workload.sequences_per_request
    steps = Steps(model, device, deployment, engine, calibration, adds, workload.expert_skew, branches)
    if workload.mode == "open_loop":
        service = open_loop_service(steps, workload, memory)
    else:
        steps = with_drafts(steps)
        service = service_of(steps, workload, minimum(floor(memory.max_concurrency), steps.most_requests))
    price = None
    if usd_per_device_hour is None:
        price = device_price(device.id, price_term)
        usd_per_device_hour = price.usd_per_hour if price else None
    elif not usd_per_device_hour > 0:
        raise SpecError(
            f"usd_per_device_hour: {usd_per_device_hour!r} is not allowed; allowed are prices above 0"
        )
    cost = None
    if usd_per_device_hour is not None and np.all(np.asarray(service.requests_per_s) > 0):
        cost = cost_of(
            deployment.n_devices, usd_per_device_hour, service.requests_per_s,
            workload.prompt_tokens, workload.output_tokens, price,
        )  # fmt: skip
    return Estimate(model, device, deployment, workload, engine, calibration, adds, memory, service, cost)
