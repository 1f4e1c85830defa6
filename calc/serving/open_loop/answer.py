"""What an open loop answers: times over requests at one arrival rate."""

from dataclasses import dataclass, replace

import numpy as np

PERCENTILES = (50, 90, 99)


@dataclass(frozen=True, eq=False)
class Spread:
    """Mean and percentiles of a time over requests. [s]"""

    mean: float
    p50: float
    p90: float
    p99: float


def spread(values: np.ndarray, mean: float | None = None) -> Spread:
    """Return mean and percentiles of values over requests."""
    return Spread(
        float(values.mean()) if mean is None else mean, *np.percentile(values, PERCENTILES).tolist()
    )


@dataclass(frozen=True, eq=False)
class OpenLoop:
    """What requests see at one arrival rate.

    ``steady`` says whether the queue stays finite, ``max_requests_per_s`` below which rate it
    does; otherwise times are infinite. ``in_flight`` is the probability of 0, 1, 2, ... requests
    beyond their prefill (running, then queued), ``queue_probability`` that a request finds no
    place in memory; ``queue`` is the time until the first of its prompt is computed.
    ``bottleneck`` says what sets the highest rate: ``"prefill"`` or ``"places"`` (cache or
    ``max_sequences``).
    """

    requests_per_s: float
    max_requests_per_s: float
    steady: bool
    bottleneck: str
    cap: int
    in_flight: np.ndarray
    mean_in_flight: float
    queue_probability: float
    ttft: Spread
    tpot: Spread
    queue: Spread

    def of_ranks(self, ranks: int) -> "OpenLoop":
        """Return what is seen of so many such batches side by side, the requests shared out among them.

        ``cap`` and ``in_flight`` stay those of one.
        """
        if ranks == 1:
            return self
        return replace(
            self,
            requests_per_s=ranks * self.requests_per_s,
            max_requests_per_s=ranks * self.max_requests_per_s,
            mean_in_flight=ranks * self.mean_in_flight,
        )

    @property
    def load(self) -> float:
        """Arrival rate over the highest rate with a steady state."""
        return self.requests_per_s / self.max_requests_per_s

    def statement(self) -> str:
        """Return one sentence about the steady state."""
        most = f"{self.max_requests_per_s:.3g} requests/s"
        if self.steady:
            return f"steady: {self.load:.0%} of the {most} that can be sustained"
        return f"no steady state above {most}"
