"""What flows through a chain from step to step: tokens that arrive, and decodes that end.

Distributions per step: of prompt tokens that arrive while it runs, in states of the backlog, and of
decodes that end in it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: states of the backlog
STATES = 96
#: step durations for which arrivals are tabulated
_DURATIONS = 160


@dataclass(frozen=True, eq=False)
class Flow:
    """What a chain is about.

    ``step_s(n, tokens)`` is the time of a step and ``budget(n)`` its most prompt tokens beside
    ``n`` decodes, ``growth(n)`` the share of a decode step that grows with them and how far with their
    prompts; ``prompts`` equally likely tokens to prefill per request, ``decode_steps`` the
    mean of them a request needs, ``cap`` most that decode at once; ``is_chunked`` says whether
    prompts and decodes share steps; ``full_per_s`` the rate at which requests end where others wait
    for a place, 0 where it is not places that set the highest rate; ``steadiness`` the mean lesser of
    two requests' decode steps over the mean: 1/2 where they end at random, 1 where all are alike.
    """

    step_s: Callable
    budget: Callable
    growth: Callable
    prompts: np.ndarray
    decode_steps: float
    cap: int
    requests_per_s: float
    is_chunked: bool
    full_per_s: float
    steadiness: float


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Tokens that arrive during steps: distributions over widths, by duration of the step."""

    durations_s: np.ndarray
    shares: np.ndarray

    def row(self, seconds):
        """Index of the nearest tabulated duration."""
        return np.rint(np.interp(seconds, self.durations_s, np.arange(len(self.durations_s)))).astype(int)


def arrivals_of(flow: Flow, width: float, seconds: np.ndarray) -> Arrivals:
    """Return the tokens that arrive during steps of these times, in widths."""
    steps = np.delete(seconds.ravel(), 0)
    durations = np.geomspace(steps.min(), steps.max() * (1 + 1e-9), _DURATIONS)
    masses = masses_of(flow.prompts / width)
    return Arrivals(durations, compound_poisson(flow.requests_per_s * durations, masses))


def masses_of(values: np.ndarray) -> np.ndarray:
    """Probability on 0, 1, 2, ... (four times the states) of equally likely values, mean kept."""
    length = 4 * STATES
    values = np.minimum(values, 2 * STATES)
    low = np.floor(values).astype(int)
    up = values - low
    return (np.bincount(low, 1 - up, length) + np.bincount(low + 1, up, length)) / len(values)


def compound_poisson(counts: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Distribution of the sum of a Poisson number (of these means) of values."""
    transform = np.fft.rfft(masses)
    total = np.maximum(np.fft.irfft(np.exp(counts[:, None] * (transform - 1)), len(masses)), 0.0)
    return total / total.sum(axis=1, keepdims=True)


def usual_s(flow: Flow, running: np.ndarray) -> np.ndarray:
    """Time of a step by number of decodes when as many tokens are computed as arrive in it. [s]"""
    most, mean = flow.budget(running), float(flow.prompts.mean())
    low, high = 0.0 * most, most
    for _ in range(30):
        middle = (low + high) / 2
        more = flow.requests_per_s * mean * flow.step_s(running, middle) > middle
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return flow.step_s(running, high)


def usual_levels(flow: Flow, tail: float) -> int:
    """Levels beyond which little is left when each has its usual steps: a start for widening."""
    n = np.arange(flow.cap + 1.0)
    brought = np.maximum(flow.requests_per_s * usual_s(flow, n), 1e-12)[:-1]
    logs = np.concatenate([[0.0], np.cumsum(np.log(brought * max(flow.decode_steps, 1.0) / n[1:]))])
    shares = np.exp(logs - logs.max())
    return 16 + int(1.25 * np.searchsorted(np.cumsum(shares), (1 - tail) * shares.sum()))


def dispersion(flow: Flow, running: np.ndarray) -> np.ndarray:
    """Variance over mean of the decodes that end in a step, by level.

    Prompts hold up the steps in which others arrive, so that requests come in bursts: a variance
    ``k`` times as large as of random arrivals. Requests of random lengths end at random; those of
    one length end in the bursts they came in. Linear noise: the variance of the number in flight
    is the insensitive one times ``k s + 1 - s`` at a steadiness of ``s``.

    Those of long prompts hold up more: their prefill, and every step that reads their cache. What a step
    takes so fluctuates further than the number of decodes. Their covariance, which is what the
    mean time per token follows from, is a mean of that of arrivals (jumps in number times jumps in
    time) and of the variance of the time, weighted by the share ``g`` of a step that grows, as
    ``g / (2 - g)``: the stationary covariance of two linear processes, the number pulled along.
    """
    mean = float(flow.prompts.mean())
    unlike = float(flow.prompts.var()) / mean**2
    busy, s = _busy(flow, running), flow.steadiness
    grows, by_prompt = flow.growth(running)
    weight = grows / (2 - grows)
    held = busy + (1 - busy) * by_prompt
    bursts = (1 + busy**2 * unlike) / (1 - busy) ** 2
    both = (1 + ((1 - weight) * busy + weight * held) * held * unlike) / (1 - busy) ** 2
    found = 2 * s * both + 2 * (1 - s) * (1 + weight * by_prompt**2 * unlike) - bursts
    few = np.maximum(1 - 4 / np.maximum(running, 1), 0)  # few end one by one
    found = 1 + (np.maximum(found, 1.0) - 1) * few
    found[flow.cap + 1 :] = 1.0  # prompts come as others end, no longer as they arrive
    return found


def _busy(flow: Flow, running: np.ndarray) -> np.ndarray:
    """Share of time that steps take for the prompts that arrive, by level."""
    most = flow.budget(running)
    per_token = (flow.step_s(running, 0.99 * most) - flow.step_s(running, 0.01 * most)) / (0.98 * most)
    return np.clip(flow.requests_per_s * float(flow.prompts.mean()) * per_token, 0.0, 0.95)


def ending(running: np.ndarray, share: np.ndarray, dispersion: np.ndarray) -> np.ndarray:
    """Probability that 0, 1, ... of so many decodes end in a step, each with a probability.

    Binomial where variance and mean are alike, else negative binomial.
    """
    share = np.minimum(share, 1 - 1e-12)
    size = running * share / np.maximum(dispersion - 1, 1e-9)
    is_binomial = dispersion < 1 + 1e-6
    chance, columns = np.where(is_binomial, (1 - share) ** running, dispersion**-size), []
    for count in range(int(running.max()) + 1):
        columns.append(np.where(count <= running, chance, 0.0))
        single = np.maximum(running - count, 0) * share / (1 - share)
        chance = chance * np.where(is_binomial, single, (size + count) * (1 - 1 / dispersion)) / (count + 1)
        if count > (running * share).max() and chance.max() < 1e-9:
            break
    table = np.stack(columns, axis=1)
    return table / table.sum(axis=1, keepdims=True)
