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
    them, or of its steps alone; ``sizes`` that of the tokens alone that come and go at once, and ``kept``
    how long they are kept over how long a request decodes; ``deviation`` by how many the number
    that fits deviates, as requests differ in length; ``prompt_share`` the share of a request's cache that its
    prompt takes, 0 where it is not the cache that binds.
    """

    cap: int
    number: float
    variation: float
    sizes: float
    kept: float
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
    taken = _reserved(demand) if rules.reserve == "request" else _growing(demand)
    room = (1 - rules.watermark) * rules.pool_tokens - taken.left_tokens
    steps = _moments(np.maximum(demand.output_tokens - 1, 0))
    if rules.reserve == "prompt":
        room = min(room + steps[1], rules.pool_tokens)
    per_request = taken.tokens + rules.block_tokens / 2
    number = max(1.0, room / per_request)
    if round(number) >= rules.max_sequences:
        most = rules.max_sequences
        return Places(most, float(most), _variation(steps[1], steps[2]), 0.0, 1.0, 0.0, 0.0)
    return Places(
        cap=max(1, round(number)),
        number=float(number),
        variation=_variation(taken.work, taken.work2),
        sizes=taken.sizes,
        kept=taken.kept,
        deviation=float(np.sqrt(number * taken.variance_tokens2)) / per_request,
        prompt_share=float(demand.new_tokens.mean()) / taken.tokens,
    )


@dataclass(frozen=True)
class _Taken:
    """Cache that requests take.

    ``tokens`` of one that decodes and their variance, ``left_tokens`` of a full pool that the next does not
    fit into, ``work`` and ``work2`` mean and mean square of a request's tokens times its steps; ``sizes`` and
    ``kept`` as in ``Places``.
    """

    tokens: float
    variance_tokens2: float
    left_tokens: float
    work: float
    work2: float
    sizes: float
    kept: float


def _reserved(demand: Demand) -> _Taken:
    """Return what requests take that hold their full length from the first, independent prompt and output."""
    prompt, steps = _moments(demand.new_tokens + 1), _moments(np.maximum(demand.output_tokens - 1, 0))
    decoded = max(steps[1], 1e-9)
    mean, square = prompt[1] + steps[1], prompt[2] + 2 * prompt[1] * steps[1] + steps[2]
    # seen by step, long outputs are met more often
    tokens = prompt[1] + steps[2] / decoded
    square_tokens = prompt[2] + 2 * prompt[1] * steps[2] / decoded + steps[3] / decoded
    work = prompt[1] * steps[1] + steps[2]
    return _Taken(
        tokens=tokens,
        variance_tokens2=max(0.0, square_tokens - tokens**2),
        left_tokens=square / (2 * mean),
        work=work,
        work2=prompt[2] * steps[2] + 2 * prompt[1] * steps[3] + steps[4],
        sizes=square / mean**2 - 1,
        kept=max(1.0, work / (mean * decoded)),
    )


def _growing(demand: Demand) -> _Taken:
    """Return what requests take that hold what they have cached so far, and the token to come.

    Most growth of long outputs comes later than a queue lasts: they come and go as their prompts do.
    """
    prompt, steps = _moments(demand.new_tokens), _moments(np.maximum(demand.output_tokens - 1, 0))
    tokens = demand.stored_tokens + 1
    grown = tokens - prompt[1]
    return _Taken(
        tokens=tokens,
        variance_tokens2=demand.stored_variance_tokens2,
        left_tokens=prompt[2] / (2 * prompt[1]),
        work=tokens * steps[1],
        work2=(prompt[2] + 2 * prompt[1] * grown + grown**2) * steps[2],
        sizes=float(demand.new_tokens.var()) / tokens**2,
        kept=1.0,
    )


def _variation(mean: float, square: float) -> float:
    """Squared coefficient of variation from the means of values and their squares; 0 where all are 0."""
    return max(0.0, square / mean**2 - 1) if mean else 0.0


def _moments(values: np.ndarray) -> list[float]:
    """Means of the powers 0 to 4 of values."""
    return [float(np.mean(np.asarray(values, float) ** power)) for power in range(5)]
