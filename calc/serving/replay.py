"""A trace or a random load on a named deployment: its times, and how many replicas an SLO needs."""

from dataclasses import dataclass

from calc.serving.requests import Requests
from calc.serving.scenario import steps_of
from calc.serving.scheduler import Scheduler
from calc.serving.simulate import Simulation, ready, simulate_requests
from calc.serving.step_table import StepTable
from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.timing.calibration import Calibration

#: most replicas that are looked at
MOST_REPLICAS = 4096


def simulate(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None,
    requests: Requests,
    *,
    replicas: int = 1,
    routing: str = "round_robin",
    calibration: Calibration | str = "default",
    **rules,
) -> Simulation:
    """Return what happens to requests on replicas of a deployment, each of them simulated.

    Parameters
    ----------
    model, device : Model, Device or str
    deployment : Deployment, optional
        One replica; vLLM on one device when not given.
    requests : Requests
        From ``read_trace`` or ``poisson_requests``.
    replicas : int
        Copies behind one router.
    routing : str
        ``"round_robin"`` or ``"least_loaded"``.
    rules
        ``policy``, ``reserve`` and ``cached_share`` of ``Scheduler``.

    Examples
    --------
    >>> from calc.serving.requests import poisson_requests
    >>> load = poisson_requests(2.0, 500, 1024, 128, seed=1)
    >>> s = simulate("llama-3.1-8b", "h100-sxm", None, load)
    >>> s.finished, s.preemptions, s.percentile("tpot_s", 99) < 0.01
    (500, 0, True)
    """
    table, scheduler = ready(steps_of(model, device, deployment, calibration), requests, **rules)
    return simulate_requests(table, scheduler, requests, replicas, routing)


@dataclass(frozen=True, eq=False)
class Fleet:
    """Replicas for an SLO: ``replicas`` is None where no number meets it; then ``reason`` says why.

    ``simulation`` is at that number, or at the most that was tried; ``tried`` pairs numbers of
    replicas with whether they met the SLO.
    """

    replicas: int | None
    simulation: Simulation
    tried: tuple[tuple[int, bool], ...]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Search:
    table: StepTable
    scheduler: Scheduler
    requests: Requests
    routing: str
    limits: tuple

    def at(self, replicas: int) -> Simulation:
        return simulate_requests(self.table, self.scheduler, self.requests, replicas, self.routing)

    def good(self, simulation: Simulation) -> bool:
        return simulation.meets(*self.limits)


def fewest_replicas(
    table: StepTable,
    scheduler: Scheduler,
    requests: Requests,
    ttft_s: float | None = None,
    tpot_s: float | None = None,
    percentile: float = 99.0,
    routing: str = "round_robin",
) -> Fleet:
    """Return the fewest replicas on which a percentile of requests keeps the limits, by bisection.

    Parameters
    ----------
    table, scheduler
        From ``ready``.
    ttft_s, tpot_s : float, optional
        Limits at the percentile. [s]
    percentile : float
        Share of requests that have to keep each limit. [%]

    Notes
    -----
    More replicas than requests cannot help: there every request is alone.
    """
    if not 0 < percentile <= 100:
        raise SpecError(f"percentile: {percentile!r} is not allowed; allowed are 0 < percentile <= 100")
    search = _Search(table, scheduler, requests, routing, (ttft_s, tpot_s, percentile))
    tried: dict[int, Simulation] = {}
    low, high = 0, 1
    while True:
        tried[high] = search.at(high)
        if search.good(tried[high]) or tried[high].interrupted or tried[high].rejected:
            break
        if high >= min(MOST_REPLICAS, len(requests)):
            break
        low, high = high, min(2 * high, MOST_REPLICAS, len(requests))
    if not search.good(tried[high]):
        return Fleet(None, tried[high], _outcomes(search, tried), _why_not(tried[high], high))
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = search.at(middle)
        if tried[middle].interrupted:
            break
        low, high = (low, middle) if search.good(tried[middle]) else (middle, high)
    return Fleet(high, tried[high], _outcomes(search, tried))


def _outcomes(search: _Search, tried: dict[int, Simulation]) -> tuple[tuple[int, bool], ...]:
    return tuple((count, search.good(tried[count])) for count in sorted(tried))


def _why_not(simulation: Simulation, replicas: int) -> str:
    if simulation.interrupted:
        return "interrupted"
    if simulation.rejected:
        return f"{simulation.rejected} requests are longer than the cache of a replica"
    return f"not even {replicas} replicas meet it: requests are too slow on their own"
