"""The chain of a deployment at an arrival rate: from step times and lengths to times over requests."""

from math import lgamma

import numpy as np

from calc.serving.flow import STATES, Flow, usual_levels
from calc.serving.open_loop import Demand, OpenLoop, Spread, places, spread
from calc.serving.scheduler import Scheduler
from calc.serving.step_chain import StepChain, step_chain
from calc.serving.step_table import StepTable

#: share of the highest rate that stands in for no arrivals at all
_IDLE_LOAD = 1e-5
#: points at which distributions over requests are evaluated
_POINTS = 8192
#: share of time at the ends of the chain above which it is widened, and how often
_TAIL, _WIDENINGS = 3e-4, 7
#: change of all shares in a step up to which it is solved until it is wide enough
_SKETCH = 1e-3
#: requests in the chain that wait for a place; longer queues are continued geometrically
_QUEUE = 60
#: steps after the prompt that are followed one by one
_EARLY = 60


class RateChain:
    """The chain of one deployment and demand, for any rate."""

    def __init__(self, table: StepTable, rules: Scheduler, demand: Demand):
        self.table, self.rules, self.demand = table, rules, demand
        self.places, self.is_chunked = places(rules, demand), rules.policy == "chunked"
        self.cap = self.places.cap
        self.context = demand.context_tokens
        per_token = float(table.surplus(1, table.budget_tokens)) / table.budget_tokens
        own = table.prompt_attention(demand.new_tokens, demand.cached_tokens)
        whole = float(np.minimum(demand.new_tokens, table.budget_tokens).mean())
        first = whole * (np.arange(8) + 0.5) / 8
        pieces = table.attention(first) + table.attention(whole - first)
        pieces = pieces + table.past(whole - first, first + demand.cached_tokens.mean())
        #: what it costs that a full step ends within a prompt, whose rest looks back at it [s]
        self.cut_s = max(0.0, float(pieces.mean() - table.attention(whole)))
        self.prompt = float(demand.new_tokens.mean())
        #: attention of a prompt token [s]
        self.attention_s = float(own.mean()) / self.prompt
        #: prompts in tokens, scaled by the time that is theirs: the longer, the more attention
        self.work = demand.new_tokens * per_token + own
        self.work = self.work * (self.prompt / float(self.work.mean()))
        self.max_rate, self.bottleneck = self._max_rate()

    def step_s(self, n, tokens):
        """Time of a step with ``n`` decodes waiting for it and so many prompt tokens. [s]"""
        beside = n if self.is_chunked else np.where(tokens > 0, 0, n)
        further = np.maximum(tokens / self.prompt - 1, 0.0) * self.table.sequence_s
        cut = np.where(tokens >= self.budget(n), self.cut_s, 0.0)
        return self.table.step(beside, self.context, tokens) + tokens * self.attention_s + further + cut

    def budget(self, n):
        """Prompt tokens that fit into a step beside ``n`` decodes. [tokens]"""
        return np.maximum(1.0, self.rules.budget_tokens - (n if self.is_chunked else 0 * n))

    def _max_rate(self) -> tuple[float, str]:
        """Highest rate with a steady state, and what sets it.

        A place is taken for the decode steps of a request and for that of its prompt.
        """
        steps = max(self.demand.decode_steps, 1e-9)
        if not self.is_chunked:
            return self._max_rate_apart(steps)
        finishing = self.cap / (steps + 1)
        if finishing * self.prompt < self.budget(self.cap):
            n = max(1.0, self.cap - finishing)  # less than one decode takes no time
            return finishing / self._mean_step(n, finishing), "places"
        # so many decodes that the prompts of their successors fill a step
        n = min(self.cap, self.rules.budget_tokens * steps / (self.prompt + steps))
        started = float(self.budget(n)) / self.prompt
        return started / float(self.step_s(n, self.budget(n))), "prefill"

    def _max_rate_apart(self, steps) -> tuple[float, str]:
        """Highest rate when prompts run in steps of their own: the two times add up."""
        full = float(self.step_s(0, self.budget(0.0))) / (self.budget(0.0) / self.prompt)
        own = float(np.mean(self.step_s(0, np.minimum(self.work, self.budget(0.0)))))
        decode = steps * float(self.step_s(self.cap, np.zeros(1))[0]) / self.cap
        together = self.cap / steps
        prefill = own if together < 1 else full + (own - full) / max(together, 1.0)
        return 1 / (decode + prefill), "places" if decode > prefill else "prefill"

    def _mean_step(self, n, requests) -> float:
        """Mean time of steps in which prompts (of this mean) start at random, so many a step.

        Prompts beyond the budget are left for further steps, in which fewer start.
        """
        low, high = requests, 1e3 * requests + 1e3
        for _ in range(40):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if self._started(n, middle)[0] < requests else (low, middle)
        return self._started(n, high)[1]

    def _started(self, n, at_once) -> tuple[float, float]:
        """Prompts per step and mean time of steps, when so many on average start at once."""
        most = int(at_once + 10 * np.sqrt(at_once) + 12)
        counts = np.unique(np.linspace(0, most, min(most + 1, 400)).round())
        logs = counts * np.log(max(at_once, 1e-12)) - at_once - _log_factorials(counts)
        chance = np.exp(logs - logs.max())
        budget = self.budget(n)
        steps = np.maximum(counts * self.prompt / budget, 1.0)
        seconds = steps * self.step_s(n, np.minimum(counts * self.prompt, budget))
        total = (chance * steps).sum()
        return float((chance * counts).sum() / total), float((chance * seconds).sum() / total)

    def at(self, rate: float) -> OpenLoop:
        """Return what requests see at a rate."""
        if rate >= self.max_rate:
            return self._unsteady(rate)
        asked, rate = rate, max(rate, _IDLE_LOAD * self.max_rate)
        chain = self._balance(rate)
        ttft, queue, early, place = self._first_token(chain)
        ttft = ttft + self.table.request_s
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
            queue_probability=float((place > 0).mean()),
            ttft=spread(ttft),
            tpot=spread(self._per_token(chain, early), mean + self._mean_early(early)),
            queue=spread(queue),
        )

    def _unsteady(self, rate: float) -> OpenLoop:
        infinite = float("inf")
        times = [Spread(infinite, infinite, infinite, infinite)] * 3
        return OpenLoop(
            rate, self.max_rate, False, self.bottleneck, self.cap, np.zeros(0), infinite, 1.0, *times
        )

    def _balance(self, rate: float) -> StepChain:
        """Return the chain from step to step, on as many requests and tokens as matter."""
        prompts, steps = self.work, self.demand.decode_steps
        full = self.max_rate if self.bottleneck == "places" else 0.0
        flow = Flow(
            self.step_s,
            self.budget,
            prompts,
            steps,
            self.cap,
            rate,
            self.is_chunked,
            full,
            self.demand.steadiness,
        )
        most = self.cap + _QUEUE
        levels = min(most, usual_levels(flow, _TAIL))
        reach = float(np.quantile(prompts, 0.999)) + 4 * float((prompts**2).mean() / prompts.mean())
        for _ in range(_WIDENINGS):
            chain = step_chain(flow, min(levels, most), reach, _SKETCH)
            many = chain.in_flight[-max(2, levels // 8) :].sum() > _TAIL and levels < most
            far = chain.share_of_time[:, -STATES // 8 :].sum() > _TAIL
            if not (many or far):
                break
            levels, reach = levels * (2 if many else 1), reach * (1.6 if far else 1)
        return step_chain(flow, min(levels, most), reach)

    def _first_token(self, chain: StepChain):
        """Times to first token and until a prompt is begun, at evenly spread points, and what follows. [s]"""
        points = lattice(8, _POINTS)
        share_of_time = self._weighed(chain)
        met = np.searchsorted(np.cumsum(share_of_time), points[0] * (1 - 1e-9))
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
        wait = (1 - elapsed) * duration
        before = (chain.served_tokens[count, state] + ahead) / self.prompt
        place = self._place_wait(chain, count, before, points[5], points[6])
        last_s = self.step_s(n, np.maximum(last, 1.0))
        early = self._early(chain, n, backlog - last, last_s, points[6])
        begun, done = wait + np.floor(ahead / budget) * full_s, wait + full * full_s + last_s
        placed = np.where(place > 0, place + self._alone_s(prompt), 0.0)
        return np.maximum(done, placed), np.maximum(begun, place), early, place

    def _alone_s(self, prompt):
        """Time of a prompt's own steps when each prompt starts as another request ends. [s]"""
        others = self.cap / (self.demand.decode_steps + 1) * self.prompt
        budget = self.budget(self.cap)
        full = np.maximum(np.ceil((prompt + others) / budget) - 1, 0)
        return full * self.step_s(self.cap, budget) + self.step_s(self.cap, prompt + others - full * budget)

    @property
    def _stretch(self) -> float:
        """How much longer a queue for places is than one of random services.

        It grows with the variance of what it is asked and of what it serves. The chain's is
        that of random arrivals and departures; what a place costs varies otherwise (Kingman).
        """
        return (1 + self.places.variation) / 2

    def _weighed(self, chain: StepChain) -> np.ndarray:
        """Shares of time, those beyond the places by how the places that fit fluctuate.

        Where the number in flight falls off geometrically, normal fluctuations of the places raise
        the chance to find them taken (the mean of an exponential); at most as for a long queue.
        """
        shares, levels = chain.share_of_time.copy(), chain.in_flight
        if len(levels) > self.cap + 1 and self.cap > 1:
            near = max(1, int(self.places.deviation))
            fall = np.log(max(levels[max(0, self.cap - near)], 1e-300) / max(levels[self.cap], 1e-300)) / near
            more = np.exp(min(50.0, (max(fall, 0.0) * self.places.deviation) ** 2 / 2))
            shares[self.cap + 1 :] *= min(more, max(1.0, self._stretch))
        return shares / shares.sum()

    def _place_wait(self, chain: StepChain, count, before, share, further):
        """Wait of requests that find all places taken. [s]

        ``before`` prompts have to be computed first, and need a place too. Each departure brings
        them one place nearer.
        """
        shares, queued = chain.in_flight, np.maximum(count - self.cap, 0)
        if len(shares) > self.cap + _QUEUE:  # the last level stands for all beyond
            ratio = np.clip(shares[-3] / max(shares[-4], 1e-300), 1e-6, 0.999)
            beyond = np.log1p(-np.clip(further, 0, 1 - 1e-6)) / np.log(ratio)
            queued = queued + np.where(count == len(shares) - 1, np.floor(beyond), 0)
        ahead = np.minimum(count, self.cap) + queued + before + 1 - self.cap
        seen = np.maximum(ahead + np.sqrt(np.maximum(ahead, 1)) * _near_normal(share), 0.0)
        return np.where(ahead > 0, seen, 0.0) * self._stretch / self.max_rate

    def _early(self, chain: StepChain, n, left, last_s, point) -> np.ndarray:
        """By how much the first 1, 2, ... steps after one's prompt together exceed as many others. [s]

        Those who arrive during a long step make the next one long; followed at the mean number
        of decodes.
        """
        level = int(np.clip(np.rint(np.mean(n)) + 1, 1, len(chain.running) - 1))
        return np.cumsum(chain.excess_s(level, left + _drawn_tokens(chain, last_s, point), _EARLY))

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


def _log_factorials(counts: np.ndarray) -> np.ndarray:
    return np.array([lgamma(count + 1) for count in counts.tolist()])


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
