"""Open loop: requests that arrive at a rate, without simulation.

The chain of ``step_chain`` over the requests in flight and the prompts that wait gives the time
per token by Little's law; what an arrival meets in it, plus its own prompt, is its time to
first token.
"""

from dataclasses import dataclass

import numpy as np

from calc.serving.batching import Service, Steps, e2e_latency_s, token_rate
from calc.serving.scenario import check_scalar
from calc.serving.scheduler import Scheduler, scheduler_of
from calc.serving.step_chain import STATES, Flow, StepChain, step_chain
from calc.serving.step_table import StepTable, step_table
from calc.specs.errors import SpecError
from calc.specs.numeric import maximum, minimum
from calc.specs.workload import Workload
from calc.timing.step_time import Duration, TimedOp, waiting
from calc.work.budget import Memory
from calc.work.op import Sequences

#: share of the highest rate that stands in for no arrivals at all
_IDLE_LOAD = 1e-5
#: points at which distributions over requests are evaluated
_POINTS = 8192
#: share of time at the ends of the chain above which it is widened, and how often
_TAIL, _WIDENINGS = 3e-4, 7
#: requests in the chain that wait for a place; longer queues are continued geometrically
_QUEUE = 60
#: steps after the prompt that are followed one by one
_EARLY = 24
PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, eq=False)
class Demand:
    """Lengths of requests as equally likely values. [tokens]

    ``new_tokens`` of a prompt have to be computed, ``cached_tokens`` the prefix cache holds.
    """

    new_tokens: np.ndarray
    cached_tokens: np.ndarray
    output_tokens: np.ndarray

    @property
    def decode_steps(self) -> float:
        """Mean decode steps of a request: the first token comes from prefill."""
        return float(np.mean(self.output_tokens - 1))

    @property
    def context_tokens(self) -> float:
        """Mean cached tokens of a sequence that decodes, long outputs being seen more. [tokens]"""
        later = self.output_tokens - 1
        age = float(np.mean(later**2) / max(2 * np.mean(later), 1e-9))
        return float(np.mean(self.new_tokens + self.cached_tokens)) + age

    @property
    def stored_tokens(self) -> float:
        """Mean tokens that a decoding sequence keeps for itself. [tokens]"""
        return self.context_tokens - float(np.mean(self.cached_tokens))


def demand_of(prompts: np.ndarray, outputs: np.ndarray, rules: Scheduler) -> Demand:
    """Return the demand of prompts and outputs under a scheduler's prefix cache."""
    block = rules.block_tokens
    hit = np.minimum(rules.cached_share * prompts // block, (prompts - 1) // block) * block
    return Demand(prompts - hit, hit, outputs)


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and percentiles of a time over requests. [s]"""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """What requests see at one arrival rate.

    ``steady`` says whether the queue stays finite, ``max_requests_per_s`` below which rate it
    does; otherwise times are infinite. ``in_flight`` is the probability of 0, 1, 2, ... requests
    beyond their prefill (running, then queued), ``queue_probability`` that a request finds no
    place in memory; ``queue`` is the time until the first of its prompt is computed.
    ``bottleneck`` says what sets the highest rate: ``"prefill"`` or ``"places"`` (cache or
    ``max_sequences``).
    """

    requests_per_s: float
    max_requests_per_s: float
    steady: bool
    bottleneck: str
    cap: int
    in_flight: np.ndarray
    mean_in_flight: float
    queue_probability: float
    ttft: Spread
    tpot: Spread
    queue: Spread

    @property
    def load(self) -> float:
        """Arrival rate over the highest rate with a steady state."""
        return self.requests_per_s / self.max_requests_per_s

    def statement(self) -> str:
        """Return one sentence about the steady state."""
        most = f"{self.max_requests_per_s:.3g} requests/s"
        if self.steady:
            return f"steady: {self.load:.0%} of the {most} that can be sustained"
        return f"no steady state above {most}"


def open_loop(
    table: StepTable, rules: Scheduler, prompts: np.ndarray, outputs: np.ndarray, requests_per_s
) -> list[OpenLoop]:
    """Return what requests see at each of some arrival rates.

    Parameters
    ----------
    table : StepTable
    rules : Scheduler
    prompts, outputs : array
        Equally likely lengths (``Lengths.table``); independent of each other. [tokens]
    requests_per_s : number or array
        Poisson arrival rates; 0 is an idle deployment. [1/s]

    Notes
    -----
    Ignored: recomputing after preemption, dependence of prompt and output length, and that the
    number of decodes moves while a prompt waits.
    """
    chain = _Chain(table, rules, demand_of(np.asarray(prompts, float), np.asarray(outputs, float), rules))
    return [chain.at(float(rate)) for rate in np.atleast_1d(requests_per_s)]


def open_loop_service(steps: Steps, load: Workload, memory: Memory) -> Service:
    """Return the service of requests that arrive at a rate, or at several.

    Times are means over requests; percentiles are in ``Service.open_loop``. Without a steady
    state they are infinite and the rate of finished requests is the highest that can be had.
    """
    for name in ("prompt_tokens", "output_tokens", "shared_prefix_tokens"):
        if np.ndim(getattr(load, name)):
            raise SpecError(f"{name}: an array is not allowed in an open loop; allowed is one number")
    check_scalar(steps.deployment)
    prompts = load.prompt_lengths.table(load.prompt_tokens)
    outputs = load.output_lengths.table(load.output_tokens)
    rules = scheduler_of(steps, memory, load.prompt_tokens + load.output_tokens)
    longest = int(min(prompts.max() + outputs.max(), 2**20))
    table = step_table(steps, rules.max_sequences, rules.budget_tokens, longest)
    found = open_loop(table, rules, prompts, outputs, load.requests_per_s)
    return _service(steps, load, found, float(outputs.mean()), np.ndim(load.requests_per_s) > 0)


def _service(steps: Steps, load: Workload, found: list[OpenLoop], output_tokens, is_array) -> Service:
    def column(values):
        values = np.array(list(values), dtype=float)
        return values if is_array else float(values[0])

    ttft_s, tpot_s = column(each.ttft.mean for each in found), column(each.tpot.mean for each in found)
    tpot_s = np.where(np.isnan(tpot_s), 0.0, tpot_s)[()]
    running = column(min(each.mean_in_flight, each.cap) for each in found)
    alone = steps.time(Sequences("prefill", 1, load.prompt_tokens, 0))
    context = load.prompt_tokens + (load.output_tokens - 1) / 2
    decode = steps.time(Sequences("decode", maximum(running, 1.0), 1, context))
    rate = column(min(each.requests_per_s, each.max_requests_per_s) for each in found)
    return Service(
        ttft=_stretched(alone, waiting("queue, running step, prompts of others", 1.0), ttft_s),
        tpot=_stretched(decode, alone, tpot_s),
        e2e_latency_s=e2e_latency_s(ttft_s, tpot_s, output_tokens),
        requests_per_s=rate,
        output_tokens_per_s=token_rate(rate, output_tokens),
        concurrency=running,
        queued=column(each.mean_in_flight for each in found) - running,
        open_loop=tuple(found),
    )


def _stretched(base: Duration, other: Duration, seconds) -> Duration:
    """Return a step's rows and as much of another that both take so long; the first alone if it is longer."""
    is_finite = np.isfinite(seconds)
    known = np.where(is_finite, seconds, base.seconds)[()]
    share, more = minimum(1.0, known / base.seconds), maximum(0.0, known - base.seconds)
    rows = base.times(share) + other.times(more / other.seconds)
    if np.all(is_finite):
        return rows.merged()
    never = np.where(is_finite, 0.0, np.inf)[()]
    return (rows + Duration((TimedOp("no steady state", never),))).merged()


def places(rules: Scheduler, demand: Demand) -> int:
    """Requests that run at once when cache or ``max_sequences`` is full.

    With ``reserve="prompt"`` they share the pool at their mean age, else at full length.
    """
    if rules.reserve == "request":
        tokens = float(np.mean(demand.new_tokens + demand.output_tokens))
    else:
        tokens = demand.stored_tokens
    room = (1 - rules.watermark) * rules.pool_tokens
    return max(1, min(rules.max_sequences, int(room / (tokens + rules.block_tokens / 2))))


class _Chain:
    """The chain of one deployment and demand, for any rate."""

    def __init__(self, table: StepTable, rules: Scheduler, demand: Demand):
        self.table, self.rules, self.demand = table, rules, demand
        self.cap = places(rules, demand)
        self.context = demand.context_tokens
        per_token = float(table.surplus(1, table.budget_tokens)) / table.budget_tokens
        own = table.prompt_attention(demand.new_tokens, demand.cached_tokens)
        #: prompts in tokens whose time is theirs, attention included
        self.work = demand.new_tokens + own / per_token
        self.prompt = float(self.work.mean())
        self.max_rate, self.bottleneck = self._max_rate()

    def step_s(self, n, tokens):
        """Time of a step with ``n`` decodes waiting for it and so many prompt tokens. [s]"""
        beside = n if self.rules.policy == "chunked" else np.where(tokens > 0, 0, n)
        further = np.maximum(tokens / self.prompt - 1, 0.0) * self.table.sequence_s
        return self.table.step(beside, self.context, tokens) + further

    def budget(self, n):
        """Prompt tokens that fit into a step beside ``n`` decodes. [tokens]"""
        return self.rules.budget_tokens - (n if self.rules.policy == "chunked" else 0 * n)

    def _max_rate(self) -> tuple[float, str]:
        """Highest rate with a steady state, and what sets it."""
        steps = self.demand.decode_steps
        most = self.budget(self.cap) / self.prompt  # requests whose prompts fill a step
        if self.rules.policy != "chunked":
            return self._max_rate_apart(steps)
        finishing = self.cap / max(steps, 1e-9)
        if finishing < most:
            return finishing / float(self._mean_step(self.cap, finishing)), "places"
        n = min(self.cap, most * steps)
        return most / float(self.step_s(n, self.budget(n))), "prefill"

    def _max_rate_apart(self, steps) -> tuple[float, str]:
        """Highest rate when prompts run in steps of their own: the two times add up."""
        full = float(self.step_s(0, self.budget(0.0))) / (self.budget(0.0) / self.prompt)
        own = float(np.mean(self.step_s(0, np.minimum(self.work, self.budget(0.0)))))
        decode = steps * float(self.step_s(self.cap, np.zeros(1))[0]) / self.cap
        together = self.cap / max(steps, 1e-9) if steps else 1e9
        prefill = own if together < 1 else full + (own - full) / max(together, 1.0)
        return 1 / (decode + prefill), "places" if decode > prefill else "prefill"

    def _mean_step(self, n, requests) -> float:
        """Mean time of steps in which random numbers of prompts (of this mean) start.

        Prompts beyond the budget take several steps.
        """
        counts = np.arange(0, int(requests + 10 * np.sqrt(requests) + 12))
        logs = counts * np.log(max(requests, 1e-12)) - requests - np.cumsum(np.log(np.maximum(counts, 1)))
        chance, budget = np.exp(logs), self.budget(n)
        steps = np.maximum(counts * self.prompt / budget, 1.0)
        seconds = steps * self.step_s(n, np.minimum(counts * self.prompt, budget))
        return float((chance * seconds).sum() / (chance * steps).sum())

    def at(self, rate: float) -> OpenLoop:
        """Return what requests see at a rate."""
        if rate >= self.max_rate:
            return self._unsteady(rate)
        asked, rate = rate, max(rate, _IDLE_LOAD * self.max_rate)
        chain = self._balance(rate)
        ttft, queue, early = self._first_token(chain)
        steps = self.demand.decode_steps
        mean = chain.mean_running / chain.finished_per_s / steps if steps else float("nan")
        shares = chain.in_flight
        return OpenLoop(
            requests_per_s=asked,
            max_requests_per_s=self.max_rate,
            steady=True,
            bottleneck=self.bottleneck,
            cap=self.cap,
            in_flight=shares,
            mean_in_flight=float((shares * np.arange(len(shares))).sum()),
            queue_probability=float(shares[self.cap :].sum()),
            ttft=spread(ttft),
            tpot=spread(self._per_token(chain, early), mean + self._mean_early(early)),
            queue=spread(queue),
        )

    def _unsteady(self, rate: float) -> OpenLoop:
        never = Spread(*[float("inf")] * 4)
        none = np.zeros(0)
        return OpenLoop(
            rate, self.max_rate, False, self.bottleneck, self.cap, none, float("inf"), 1.0, never, never, never
        )  # fmt: skip

    def _balance(self, rate: float) -> StepChain:
        """Return the chain from step to step, on as many requests and tokens as matter."""
        prompts, steps = self.work, self.demand.decode_steps
        flow = Flow(self.step_s, prompts, steps, self.cap, rate, self.rules)
        levels = int(8 + 2 * rate * steps * float(self.step_s(1, np.zeros(1))[0]))
        most = self.cap + _QUEUE
        reach = float(np.quantile(prompts, 0.999)) + 4 * float((prompts**2).mean() / prompts.mean())
        for _ in range(_WIDENINGS):
            chain = step_chain(flow, min(levels, most), reach)
            many = chain.in_flight[-max(2, levels // 8) :].sum() > _TAIL and levels < most
            far = chain.share_of_time[:, -STATES // 8 :].sum() > _TAIL
            if not (many or far):
                break
            levels, reach = levels * (2 if many else 1), reach * (1.6 if far else 1)
        return chain

    def _first_token(self, chain: StepChain):
        """Times to first token and until a prompt is begun, at evenly spread points, and what follows. [s]"""
        points = lattice(8, _POINTS)
        met = np.searchsorted(np.cumsum(chain.share_of_time), points[0] * (1 - 1e-9))
        count, state = np.unravel_index(np.minimum(met, chain.share_of_time.size - 1), chain.step_s.shape)
        n, idle = chain.running[count], (count == 0) & (state == 0)
        prompt, elapsed = self.work[(points[2] * len(self.work)).astype(int)], points[3]
        duration = np.where(idle, 0.0, chain.step_s[count, state])
        others = np.where(idle, 0.0, _drawn_tokens(chain, duration, points[4]))
        carried = chain.carried_tokens[count, state]
        ahead, budget = carried + elapsed * others, self.budget(n)
        full = np.maximum(np.ceil((ahead + prompt) / budget) - 1, 0.0)
        full_s = self.step_s(n, budget)
        later = np.where(full > 0, _drawn_tokens(chain, full_s, points[7]), 0.0)
        backlog = carried + others + prompt - full * budget + later
        last = np.minimum(budget, backlog)
        wait = (1 - elapsed) * duration + self._place_wait(chain, count, points[5], points[6])
        last_s = self.step_s(n, np.maximum(last, 1.0))
        early = self._early(chain, n, backlog - last, last_s, points[6])
        return wait + full * full_s + last_s, wait + np.floor(ahead / budget) * full_s, early

    def _place_wait(self, chain: StepChain, count, share, further):
        """Wait of requests that find all places taken. [s]

        Each departure brings them one place nearer; the wait of exponential services is scaled
        by half of one plus the squared variation of the decode steps (Allen and Cunneen).
        """
        steps = self.demand.output_tokens - 1
        variation = float(np.var(steps) / max(np.mean(steps) ** 2, 1e-9))
        ahead = np.maximum(count - self.cap + 1, 0)
        if not ahead.any():
            return 0.0 * ahead
        shares = chain.in_flight
        if len(shares) > self.cap + _QUEUE:  # the last level stands for all beyond
            ratio = min(0.999, shares[-3] / max(shares[-4], 1e-300))
            beyond = np.log1p(-np.clip(further, 0, 1 - 1e-6)) / np.log(ratio)
            ahead = ahead + np.where(count == len(shares) - 1, np.floor(beyond), 0)
        departures = self.cap / (max(self.demand.decode_steps, 1e-9) * chain.decode_step_s[0][self.cap])
        seen = np.maximum(ahead + np.sqrt(np.maximum(ahead, 1)) * _near_normal(share), 0.0)
        return np.where(ahead > 0, seen, 0.0) / departures * (1 + variation) / 2

    def _early(self, chain: StepChain, n, left, last_s, point) -> np.ndarray:
        """By how much the first 1, 2, ... steps after one's prompt together exceed as many others. [s]

        Those who arrive during a long step make the next one long. From the second step on,
        arrivals are taken at their mean.
        """
        n = np.minimum(n + 1, self.cap)
        mean = chain.decode_step_s[0][np.minimum(n.astype(int), len(chain.in_flight) - 1)]
        per_second, budget, decode = chain.finished_per_s * self.prompt, self.budget(n), self.step_s(n, 0 * n)
        backlog, excess = left + _drawn_tokens(chain, last_s, point), []
        for _ in range(_EARLY):
            tokens = np.minimum(backlog, budget)
            seconds = self.step_s(n, tokens)
            if self.rules.policy != "chunked":  # the decodes wait for the prompts
                seconds = np.where(tokens > 0, seconds + decode, seconds)
            excess.append(float(np.mean(seconds - mean)))
            backlog = backlog - tokens + per_second * seconds
        return np.cumsum(excess)

    def _early_share(self, steps, early):
        """Excess of the mean over the first so many steps. [s]"""
        return early[np.minimum(steps, len(early)).astype(int) - 1] / steps

    def _mean_early(self, early) -> float:
        """Excess of the mean over requests over the mean over tokens: short outputs see more of it. [s]"""
        steps = self.demand.output_tokens[self.demand.output_tokens > 1] - 1
        if not len(steps):
            return 0.0
        shares = self._early_share(steps, early)
        return float(shares.mean() - (shares * steps).sum() / steps.sum())

    def _per_token(self, chain: StepChain, early):
        """Times per output token over requests, each a mean over its own steps. [s]"""
        points = lattice(3, _POINTS)
        shares = chain.in_flight
        met = np.searchsorted(np.cumsum(shares), points[0] * (1 - 1e-9))
        n = np.clip(met + 1, 1, len(shares) - 1)
        steps = self.demand.output_tokens[(points[1] * len(self.demand.output_tokens)).astype(int)] - 1
        steps = np.maximum(steps, 1.0)
        mean, variance = chain.decode_step_s
        at = mean[n]
        age = steps / max(self.demand.decode_steps, 1e-9)
        kept = np.sqrt(2 / age**2 * (age - 1 + np.exp(-age)))  # what of a deviation lasts a lifetime
        noise = np.sqrt(variance[n] / steps) * _near_normal(points[2])
        least = float(self.step_s(1, np.zeros(1))[0])
        spread_out = at.mean() + kept * (at - at.mean()) + noise
        return np.maximum(spread_out + self._early_share(steps, early), least)


def spread(values: np.ndarray, mean: float | None = None) -> Spread:
    """Return mean and percentiles of values over requests."""
    return Spread(
        float(values.mean()) if mean is None else mean, *np.percentile(values, PERCENTILES).tolist()
    )


def lattice(dimensions: int, points: int) -> np.ndarray:
    """Points that fill the unit cube evenly: multiples of powers of a generalised golden ratio.

    Examples
    --------
    >>> lattice(1, 3).round(3).tolist()
    [[0.5, 0.118, 0.736]]
    """
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1, dimensions + 1)
    return (0.5 + steps[:, None] * np.arange(points)) % 1.0


def _near_normal(share):
    """Normal quantile by a logistic one of the same variance: within 0.1 up to the 99th percentile."""
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share)) / 1.75


def _drawn_tokens(chain: StepChain, duration_s, point):
    """Tokens that others bring during steps of these durations. [tokens]"""
    sums = np.cumsum(chain.arrivals.shares, axis=1)
    row = chain.arrivals.row(np.maximum(duration_s, chain.arrivals.durations_s[0]))
    return (sums[row] < point[:, None]).sum(axis=1) * chain.width
