"""Markov chain from step to step: sequences that decode, and prompt tokens that wait.

While a step runs, requests arrive at random; their prompts are the next step's work, up to the
token budget. The longer a step, the more arrive in it; those whose prompt is done decode, and
each step some of the decodes end. The chain has both feedbacks, and so the bursts in which
prompts hold up decodes. Arrivals in a step of ``T`` seconds bring a compound Poisson number of
tokens, taken by Fourier transform. Decodes end with equal probability in every step, whatever
their age: sharing a step makes the means insensitive to the distribution of output lengths.

Solved by iterative aggregation: one step of the whole chain, then the exact solution for
the number of decodes given how the backlog is spread at each, and again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: states of the backlog
STATES = 96
#: most iterations, and the change of all shares in one step at which they stop
_ITERATIONS, _PRECISION = 80, 1e-6
_TRACE = 1e-12
#: step durations for which arrivals are tabulated
_DURATIONS = 160


@dataclass(frozen=True, eq=False)
class Flow:
    """What a chain is about.

    ``step_s(n, tokens)`` is the time of a step and ``budget(n)`` its most prompt tokens beside
    ``n`` decodes; ``prompts`` equally likely tokens to prefill per request, ``decode_steps`` the
    mean of them a request needs, ``cap`` most that decode at once; ``is_chunked`` says whether
    prompts and decodes share steps.
    """

    step_s: Callable
    budget: Callable
    prompts: np.ndarray
    decode_steps: float
    cap: int
    requests_per_s: float
    is_chunked: bool


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Tokens that arrive during steps: distributions over widths, by duration of the step."""

    durations_s: np.ndarray
    shares: np.ndarray

    def row(self, seconds):
        """Index of the nearest tabulated duration."""
        return np.rint(np.interp(seconds, self.durations_s, np.arange(len(self.durations_s)))).astype(int)


@dataclass(frozen=True, eq=False)
class StepChain:
    """Stationary chain: a row per number of requests beyond prefill, a column per backlog.

    ``share_of_time`` is what an arrival meets; ``width`` tokens per column, ``running`` decodes
    of each row, ``served_tokens`` and ``carried_tokens`` what a step takes and leaves,
    ``finished_per_s`` prompts that the chain finishes (the arrival rate, but for its grid).
    """

    width: float
    running: np.ndarray
    served_tokens: np.ndarray
    carried_tokens: np.ndarray
    step_s: np.ndarray
    share_of_time: np.ndarray
    arrivals: Arrivals
    is_chunked: bool
    finished_per_s: float

    @property
    def in_flight(self) -> np.ndarray:
        """Probability of 0, 1, 2, ... requests beyond prefill."""
        return self.share_of_time.sum(axis=1)

    @property
    def mean_running(self) -> float:
        """Mean number of decodes."""
        return float((self.in_flight * self.running).sum())

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

    def excess_s(self, level: int, backlog_tokens: np.ndarray, count: int) -> np.ndarray:
        """How much longer than usual the next steps are from backlogs like these, at one level. [s]"""
        seconds, served = self.step_s[level], self.served_tokens[level]
        moves = _moves(
            self.carried_tokens[level] / self.width, self.arrivals.shares[self.arrivals.row(seconds)]
        )
        if not self.is_chunked:  # the decodes wait for the prompts
            seconds = seconds + np.where(served > 0, seconds[0], 0.0)
        usual = float(_stationary(moves) @ seconds)
        state = np.minimum(np.rint(backlog_tokens / self.width), STATES - 1).astype(int)
        shares = np.bincount(state, minlength=STATES) / len(state)
        excess = []
        for _ in range(count):
            excess.append(float(shares @ seconds) - usual)
            shares = shares @ moves
        return np.array(excess)


def step_chain(flow: Flow, levels: int, reach_tokens: float) -> StepChain:
    """Return the stationary chain on 0 to ``levels`` requests and backlogs up to a reach.

    What lies beyond either end is counted at that end.
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
    arrivals = _arrivals(flow, width, seconds)
    solution = _Solver(flow, running, state, served, seconds, width, arrivals)
    weight = solution.shares * seconds
    total = weight.sum()
    rate = float((solution.shares * solution.finished).sum() / total)
    return StepChain(
        width, running, served, state - served, seconds, weight / total, arrivals, flow.is_chunked, rate
    )


def _arrivals(flow: Flow, width: float, seconds: np.ndarray) -> Arrivals:
    steps = np.delete(seconds.ravel(), 0)
    durations = np.geomspace(steps.min(), steps.max() * (1 + 1e-9), _DURATIONS)
    masses = _masses(flow.prompts / width)
    return Arrivals(durations, _compound_poisson(flow.requests_per_s * durations, masses))


def _masses(values: np.ndarray) -> np.ndarray:
    """Probability on 0, 1, 2, ... (four times the states) of equally likely values, mean kept."""
    length = 4 * STATES
    values = np.minimum(values, 2 * STATES)
    low = np.floor(values).astype(int)
    up = values - low
    return (np.bincount(low, 1 - up, length) + np.bincount(low + 1, up, length)) / len(values)


def _compound_poisson(counts: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Distribution of the sum of a Poisson number (of these means) of values."""
    transform = np.fft.rfft(masses)
    total = np.maximum(np.fft.irfft(np.exp(counts[:, None] * (transform - 1)), len(masses)), 0.0)
    return total / total.sum(axis=1, keepdims=True)


class _Solver:
    """Shares of steps over (requests, backlog), and the prompts that each step finishes."""

    def __init__(self, flow: Flow, running, state, served, seconds, width, arrivals: Arrivals):
        self.shape = seconds.shape
        self.arriving = flow.requests_per_s * seconds  # mean requests during each step
        self.arriving[0, 0] = 0.0
        self.masses = _masses(flow.prompts / width)
        self.moves = _moves((state - served) / width, arrivals.shares[arrivals.row(seconds)])
        self.moves[0, 0] = self.moves[min(1, len(running) - 1), 0]  # for decodes that end in this step
        first = self.masses[:STATES]
        self.first = first / first.sum()  # idle: the next step begins with one request
        self.ends = _binomial(running, 1 / max(flow.decode_steps, 1.0))
        self.decodes = np.ones(self.shape, dtype=bool) if flow.is_chunked else served <= 0
        self.left = np.where(state > 0, 1 - served / np.maximum(state, width), 0.0)
        self.prompts = state / float(flow.prompts.mean())  # prompts in a backlog of each size
        self.finished = self._finished()
        self.shares = self._solved()

    def _finished(self) -> np.ndarray:
        return np.minimum((1 - self.left) * self.prompts, self.shape[0] - 1.5)

    def _solved(self) -> np.ndarray:
        """Iterative aggregation from an empty system."""
        shares = 0.5 ** np.broadcast_to(np.arange(float(self.shape[1])), self.shape)
        shares = shares / shares.sum()
        for _ in range(_ITERATIONS):
            shares = shares + _TRACE * shares.sum(axis=0)  # levels that were not met: as the others
            given = shares / shares.sum(axis=1, keepdims=True)
            before = given * _stationary(self._between_levels(given))[:, None]
            shares = self._one_step(before)
            if np.abs(shares - before).sum() < _PRECISION:
                break
        return shares / shares.sum()

    def _births(self) -> tuple[np.ndarray, np.ndarray]:
        low = np.floor(self.finished).astype(int)
        return low, self.finished - low

    def _between_levels(self, given) -> np.ndarray:
        """Transitions of the number of requests, backlogs being spread as given."""
        n, (low, up) = self.shape[0], self._births()
        resting = np.where(self.decodes, given, 0.0)
        rows, most = np.broadcast_to(np.arange(n)[:, None], self.shape), int(low.max()) + 2
        moves = np.zeros((n, n))
        for weights, ends in ((resting, self.ends), (given - resting, np.eye(n))):
            if not weights.any():
                continue
            births = np.zeros((n, most))
            np.add.at(births, (rows, low), weights * (1 - up))
            np.add.at(births, (rows, low + 1), weights * up)
            for count in np.flatnonzero(births.any(axis=0)):
                moved = births[:, count, None] * ends
                moves[:, count:] += moved[:, : n - count]
                moves[:, -1] += moved[:, n - count :].sum(axis=1)
        return moves / np.maximum(moves.sum(axis=1, keepdims=True), 1e-300)

    def _one_step(self, shares) -> np.ndarray:
        """Move all shares by one step: decodes end, prompts finish, others arrive."""
        n, (low, up) = self.shape[0], self._births()
        idle, shares = shares[0, 0], shares.copy()
        shares[0, 0] = 0.0
        resting = np.where(self.decodes, shares, 0.0)
        after = self.ends.T @ resting + (shares - resting)
        rows = np.arange(n)[:, None]
        columns = np.broadcast_to(np.arange(self.shape[1]), self.shape)
        moved = np.zeros(self.shape)
        np.add.at(moved, (np.minimum(rows + low, n - 1), columns), after * (1 - up))
        np.add.at(moved, (np.minimum(rows + low + 1, n - 1), columns), after * up)
        result = self._arrive(moved)
        result[0] += idle * self.first
        self._count_prompts(shares, idle, result)
        return result

    def _arrive(self, shares) -> np.ndarray:
        return np.matmul(shares[:, None, :], self.moves)[:, 0, :]

    def _count_prompts(self, before, idle, after) -> None:
        """Expected prompts in a backlog of each size: those left over and those that arrived."""
        left = self._arrive(before * self.left * self.prompts).sum(axis=0)
        others = self._arrive(before * self.arriving).sum(axis=0)
        new = np.convolve(others, self.masses)[: self.shape[1]] + idle * self.first
        total = after.sum(axis=0)
        known = total > 1e-12
        self.prompts = np.where(known, (left + new) / np.where(known, total, 1.0), self.prompts)
        self.finished = self._finished()


def _binomial(running: np.ndarray, share: float) -> np.ndarray:
    """Probability of each level after a step in which each decode ends with a probability."""
    n = len(running)
    ends = np.zeros((n, n))
    level = np.arange(n)
    most = int(running.max())
    chance = (1 - share) ** running if share < 1 else (running == 0).astype(float)
    for count in range(min(most, n - 1) + 1):
        ends[level[count:], level[count:] - count] = chance[count:]
        if share >= 1:
            chance = np.where(running == count + 1, 1.0, 0.0)
            continue
        chance = chance * np.maximum(running - count, 0) / (count + 1) * share / (1 - share)
        if count > most * share and chance.max() < 1e-9:
            break
    return ends / np.maximum(ends.sum(axis=1, keepdims=True), 1e-300)


def _moves(carried: np.ndarray, arriving: np.ndarray) -> np.ndarray:
    """Transitions of the backlog at each level; what lies beyond counts as the last state.

    What is carried over, in widths, is split between the whole ones next to it.
    """
    low = np.floor(carried + 1e-9).astype(int)
    up = np.maximum(carried - low, 0.0)[..., None]
    moves = _shifted(arriving, low)
    return (1 - up) * moves + up * _shifted(arriving, low + 1) if up.max() > 1e-6 else moves


def _shifted(arriving: np.ndarray, offset: np.ndarray) -> np.ndarray:
    place = np.arange(STATES) - offset[..., None]
    moves = np.take_along_axis(arriving[..., :STATES], np.maximum(place, 0), axis=-1)
    moves = np.where(place >= 0, moves, 0.0)
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
