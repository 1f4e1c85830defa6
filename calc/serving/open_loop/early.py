"""Steps that follow a request's own prompt: how much longer they are than others.

Requests come in bursts, and long steps bring more of them: those who arrive during the steps before a
first token make the next ones long. From what requests meet, and from what any token meets, groups of
equal weight are followed step by step: the backlog in distribution, the number of decodes in its mean.
"""

import numpy as np

from calc.serving.open_loop.flow import STATES
from calc.serving.open_loop.step_chain import StepChain, moves_of

#: groups by number of decodes that are followed
_GROUPS = 8
#: steps followed at most, and the share of the first excess at which it is over
_STEPS, _OVER = 512, 0.01


def excess_s(chain: StepChain, level, backlog_tokens, decode_steps: float) -> np.ndarray:
    """Return how much longer than what tokens meet the steps after one's own prompt are. [s]

    Parameters
    ----------
    level, backlog_tokens : array
        Requests beyond prefill and tokens that wait after the prompt, at equally likely points.
    decode_steps : float
        Mean decode steps of a request.
    """
    met, usual = _met(chain, level, backlog_tokens), _usual(chain)
    levels, shares = (np.concatenate(each) for each in zip(met, usual, strict=True))
    rows: dict[int, np.ndarray] = {}
    prompt = chain.prompt_tokens
    excess: list[float] = []
    for _ in range(_STEPS):
        at = np.clip(np.rint(levels), 0, len(chain.running) - 1).astype(int)
        seconds = (shares * _token_s(chain, at)).sum(axis=1)
        excess.append(float(seconds[:_GROUPS].mean() - seconds[_GROUPS:].mean()))
        if abs(excess[-1]) < _OVER * abs(excess[0]):
            break
        decodes = 1.0 if chain.is_chunked else (shares * (chain.served_tokens[at] <= 0)).sum(axis=1)
        finished = (shares * chain.served_tokens[at]).sum(axis=1) / prompt
        levels = levels + finished - decodes * chain.running[at] / max(decode_steps, 1.0)
        for row in set(at.tolist()) - set(rows):
            carried = chain.carried_tokens[row] / chain.width
            rows[row] = moves_of(carried, chain.arrivals, chain.step_s[row])
        shares = np.einsum("gs,gst->gt", shares, np.stack([rows[row] for row in at.tolist()]))
    return np.array(excess)


def _token_s(chain: StepChain, level) -> np.ndarray:
    """Time to the next token by level and backlog; without chunks decodes wait for the prompts. [s]"""
    seconds = chain.step_s[level]
    if chain.is_chunked:
        return seconds
    return seconds + np.where(chain.served_tokens[level] > 0, seconds[:, :1], 0.0)


def _met(chain: StepChain, level, backlog_tokens) -> tuple[np.ndarray, np.ndarray]:
    """Mean level and distribution of the backlog in groups of points, by level."""
    state = np.minimum(np.rint(backlog_tokens / chain.width), STATES - 1).astype(int)
    groups = np.array_split(np.argsort(level, kind="stable"), _GROUPS)
    shares = [np.bincount(state[group], minlength=STATES) / len(group) for group in groups]
    return np.array([level[group].mean() for group in groups]), np.array(shares)


def _usual(chain: StepChain) -> tuple[np.ndarray, np.ndarray]:
    """Mean level and distribution of the backlog in groups of steps, each step as often as it decodes."""
    weight = chain.share_of_time / chain.step_s * chain.running[:, None]
    weight[0] = 0.0
    up_to = np.concatenate([[0.0], np.cumsum(weight.sum(axis=1))])
    up_to = up_to / up_to[-1] * _GROUPS
    # share of each level that falls into each group
    within = np.array([np.diff(np.clip(up_to, group, group + 1)) for group in range(_GROUPS)])
    given = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return within @ np.arange(len(chain.running)), within @ given
