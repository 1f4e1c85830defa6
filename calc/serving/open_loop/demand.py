"""What an open loop is asked: lengths of requests, and how many of them run at once."""

from dataclasses import dataclass

import numpy as np

from calc.serving.scheduler import Scheduler


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
    def steadiness(self) -> float:
        """Mean lesser of two requests' decode steps over the mean: 1 where all are alike."""
        steps = np.sort(self.output_tokens - 1)
        weight = 2 * (len(steps) - np.arange(len(steps))) - 1
        return float((steps * weight).sum() / len(steps) ** 2 / max(float(steps.mean()), 1e-9))

    @property
    def context_tokens(self) -> float:
        """Mean cached tokens of a sequence that decodes, long outputs being seen more. [tokens]"""
        later = self.output_tokens - 1
        age = float(np.mean(later**2) / max(2 * np.mean(later), 1e-9))
        return float(np.mean(self.new_tokens + self.cached_tokens)) + age

    @property
    def stored_variance_tokens2(self) -> float:
        """Variance of the tokens that a decoding sequence keeps for itself. [tokens2]"""
        later = self.output_tokens - 1
        mean = max(float(np.mean(later)), 1e-9)
        age = float(np.mean(later**2)) / (2 * mean)
        return float(self.new_tokens.var()) + max(0.0, float(np.mean(later**3)) / (3 * mean) - age**2)

    @property
    def stored_tokens(self) -> float:
        """Mean tokens that a decoding sequence keeps for itself. [tokens]"""
        return self.context_tokens - float(np.mean(self.cached_tokens))


def demand_of(prompts: np.ndarray, outputs: np.ndarray, rules: Scheduler) -> Demand:
    """Return the demand of prompts and outputs under a scheduler's prefix cache."""
    block = rules.block_tokens
    hit = np.minimum(rules.cached_share * prompts // block, (prompts - 1) // block) * block
    return Demand(prompts - hit, hit, outputs)


@dataclass(frozen=True)
class Places:
    """Requests that run at once when cache or ``max_sequences`` is full.

    ``number`` is their mean, ``cap`` that as a whole number. ``variation`` is the squared coefficient of
    variation of what a request takes of the limit that binds: of its tokens times the steps it keeps
    them, or of its steps alone; ``deviation`` by how many the number that fits deviates, as requests
    differ in length; ``prompt_share`` the share of a request's cache that its prompt takes, 0 where it is
    not the cache that binds.
    """

    cap: int
    number: float
    variation: float
    deviation: float
    prompt_share: float


def places(rules: Scheduler, demand: Demand) -> Places:
    """Return how many requests share cache or ``max_sequences`` when one of them is full.

    A full pool is used up to what the next prompt would not fit into: half a prompt, more if their
    lengths differ (what is left when lengths are laid end to end). With ``reserve="prompt"`` each
    request holds what it has cached so far and the token to come, and those that decode grow into what is
    left: by one request's decode steps from one end to the next, on average. Else it holds its full
    length.
    """
    prompt, steps = _moments(demand.new_tokens), _moments(np.maximum(demand.output_tokens - 1, 0))
    if rules.reserve == "request":
        held = _moments(demand.new_tokens + demand.output_tokens)
        per_step = prompt[1] + 1 + steps[2] / max(steps[1], 1e-9)
        # of (prompt + output) * steps, each independent of the other's length
        first = (prompt[1] + 1) * steps[1] + steps[2]
        second = (prompt[2] + 2 * prompt[1] + 1) * steps[2] + 2 * (prompt[1] + 1) * steps[3] + steps[4]
    else:
        held, per_step = prompt, demand.stored_tokens + 1
        # of prompt * steps: most growth of long outputs comes later than a queue lasts
        grown = per_step - prompt[1]
        first = per_step * steps[1]
        second = (prompt[2] + 2 * prompt[1] * grown + grown**2) * steps[2]
    room = (1 - rules.watermark) * rules.pool_tokens - held[2] / (2 * held[1])
    if rules.reserve == "prompt":
        room = min(room + steps[1], rules.pool_tokens)
    per_request = per_step + rules.block_tokens / 2
    number, share = max(1.0, room / per_request), prompt[1] / per_step
    deviation = float(np.sqrt(number * demand.stored_variance_tokens2)) / per_request
    if round(number) >= rules.max_sequences:
        number, first, second, deviation, share = rules.max_sequences, steps[1], steps[2], 0.0, 0.0
    variation = max(0.0, second / max(first**2, 1e-9) - 1) if first else 0.0
    return Places(max(1, round(number)), float(number), variation, deviation, share)


def _moments(values: np.ndarray) -> list[float]:
    """Means of the powers 0 to 4 of values."""
    return [float(np.mean(np.asarray(values, float) ** power)) for power in range(5)]
