"""Discrete-event simulation: every request through the scheduler of its replica."""

from dataclasses import dataclass
from itertools import cycle

import numpy as np

from calc.serving.replica import Replica, Sequence
from calc.serving.requests import Requests
from calc.serving.scenario import memory_of_steps
from calc.serving.scheduler import Scheduler, scheduler_of
from calc.serving.step_table import StepTable, step_table
from calc.serving.steps import Steps
from calc.specs.errors import SpecError
from calc.specs.workload import Workload

ROUTINGS = ("round_robin", "least_loaded")
METRICS = ("ttft_s", "tpot_s", "e2e_latency_s", "queue_s")


@dataclass(frozen=True, eq=False)
class Simulation:
    """What happened: one entry per finished request, in order of arrival. [s]

    ``tpot_s`` is NaN for requests of one output token. ``utilisation`` is the share of time
    in which replicas ran steps, ``mean_decodes`` how many sequences a step decoded,
    ``pool_share`` the fullest the cache pool has been. ``rejected`` requests are longer than
    the pool; with ``interrupted`` some were not finished.
    """

    index: np.ndarray
    ttft_s: np.ndarray
    tpot_s: np.ndarray
    e2e_latency_s: np.ndarray
    queue_s: np.ndarray
    output_tokens: np.ndarray
    n_requests: int
    rejected: int
    replicas: int
    duration_s: float
    utilisation: float
    mean_decodes: float
    pool_share: float
    preemptions: int
    prefilled_tokens: int
    steps: int
    interrupted: bool = False

    @property
    def finished(self) -> int:
        """Requests that were served to their end."""
        return len(self.index)

    @property
    def requests_per_s(self) -> float:
        """Requests finished per second. [1/s]"""
        return self.finished / self.duration_s if self.duration_s else 0.0

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens per second of all replicas. [tokens/s]"""
        return float(self.output_tokens.sum()) / self.duration_s if self.duration_s else 0.0

    def percentile(self, metric: str, share: float) -> float:
        """Return a percentile of a metric over requests; NaN if it has none. [s]"""
        values = self._values(metric)
        return float(np.percentile(values, share)) if len(values) else float("nan")

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over requests; NaN if it has none. [s]"""
        values = self._values(metric)
        return float(values.mean()) if len(values) else float("nan")

    def _values(self, metric: str) -> np.ndarray:
        if metric not in METRICS:
            raise SpecError(f"metric: {metric!r} is not known; allowed are {', '.join(METRICS)}")
        values = getattr(self, metric)
        return values[~np.isnan(values)]

    def goodput(self, ttft_s: float | None = None, tpot_s: float | None = None) -> float:
        """Return requests per second that kept both limits. [1/s]"""
        good = np.ones(self.finished, dtype=bool)
        if ttft_s is not None:
            good &= self.ttft_s <= ttft_s
        if tpot_s is not None:
            good &= ~(self.tpot_s > tpot_s)
        return float(good.sum()) / self.duration_s if self.duration_s else 0.0

    def meets(self, ttft_s: float | None, tpot_s: float | None, share: float = 99.0) -> bool:
        """Return whether a percentile of requests keeps the limits, nothing rejected or unfinished."""
        if self.rejected or self.interrupted:
            return False
        late = ttft_s is not None and self.percentile("ttft_s", share) > ttft_s
        slow = tpot_s is not None and self.percentile("tpot_s", share) > tpot_s
        return not (late or slow)


def ready(steps: Steps, requests: Requests, **rules) -> tuple[StepTable, Scheduler]:
    """Return step times and scheduler for requests of these lengths; once for many simulations.

    Raises
    ------
    SpecError
        If the weights alone do not fit.
    """
    prompt, output = (
        max(1, round(float(n.mean()))) for n in (requests.prompt_tokens, requests.output_tokens)
    )
    memory = memory_of_steps(steps, Workload(prompt_tokens=prompt, output_tokens=output))
    scheduler = scheduler_of(steps, memory, prompt + output, **rules)
    if scheduler.blocks < 1:
        short = float(memory.shortfall_bytes_per_device) / 1e9
        raise SpecError(f"deployment: does not fit, {short:.1f} GB per device short; allowed is what fits")
    longest = int((requests.prompt_tokens + requests.output_tokens).max())
    most = min(scheduler.max_sequences, len(requests))
    return step_table(steps, most, scheduler.budget_tokens, min(longest, scheduler.pool_tokens)), scheduler


def simulate_requests(
    table: StepTable,
    scheduler: Scheduler,
    requests: Requests,
    replicas: int = 1,
    routing: str = "round_robin",
) -> Simulation:
    """Return what happens to requests on replicas of one deployment.

    Parameters
    ----------
    table, scheduler
        From ``ready``.
    requests : Requests
    replicas : int
        Copies of the deployment behind one router.
    routing : str
        ``"round_robin"``, or ``"least_loaded"``: to the replica with the fewest in flight.

    Notes
    -----
    Ctrl-C ends it early: what was finished by then is reported, ``interrupted`` is True.
    """
    if routing not in ROUTINGS:
        raise SpecError(f"routing: {routing!r} is not known; allowed are {', '.join(ROUTINGS)}")
    if replicas < 1:
        raise SpecError(f"replicas: {replicas!r} is not allowed; allowed are whole numbers from 1")
    fleet = [Replica(table, scheduler) for _ in range(replicas * scheduler.ranks)]
    rejected, interrupted = 0, False
    try:
        rejected = _run(fleet, requests, routing)
    except KeyboardInterrupt:
        interrupted = True
    return _simulation(fleet, requests, rejected, interrupted)


def _run(fleet: list[Replica], requests: Requests, routing: str) -> int:
    rejected = 0
    turns = cycle(fleet)
    arrivals, prompts, outputs = (
        column.tolist() for column in (requests.arrival_s, requests.prompt_tokens, requests.output_tokens)
    )
    for index, arrival_s in enumerate(arrivals):
        if not fleet[0].fits(prompts[index], outputs[index]):
            rejected += 1
            continue
        if routing == "round_robin":
            replica = next(turns)
            replica.advance(arrival_s)
        else:
            for each in fleet:
                each.advance(arrival_s)
            replica = min(fleet, key=lambda each: each.in_flight)
        replica.push(Sequence(index, arrival_s, prompts[index], outputs[index]))
    for replica in fleet:
        replica.advance(float("inf"))
    return rejected


def _simulation(fleet: list[Replica], requests: Requests, rejected: int, interrupted: bool) -> Simulation:
    done = sorted((s for replica in fleet for s in replica.finished), key=lambda s: s.index)
    times = np.array([(s.arrival_s, s.start_s, s.first_s, s.finish_s) for s in done]).reshape(-1, 4)
    arrival, start, first, finish = times.T
    output = np.array([s.output for s in done], dtype=float)
    begin = float(requests.arrival_s[0]) if len(requests) else 0.0
    duration = float(finish.max()) - begin if done else 0.0
    busy, handling = sum(replica.busy_s for replica in fleet), fleet[0].table.request_s
    tpot = np.full(len(done), np.nan)
    np.divide(finish - first, output - 1, out=tpot, where=output > 1)
    return Simulation(
        index=np.array([s.index for s in done], dtype=int),
        ttft_s=first - arrival + handling,
        tpot_s=tpot,
        e2e_latency_s=finish - arrival + handling,
        queue_s=start - arrival,
        output_tokens=output,
        n_requests=len(requests),
        rejected=rejected,
        replicas=len(fleet) // fleet[0].rules.ranks,
        duration_s=duration,
        utilisation=busy / (duration * len(fleet)) if duration else 0.0,
        mean_decodes=sum(replica.decode_token_s for replica in fleet) / busy if busy else 0.0,
        pool_share=max(replica.peak_blocks for replica in fleet) / max(1, fleet[0].rules.blocks),
        preemptions=sum(replica.preemptions for replica in fleet),
        prefilled_tokens=sum(replica.prefilled_tokens for replica in fleet),
        steps=sum(replica.steps for replica in fleet),
        interrupted=interrupted,
    )
