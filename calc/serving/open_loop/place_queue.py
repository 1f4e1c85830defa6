"""Queue for places: how likely it is, how long it grows, and how long a request in it waits.

All places being taken, requests come at random and places become free as others end: a queue fed by
noise, that drifts back by the highest rate less that of arrivals. How noisy it is depends on how long one
looks. At first requests end at random, whatever their lengths; that the services of one length
(or of very different ones) end more (or less) steadily shows once places have changed hands. So whether
a request has to wait depends little on the lengths, as in M/G/c (Tijms 2003, chapter 9), and how long it then
waits depends on them. Where cache binds, what comes and what leaves are of random sizes from the first.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calc.serving.open_loop.step_chain import StepChain

#: queue lengths tabulated, and the least exponent of the last
_LENGTHS, _LAST = 400, 16.0
#: queue length up to which the distribution of the number in flight goes
_SHOWN = 65_536
#: how far noise has come when a queue begins, in deviations of what comes while a place changes hands
#: (overshoot of a random walk: Siegmund 1985)
_BEFORE = 0.583
#: shares of time below which places are never taken
_TRACE = 1e-12


@dataclass(frozen=True)
class PlaceQueue:
    """Requests that wait for one of ``places`` at an arrival rate below the highest. [1/s]

    Squared coefficients of variation: ``sizes`` of what a request takes of the limit that binds, ``works`` of
    what it takes times how long, ``prompts`` of its prompt. ``prefill_share`` is the share of time that
    prompts take while all places are taken, ``ends`` variance over mean of the requests that end in a
    step, ``deviation`` by how many the number that fits deviates. ``kept_s`` is how long what is taken is
    kept, ``lasting`` how far those that take more keep it longer: 0 if not, 1 if they do at random.
    ``is_one_by_one`` says that each end gives one place: where cache binds that requests take bit by bit, one
    gives a part of one or more than one.
    """

    places: float
    requests_per_s: float
    max_requests_per_s: float
    sizes: float
    works: float
    prompts: float
    prefill_share: float
    ends: float
    deviation: float
    kept_s: float
    lasting: float
    is_one_by_one: bool

    @property
    def drift_per_s(self) -> float:
        """Requests by which a queue shrinks. [1/s]"""
        return self.max_requests_per_s - self.requests_per_s

    def _ended_per_s(self, ends: float) -> float:
        """Variance of the requests that end in a short time, over that time. [1/s]

        Steps with prompts are as many as the requests that end, which evens out their number in time:
        only the share of time without them, and the lengths of the prompts, are random.
        """
        random = (1 - self.prefill_share) ** 2 * ends + self.prefill_share**2 * self.prompts
        return self.max_requests_per_s * random

    @property
    def _first_per_s(self) -> float:
        """Variance of the requests that come, less those that find a place, in a short time, over it. [1/s]

        Where cache binds, what comes and what ends are of random sizes too.
        """
        sizes = (self.requests_per_s + self.max_requests_per_s) * self.sizes
        return self.requests_per_s + self._ended_per_s(self.ends) + sizes

    def noise_per_s(self, seconds):
        """Variance of the requests that come, less those that end, in a time, over that time. [1/s]

        The longer, the more of it is that of the services: for services of one length exactly so,
        until each place has changed hands once. Where those that take more keep it longer, it shows only
        as what was taken at first is given back, at a rate that falls off exponentially.
        """
        turns = np.maximum(np.minimum(seconds, 1e9 * self.kept_s) / self.kept_s, 1e-9)
        alike, random = np.maximum(0.0, 1 - turns), -np.expm1(-turns) / turns
        kept = alike + self.lasting * (random - alike)
        first = self._first_per_s
        last = self.requests_per_s + self.max_requests_per_s * self.works
        return last + (first - last) * kept

    @property
    def mean_length(self) -> float:
        """Mean length of the queue if requests ended as randomly as they do at first, in requests."""
        return self._first_per_s / (2 * self.drift_per_s)

    def tail(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queue lengths, the share of queues longer than each, and the wait that goes with it. [s]

        The share falls with the drift over the noise, looked at for as long as it takes to come so
        far: by noise alone, or against the drift if that is sooner. Where each end gives one place it
        has come some way when a queue begins, for ends remember who came before; an end that frees
        cache for a part of a prompt, or for more than one, does not. First come, first served: the
        queue left behind is what came during the wait, so that one falling by ``exp(-a)`` per request
        goes with waits falling by ``rate * (exp(a) - 1)`` per second.
        """
        first, last = (float(self.noise_per_s(seconds)) for seconds in (0.0, np.inf))
        lengths = np.linspace(0.0, _LAST * max(first, last) / (2 * self.drift_per_s), _LENGTHS)
        far = lengths + (_BEFORE * np.sqrt(self.places) if self.is_one_by_one else 0.0)
        seconds = np.minimum(far**2 / first, far / self.drift_per_s)
        fall = 2 * self.drift_per_s / self.noise_per_s(seconds)
        per_length_s = fall / (self.requests_per_s * np.expm1(np.minimum(fall, 50.0)))
        return lengths, np.exp(-_integral(fall, lengths)), _integral(per_length_s, lengths)

    def raised(self, fall: float, variance: float) -> float:
        """How much likelier it is that all places are taken as what fits into them fluctuates.

        The number in flight, of this variance, falls off by this exponent per request near the places;
        both being normal, their variances add up. Where few fit, for they are large, each that ends
        frees room for more: the queue shrinks no more slowly.
        """
        other = self.deviation**2
        part = variance / max(variance + other, 1e-9)
        return float(np.exp(min(max(fall, 0.0) ** 2 * other / 2 * part, 50.0)))

    @property
    def held_up(self) -> float:
        """Share of time that the prompts of those who come take while a place is free: they hold up ends."""
        return self.prefill_share * self.requests_per_s / self.max_requests_per_s


def _integral(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum((values[1:] + values[:-1]) / 2 * np.diff(points))])


@dataclass(frozen=True, eq=False)
class Met:
    """What arrivals meet: shares of time in which a place is free, and a queue for places else.

    ``share_of_time`` are those of the chain while a place is free, ``probability`` that none is, and
    ``taken`` what requests find that get a place then, in shares that sum to it; ``lengths`` and
    ``waits_s`` of the queue then, and ``up_to`` the shares of queues up to each.
    """

    places: float
    share_of_time: np.ndarray
    probability: float
    taken: np.ndarray
    lengths: np.ndarray
    waits_s: np.ndarray
    up_to: np.ndarray

    def wait_s(self, point):
        """Waits for a place at points of the unit interval, 0 where one is free. [s]"""
        depth = (point - (1 - self.probability)) / max(self.probability, 1e-300)
        return np.where(depth > 0, np.maximum(np.interp(depth, self.up_to, self.waits_s), 1e-9), 0.0)

    @cached_property
    def in_flight(self) -> np.ndarray:
        """Probability of 0, 1, 2, ... requests beyond prefill, those in the queue with them.

        A queue near the highest rate has no bound: those that are longer than ``_SHOWN`` count as that long.
        """
        cap = round(self.places)
        found = self.share_of_time.sum(axis=1)[: cap + 1]
        if self.probability:
            found = np.concatenate([found, np.zeros(cap + 1 - len(found))])
            whole = np.arange(min(int(self.lengths[-1]), _SHOWN) + 2)
            up_to = np.interp(whole, self.lengths, self.up_to)
            up_to[-1] = 1.0
            found = np.concatenate([found, np.diff(up_to) * self.probability])
        return found / found.sum()

    @property
    def mean_in_flight(self) -> float:
        """Mean number of requests beyond prefill, however long the queue."""
        shown = self.in_flight
        longer = np.maximum(self.lengths - _SHOWN, 0.0)
        beyond = self.probability * float(_integral(1 - self.up_to, longer)[-1])
        return float((shown * np.arange(len(shown))).sum()) + beyond


def met(chain: StepChain, queue: PlaceQueue) -> Met:
    """Return what arrivals meet.

    The chain is right up to where all places are taken, by requests that decode and prompts that are
    computed. The queue begins as likely as that is, and goes on from there.
    """
    shares, prompts = chain.share_of_time, (chain.served_tokens + chain.carried_tokens) / chain.prompt_tokens
    number = np.arange(len(shares))[:, None] + prompts + queue.requests_per_s * chain.step_s / 2
    number[0, 0] = 0.0
    mean = float((shares * number).sum())
    variance = float((shares * (number - mean) ** 2).sum())
    free = np.where(number <= queue.places, shares, 0.0)
    beyond = _taken(free, queue.places - number, variance, queue)
    # a place is given as another request ends, which is as likely in any step
    taken = np.maximum(shares - free, _TRACE * shares) / chain.step_s
    free, beyond = (each / (float(free.sum()) + beyond) for each in (free, beyond))
    taken = taken * (beyond / float(taken.sum()))
    lengths, longer, waits_s = queue.tail()
    up_to = (1 - longer) / (1 - longer[-1])
    return Met(queue.places, free, beyond, taken, lengths, waits_s, up_to)


def _taken(free: np.ndarray, left: np.ndarray, variance: float, queue: PlaceQueue) -> float:
    """Share of time in which all places are taken, to shares of time by the number that is left.

    Near its end the density is that of an exponential fall. A prompt that is computed as it comes holds
    up ends, so that the number in flight moves ``1 / (1 - held_up)`` times as far as the work that it
    stands for. Beyond the places a request that comes is computed as another ends, and counts as
    one: it is by work that the density goes on from there.
    """
    near = max(1.0, np.round(np.sqrt(variance) / 4))
    last, before = (float(free[(left >= i * near) & (left < (i + 1) * near)].sum()) for i in (0, 1))
    if min(last, before) < _TRACE:
        return 0.0
    fall = float(np.log(before / last)) / near
    edge = last / near * np.exp(-fall * near / 2)
    by_work = edge / (1 - queue.held_up)
    return float(by_work * queue.mean_length * queue.raised(fall, variance))
