"""Requests to be served: drawn at random or read from a trace."""

from dataclasses import dataclass

import numpy as np

from calc.specs.errors import SpecError
from calc.specs.lengths import Lengths


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests in order of arrival: seconds from the first one, and token lengths.

    Examples
    --------
    >>> poisson_requests(2.0, 1000, 512, 128, seed=1).requests_per_s
    2.0
    """

    arrival_s: np.ndarray
    prompt_tokens: np.ndarray
    output_tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """Time between the first and the last arrival. [s]"""
        return float(self.arrival_s[-1] - self.arrival_s[0])

    @property
    def requests_per_s(self) -> float:
        """Mean arrival rate. [1/s]"""
        return len(self) / self.span_s if self.span_s else float("inf")

    def faster(self, scale: float) -> "Requests":
        """Return the same requests arriving ``scale`` times as fast."""
        if not 0 < scale < float("inf"):
            raise SpecError(f"rate_scale: {scale!r} is not allowed; allowed are numbers above 0")
        return Requests(self.arrival_s / scale, self.prompt_tokens, self.output_tokens)


def poisson_requests(
    requests_per_s: float,
    n: int,
    prompt_tokens: float,
    output_tokens: float,
    *,
    prompt_lengths: Lengths | None = None,
    output_lengths: Lengths | None = None,
    seed: int = 0,
) -> Requests:
    """Return ``n`` requests that arrive at random at a rate, with lengths drawn from distributions.

    Parameters
    ----------
    requests_per_s : float
        Mean rate of a Poisson process. [1/s]
    prompt_tokens, output_tokens : float
        Mean lengths. [tokens]
    """
    if not requests_per_s > 0:
        raise SpecError(f"requests_per_s: {requests_per_s!r} is not allowed; allowed are rates above 0")
    random = np.random.default_rng(seed)
    arrival_s = np.cumsum(random.exponential(1 / requests_per_s, n))
    prompts = (prompt_lengths or Lengths()).draw(random, n, prompt_tokens)
    outputs = (output_lengths or Lengths()).draw(random, n, output_tokens)
    return Requests(arrival_s, prompts, outputs)
