"""Times to first token: what arrivals meet in a chain, plus their own prompts."""

from dataclasses import dataclass

import numpy as np

from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.flow import STATES, Arrivals, Flow, compound_poisson, masses_of
from calc.serving.open_loop.place_queue import Met
from calc.serving.open_loop.points import POINTS, drawn_widths, lattice
from calc.serving.open_loop.step_chain import StepChain

#: durations for which arrivals are tabulated, and the least over the longest
_DURATIONS, _LEAST = 128, 1e-4


@dataclass(frozen=True, eq=False)
class FirstToken:
    """What requests see up to their first token, at evenly spread points.

    ``seconds`` to the first token, ``begun_s`` until the first of the prompt is computed; ``level`` requests
    beyond prefill and ``left_tokens`` that wait when the prompt is done.
    """

    seconds: np.ndarray
    begun_s: np.ndarray
    level: np.ndarray
    left_tokens: np.ndarray


def first_token(chain: StepChain, capacity: Capacity, flow: Flow, met: Met) -> FirstToken:
    """Return what requests see up to their first token.

    A request waits for the running step, and for the prompts that were there or came before it during
    that step. Those that come after it share its last step, and are left behind.
    """
    points = lattice(7, POINTS)
    level, state, queued = _states(met, points[0])
    n, idle = chain.running[level], (level == 0) & (state == 0)
    prompt, elapsed = capacity.work[(points[1] * len(capacity.work)).astype(int)], points[2]
    running_s = np.where(idle, 0.0, chain.step_s[level, state])
    before = _brought(chain, flow, elapsed * running_s, points[3])
    after = _brought(chain, flow, (1 - elapsed) * running_s, points[4])
    ahead, budget = chain.carried_tokens[level, state] + before, capacity.budget(n)
    full, full_s = np.maximum(np.ceil((ahead + prompt) / budget) - 1, 0.0), capacity.step_s(n, budget)
    backlog = ahead + after + prompt - full * budget + _brought(chain, flow, full * full_s, points[5])
    last = np.minimum(budget, backlog)
    last_s = capacity.step_s(n, np.maximum(last, 1.0))
    left = backlog - last + _brought(chain, flow, last_s, points[6])
    wait = (1 - elapsed) * running_s
    begun, done = wait + np.floor(ahead / budget) * full_s, wait + full * full_s + last_s
    place = met.wait_s(points[0])
    placed = place + _alone_s(capacity, prompt)
    waiting = state * chain.width  # the step after one's own is any step with all places taken
    return FirstToken(
        seconds=np.where(queued, placed, done),
        begun_s=np.where(queued, place, begun),
        level=np.where(queued, level, level + 1.0),
        left_tokens=np.where(queued, waiting, left),
    )


def _states(met: Met, point):
    """Level and backlog that are met at points of the unit interval, and whether all places are taken."""
    sums = np.cumsum(np.concatenate([met.share_of_time.ravel(), met.taken.ravel()]))
    row = np.searchsorted(sums, point * sums[-1] * (1 - 1e-9))
    level, state = np.unravel_index(row % met.taken.size, met.taken.shape)
    return level, state, row >= met.taken.size


def _brought(chain: StepChain, flow: Flow, duration_s, point):
    """Tokens that others bring in these durations; on average beyond those that fill the chain. [tokens]"""
    tokens_per_s = flow.requests_per_s * chain.prompt_tokens
    longest = min(float(duration_s.max()), STATES * chain.width / tokens_per_s)
    if longest <= 0:
        return np.zeros(len(duration_s))
    durations = np.geomspace(_LEAST, 1, _DURATIONS) * longest
    masses = masses_of(flow.prompts / chain.width)
    arrivals = Arrivals(durations, compound_poisson(flow.requests_per_s * durations, masses))
    tokens = drawn_widths(arrivals, duration_s, point) * chain.width
    return np.where(duration_s > 0, tokens + np.maximum(duration_s - longest, 0.0) * tokens_per_s, 0.0)


def _alone_s(capacity: Capacity, prompt):
    """Time of a prompt's own steps when each prompt starts as another request ends. [s]"""
    others = capacity.cap / (capacity.demand.decode_steps + 1) * capacity.prompt
    budget = capacity.budget(capacity.cap)
    full = np.maximum(np.ceil((prompt + others) / budget) - 1, 0)
    last = prompt + others - full * budget
    return full * capacity.step_s(capacity.cap, budget) + capacity.step_s(capacity.cap, last)
