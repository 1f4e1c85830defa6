"""Points at which distributions over requests are evaluated, and what they draw there."""

import numpy as np

from calc.serving.open_loop.flow import Arrivals

#: points over what requests meet
POINTS = 32768


def lattice(dimensions: int, points: int) -> np.ndarray:
    """Points that fill the unit cube evenly: multiples of powers of a generalised golden ratio.

    Examples
    --------
    >>> lattice(1, 3).round(3).tolist()
    [[0.5, 0.118, 0.736]]
    """
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1, dimensions + 1)
    return (0.5 + steps[:, None] * np.arange(points)) % 1.0


def near_normal(share):
    """Normal quantile by a logistic one of the same variance: within 0.1 up to the 99th percentile."""
    share = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(share / (1 - share)) / 1.75


def drawn_widths(arrivals: Arrivals, duration_s, point):
    """Widths of tokens that arrive during steps of these durations, at points of the unit interval.

    Examples
    --------
    >>> arrivals = Arrivals(np.array([1.0, 2.0]), np.array([[0.5, 0.5], [0.2, 0.8]]))
    >>> drawn_widths(arrivals, np.array([1.0, 2.0]), np.array([0.4, 0.4])).tolist()
    [0, 1]
    """
    sums = np.minimum(np.cumsum(arrivals.shares, axis=1), 1.0)
    row = arrivals.row(np.clip(duration_s, arrivals.durations_s[0], arrivals.durations_s[-1]))
    rising = (sums + np.arange(len(sums))[:, None]).ravel()
    return np.minimum(np.searchsorted(rising, row + point) - row * sums.shape[1], sums.shape[1] - 1)
