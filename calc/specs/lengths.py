"""Lengths of prompts and outputs: how they spread around their mean."""

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from calc.specs.errors import SpecError

KINDS = ("constant", "geometric", "lognormal", "empirical")
#: points of a quantile table
_POINTS = 16384


@dataclass(frozen=True)
class Lengths:
    """Shape of a length distribution; its mean is ``prompt_tokens`` or ``output_tokens``.

    Attributes
    ----------
    kind : str
        ``"constant"``, ``"geometric"`` (from 1 token), ``"lognormal"`` or ``"empirical"``.
    sigma : float
        Standard deviation of the logarithm, log-normal only.
    values : tuple of int
        Observed lengths, empirical only; they bring their own mean. [tokens]

    Examples
    --------
    >>> print(Lengths("lognormal", sigma=1.0).quantile(0.5, 1000))
    607.0
    """

    kind: str = "constant"
    sigma: float = 1.0
    values: tuple[int, ...] = ()

    def __post_init__(self):
        if self.kind not in KINDS:
            raise SpecError(f"lengths: {self.kind!r} is not known; allowed are {', '.join(KINDS)}")
        if not 0 < self.sigma <= 4:
            raise SpecError(f"lengths sigma: {self.sigma!r} is not allowed; allowed are 0 < sigma <= 4")
        if self.kind == "empirical" and (not self.values or min(self.values) < 1):
            raise SpecError("lengths: empirical lengths need values; allowed are whole numbers from 1")

    def quantile(self, share, mean):
        """Length that a share of all requests does not exceed. [tokens]

        Parameters
        ----------
        share : number or array
            Between 0 and 1.
        mean : number
            Mean length, not used by empirical lengths. [tokens]
        """
        share = np.clip(share, 1e-9, 1 - 1e-9)
        if self.kind == "constant" or (self.kind == "geometric" and mean <= 1):
            return share * 0 + round(mean)
        if self.kind == "geometric":
            return np.maximum(1.0, np.ceil(np.log1p(-share) / np.log1p(-1 / mean)))
        if self.kind == "lognormal":
            return np.maximum(1.0, np.round(mean * np.exp(self.sigma * _normal(share) - self.sigma**2 / 2)))
        return np.quantile(np.asarray(self.values, dtype=float), share, method="inverted_cdf")

    def table(self, mean, points: int = _POINTS) -> np.ndarray:
        """Equally likely lengths, in order: quantiles at the middles of equal shares. [tokens]"""
        return self.quantile((np.arange(points) + 0.5) / points, mean)

    def draw(self, random: np.random.Generator, n: int, mean) -> np.ndarray:
        """Draw ``n`` lengths at random. [tokens]"""
        if self.kind == "lognormal":
            spread = self.sigma * random.standard_normal(n) - self.sigma**2 / 2
            return np.maximum(1, np.round(mean * np.exp(spread))).astype(int)
        return np.asarray(self.quantile(random.random(n), mean)).astype(int)


def lengths_of(given, name: str) -> Lengths:
    """Return lengths that were given by kind or as a record.

    Examples
    --------
    >>> lengths_of("geometric", "prompt_lengths").kind
    'geometric'
    """
    if isinstance(given, Lengths):
        return given
    if isinstance(given, str):
        return Lengths(given)
    raise SpecError(f"{name}: {given!r} is not allowed; allowed are {', '.join(KINDS)} or a Lengths")


@lru_cache(maxsize=1)
def _normal_table() -> tuple[np.ndarray, np.ndarray]:
    spread = np.linspace(-6.0, 6.0, 2401)
    return np.array([NormalDist().cdf(x) for x in spread]), spread


def _normal(share):
    """Quantile of the standard normal distribution, to four digits."""
    shares, spread = _normal_table()
    return np.interp(share, shares, spread)
