"""Times per output token over requests: what a request's own steps take on average."""

import numpy as np

from calc.serving.open_loop.answer import Spread, spread
from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.early import excess_s
from calc.serving.open_loop.first_token import FirstToken
from calc.serving.open_loop.points import POINTS, lattice, near_normal
from calc.serving.open_loop.step_chain import StepChain


def per_token(chain: StepChain, capacity: Capacity, first: FirstToken) -> Spread:
    """Return the times per token over requests.

    The mean over tokens is that of Little's law. Short outputs see more of the long steps that follow
    a prompt: by that the mean over requests is longer.
    """
    demand = capacity.demand
    if not demand.decode_steps:
        return spread(np.full(2, float("nan")))
    mean = chain.mean_running / chain.finished_per_s / demand.decode_steps
    early = np.cumsum(excess_s(chain, first.level, first.left_tokens, demand.decode_steps))
    steps = demand.output_tokens[demand.output_tokens > 1] - 1
    shares = _early_share(steps, early)
    mean = mean + float(shares.mean() - (shares * steps).sum() / steps.sum())
    return spread(_seconds(chain, capacity, early), mean)


def _early_share(steps, early):
    """Excess of the mean over the first so many steps. [s]"""
    return early[np.minimum(steps, len(early)).astype(int) - 1] / steps


def _seconds(chain: StepChain, capacity: Capacity, early) -> np.ndarray:
    """Times per token over requests, each a mean over its own steps. [s]"""
    points, demand = lattice(3, POINTS), capacity.demand
    shares = chain.in_flight
    met = np.searchsorted(np.cumsum(shares), points[0] * (1 - 1e-9))
    n = np.clip(met + 1, 1, len(shares) - 1)
    steps = demand.output_tokens[(points[1] * len(demand.output_tokens)).astype(int)] - 1
    steps = np.maximum(steps, 1.0)
    mean, variance = chain.decode_step_s
    at = mean[n]
    age = steps / max(demand.decode_steps, 1e-9)
    kept = np.sqrt(2 / age**2 * (age - 1 + np.exp(-age)))  # what of a deviation lasts a lifetime
    noise = np.sqrt(variance[n] / steps) * near_normal(points[2])
    least = float(capacity.step_s(1, np.zeros(1))[0])
    spread_out = at.mean() + kept * (at - at.mean()) + noise
    return np.maximum(spread_out + _early_share(steps, early), least)
