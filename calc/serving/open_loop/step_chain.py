"""Markov chain from step to step: sequences that decode, and prompt tokens that wait.

While a step runs, requests arrive at random; their prompts are the next step's work, up to the
token budget. The longer a step, the more arrive in it; those whose prompt is done decode, and
each step some of the decodes end. The chain has both feedbacks, and so the bursts in which
prompts hold up decodes. Arrivals in a step of ``T`` seconds bring a compound Poisson number of
tokens, taken by Fourier transform. Decodes end with equal probability in every step, whatever
their age: sharing a step makes the means insensitive to the distribution of output lengths.

How many prompts a backlog holds is random where their lengths differ, and depends on how long the
step was that they came in: both are kept, for they are half of how the decodes fluctuate.

Solved by iterative aggregation: one step of the whole chain, then the exact solution for
the number of decodes given how the backlog is spread at each, and again.
"""

from dataclasses import dataclass

import numpy as np

from calc.serving.open_loop.flow import (
    STATES,
    Arrivals,
    Flow,
    arrivals_of,
    compound_poisson,
    dispersion,
    ending,
    masses_of,
    usual_s,
)

#: most iterations, and the change of all shares in one step at which they stop
_ITERATIONS, PRECISION = 80, 1e-5
_TRACE = 1e-12


@dataclass(frozen=True, eq=False)
class StepChain:
    """Stationary chain: a row per number of requests beyond prefill, a column per backlog.

    ``share_of_time`` is what an arrival meets; ``width`` tokens per column, ``cap`` most that decode at
    once, ``running`` decodes of each row, ``served_tokens`` and ``carried_tokens`` what a step takes and
    leaves, ``prompt_tokens`` the mean prompt, ``finished_per_s`` prompts that the chain finishes (the arrival
    rate, but for its grid).
    """

    width: float
    cap: int
    running: np.ndarray
    served_tokens: np.ndarray
    carried_tokens: np.ndarray
    step_s: np.ndarray
    share_of_time: np.ndarray
    arrivals: Arrivals
    is_chunked: bool
    finished_per_s: float
    prompt_tokens: float

    @property
    def in_flight(self) -> np.ndarray:
        """Probability of 0, 1, 2, ... requests beyond prefill."""
        return self.share_of_time.sum(axis=1)

    @property
    def mean_running(self) -> float:
        """Mean number of decodes."""
        prompts = self.served_tokens / self.prompt_tokens
        running = np.minimum(self.running[:, None], np.maximum(self.cap - prompts, 0.0))
        return float((self.share_of_time * running).sum())

    @property
    def decode_step_s(self) -> np.ndarray:
        """Mean time between two tokens, and its variance, by number of requests. [s], [s2]"""
        steps = self.share_of_time / self.step_s
        decoding = steps if self.is_chunked else steps * (self.served_tokens <= 0)
        count = np.maximum(decoding.sum(axis=1), 1e-300)
        mean = self.share_of_time.sum(axis=1) / count
        mean = np.where(count > 1e-12, mean, mean[count.argmax()])
        variance = (self.share_of_time * self.step_s).sum(axis=1) / count - mean**2
        return np.array([mean, np.where(count > 1e-12, np.maximum(variance, 0.0), 0.0)])


def step_chain(flow: Flow, levels: int, reach_tokens: float, precision: float = PRECISION) -> StepChain:
    """Return the stationary chain on 0 to ``levels`` requests and backlogs up to a reach.

    What lies beyond either end is counted at that end. ``precision`` is the change of all shares in
    a step at which it is solved.
    """
    width = reach_tokens / STATES
    mean = float(flow.prompts.mean())
    if width < mean:  # whole widths to a mean prompt: exact for prompts of one length
        width = mean / round(mean / width)
    running = np.minimum(np.arange(levels + 1.0), flow.cap)
    state = np.arange(STATES) * width
    served = np.minimum(state, flow.budget(running)[:, None])
    seconds = np.array(np.broadcast_to(flow.step_s(running[:, None], served), served.shape))
    seconds[0, 0] = 1 / flow.requests_per_s  # idle: the next step begins with a request
    arrivals = arrivals_of(flow, width, seconds)
    solution = _Solver(flow, running, state, served, seconds, width, arrivals, precision)
    weight = solution.shares * seconds
    total = weight.sum()
    rate = float((solution.shares * solution.finished).sum() / total)
    return StepChain(
        width=width,
        cap=flow.cap,
        running=running,
        served_tokens=served,
        carried_tokens=state - served,
        step_s=seconds,
        share_of_time=weight / total,
        arrivals=arrivals,
        is_chunked=flow.is_chunked,
        finished_per_s=rate,
        prompt_tokens=mean,
    )


class _Solver:
    """Shares of steps over (requests, backlog), and the prompts that each step finishes."""

    def __init__(self, flow: Flow, running, state, served, seconds, width, arrivals: Arrivals, precision):
        self.shape = seconds.shape
        self.arriving = flow.requests_per_s * seconds  # mean requests during each step
        self.arriving[0, 0] = 0.0
        self.masses = masses_of(flow.prompts / width)
        self.moves = moves_of((state - served) / width, arrivals, seconds)
        self.seconds = seconds
        self.moves[0, 0] = self.moves[min(1, len(running) - 1), 0]  # for decodes that end in this step
        first = self.masses[:STATES]
        self.first = first / first.sum()  # idle: the next step begins with one request
        self.decodes = np.ones(self.shape, dtype=bool) if flow.is_chunked else served <= 0
        self.deaths = ending(running, self._ending(flow, running), dispersion(flow, running))
        self.left = np.where(state > 0, 1 - served / np.maximum(state, width), 0.0)
        # prompts at each level and backlog
        self.prompts = np.broadcast_to(state / float(flow.prompts.mean()), self.shape)
        place = np.arange(STATES) - np.arange(STATES)[:, None]
        #: prompts of each size brought to each backlog
        self.bring = np.where(place >= 0, self.masses[np.maximum(place, 0)], 0.0)
        self.unknown = self._unknown(flow, running)
        self.finished = self._finished()
        self.shares = self._solved(precision)

    def _ending(self, flow: Flow, running) -> np.ndarray:
        """Chance of each decode to end in a step, by level.

        Beyond the places the prompts of those that wait are computed as others end, not as they
        arrive: steps take so long that requests end at the highest rate.
        """
        chance = np.full(len(running), 1 / max(flow.decode_steps, 1.0))
        if flow.full_per_s and len(running) > flow.cap + 1:
            shares, decodes = _stationary(self.moves[flow.cap]), self.decodes[flow.cap]
            usual = float(shares @ self.seconds[flow.cap]) / max(float(shares @ decodes), 1e-9)
            chance[flow.cap + 1 :] = np.minimum(chance[0], flow.full_per_s * usual / flow.cap)
        return chance

    def _finished(self) -> np.ndarray:
        return np.minimum((1 - self.left) * self.prompts, self.shape[0] - 1.5)

    def _solved(self, precision) -> np.ndarray:
        """Iterative aggregation from an empty system."""
        shares = 0.5 ** np.broadcast_to(np.arange(float(self.shape[1])), self.shape)
        shares = shares / shares.sum()
        for _ in range(_ITERATIONS):
            shares = shares + _TRACE * shares.sum(axis=0)  # levels that were not met: as the others
            given = shares / shares.sum(axis=1, keepdims=True)
            before = given * _stationary(self._between_levels(given))[:, None]
            shares = self._one_step(before)
            if np.abs(shares - before).sum() < precision:
                break
        return shares / shares.sum()

    def _births(self):
        """Numbers of prompts that a step may finish and the chance of each, by level and backlog.

        Of this mean, and of a variance that is at least that of whole numbers.
        """
        low = np.floor(self.finished).astype(int)
        up = self.finished - low
        rest = np.maximum(self.finished * self.unknown - up * (1 - up), 0.0)
        off = np.clip(np.ceil(np.sqrt(rest)).astype(int), 1, np.maximum(low, 1))
        chance = np.where(low > 0, np.minimum(rest / (2 * off**2), 0.5), 0.0)
        for offset, share in ((0 * off, 1 - 2 * chance), (off, chance), (-off, chance)):
            if share.any():
                yield np.maximum(low + offset, 0), (1 - up) * share
                yield low + 1 + offset, up * share

    def _between_levels(self, given) -> np.ndarray:
        """Transitions of the number of requests, backlogs being spread as given."""
        n, most = self.shape[0], self.deaths.shape[1] - 1
        resting, waiting = np.where(self.decodes, given, 0.0), np.where(self.decodes, 0.0, given)
        width = most + 3 * int(self.finished.max()) + 4
        changes = np.zeros((n, width))
        rows = np.arange(n)[:, None] * width + most
        for born, chance in self._births():
            place = (rows + born).ravel()
            births = np.bincount(place, (resting * chance).ravel(), n * width).reshape(n, width)
            for ended in range(most + 1):
                changes[:, : width - ended] += self.deaths[:, ended, None] * births[:, ended:]
            if waiting.any():
                changes += np.bincount(place, (waiting * chance).ravel(), n * width).reshape(n, width)
        level = np.clip(np.arange(n)[:, None] + np.arange(width) - most, 0, n - 1)
        place = np.arange(n)[:, None] * n + level
        moves = np.bincount(place.ravel(), changes.ravel(), n * n).reshape(n, n)
        return moves / np.maximum(moves.sum(axis=1, keepdims=True), 1e-300)

    def _one_step(self, shares) -> np.ndarray:
        """Move all shares by one step: decodes end, prompts finish, others arrive."""
        n = self.shape[0]
        idle, shares = shares[0, 0], shares.copy()
        shares[0, 0] = 0.0
        moved = np.zeros(self.shape)
        resting = np.where(self.decodes, shares, 0.0)
        for part, ended in ((resting, self._ended), (shares - resting, np.asarray)):
            for count, born in self._born(part):
                after, kept = ended(born), max(0, n - count)
                moved[n - kept :] += after[:kept]
                moved[-1] += after[kept:].sum(axis=0)
        result = self._arrive(moved)
        result[0] += idle * self.first
        self._count_prompts(moved, idle, result)
        return result

    def _born(self, shares):
        """Numbers of prompts that a step finishes, and the shares in which it does."""
        most = 3 * int(self.finished.max()) + 4
        born, place = np.zeros(most * shares.size), np.arange(shares.size).reshape(shares.shape)
        for count, chance in self._births():
            born += np.bincount((count * shares.size + place).ravel(), (shares * chance).ravel(), born.size)
        born = born.reshape(most, *shares.shape)
        for count in np.flatnonzero(born.reshape(most, -1).sum(axis=1) > 1e-12):
            yield int(count), born[count]

    def _ended(self, shares) -> np.ndarray:
        """Shares after some of the decodes have ended."""
        after = np.zeros(shares.shape)
        for ended in range(self.deaths.shape[1]):
            after[: len(after) - ended] += self.deaths[ended:, ended, None] * shares[ended:]
        return after

    def _arrive(self, shares) -> np.ndarray:
        return np.matmul(shares[:, None, :], self.moves)[:, 0, :]

    def _count_prompts(self, moved, idle, after) -> None:
        """Expected prompts at each level and backlog: those left over and those that arrived."""
        counted = np.stack([moved * self.left * self.prompts, moved * self.arriving], axis=1)
        counted = np.matmul(counted, self.moves)
        count = counted[:, 0] + counted[:, 1] @ self.bring
        count[0] += idle * self.first
        total, counts = after.sum(axis=0), count.sum(axis=0)
        usual = np.where(total > 1e-12, counts / np.maximum(total, 1e-12), self.prompts[0])
        known = after > 1e-14
        self.prompts = np.where(known, count / np.where(known, after, 1.0), usual)
        self.finished = self._finished()

    def _unknown(self, flow: Flow, running) -> np.ndarray:
        """Variance over mean of the prompts in a backlog, their tokens being known.

        The same tokens may be few long prompts or many short ones. In a compound Poisson sum the
        moments of the number follow from sums that one or two prompts are taken out of.
        """
        count = np.maximum(flow.requests_per_s * usual_s(flow, running), 1e-12)
        sums = compound_poisson(count, self.masses)[:, :STATES]
        one = count[:, None] * (sums @ self.bring)
        two = count[:, None] * (one @ self.bring)
        known = (sums > 1e-10) & (one > 1e-10)
        mean = np.where(known, one, 1.0) / np.where(known, sums, 1.0)
        variance = np.where(known, two, 0.0) / np.where(known, sums, 1.0) + mean - mean**2
        most = 1 - float(flow.prompts.mean() ** 2 / (flow.prompts**2).mean())  # of many prompts
        return np.where(known, np.clip(variance / mean, 0.0, most), most)


def moves_of(carried: np.ndarray, arrivals: Arrivals, seconds: np.ndarray) -> np.ndarray:
    """Transitions of the backlog at each level; what lies beyond counts as the last state.

    What is carried over, in widths, is split between the whole ones next to it.
    """
    before = np.zeros((len(arrivals.shares), STATES))
    table = np.concatenate([before, arrivals.shares[:, :STATES]], axis=1)
    low = np.floor(carried + 1e-9).astype(np.int32)
    up = np.maximum(carried - low, 0.0)
    place = arrivals.row(seconds).astype(np.int32) * table.shape[1] + STATES - low
    moves = np.take(table, place[..., None] + np.arange(STATES, dtype=np.int32), mode="clip")
    split = up > 1e-6
    if split.any():
        more = np.take(table, place[split][:, None] - 1 + np.arange(STATES, dtype=np.int32), mode="clip")
        moves[split] += up[split][:, None] * (more - moves[split])
    moves[..., -1] += np.maximum(0.0, 1 - moves.sum(axis=-1))
    return moves


def _stationary(moves: np.ndarray) -> np.ndarray:
    """Stationary shares; a trace of jumps to 0 keeps levels that are never met from mattering."""
    n = len(moves)
    moves = (1 - 1e-12) * moves
    moves[:, 0] += 1e-12
    system = moves.T - np.eye(n)
    system[-1] = 1.0
    shares = np.maximum(np.linalg.solve(system, np.eye(n)[-1]), 0.0)
    return shares / shares.sum()
