"""How many requests a measured run kept in flight, and in which mode of the schema that is."""

import math
from dataclasses import dataclass

import calc

#: requests in flight on average over requests sent, from which on all of them ran as one batch
ONE_WAVE = 0.9
#: runs of fewer waves than this are mostly start and end
FEW_WAVES = 4


@dataclass(frozen=True)
class Load:
    """Load of a run as its tool set and measured it; None where that is not known.

    ``limit`` is the most requests in flight that the tool allowed, ``requests_per_s`` the rate it
    sent them at (infinite: all at once), ``mean_in_flight`` how many were in flight on average,
    ``requests`` how many there were.
    """

    limit: float | None = None
    requests_per_s: float | None = None
    mean_in_flight: float | None = None
    requests: float | None = None


@dataclass(frozen=True)
class InFlight:
    """Mode and concurrency of the schema, and what was inferred.

    ``is_steady`` tells whether times of single requests mean anything: not where all were sent at once.
    """

    mode: str
    concurrency: int | None
    note: str = ""
    is_inferred: bool = False
    is_steady: bool = True


def mean_in_flight(requests_per_s: float | None, latency_s: float | None) -> float | None:
    """Requests in flight on average: rate times latency (Little 1961).

    Examples
    --------
    >>> mean_in_flight(4.0, 2.5)
    10.0
    """
    return requests_per_s * latency_s if requests_per_s and latency_s else None


def in_flight(load: Load, mode: str | None = None, concurrency: int | None = None) -> InFlight:
    """Return how a load stands in the schema; ``mode`` and ``concurrency`` are said by the user and win.

    Raises
    ------
    SpecError
        If nothing says how many requests were in flight.

    Examples
    --------
    >>> in_flight(Load(limit=64, requests_per_s=float("inf"), requests=640)).concurrency
    64
    >>> in_flight(Load(requests_per_s=4.0, mean_in_flight=10.2)).note
    'sent at 4 requests/s without keeping a number in flight: put as the 10 in flight on average'
    """
    found = InFlight("closed_loop", concurrency) if concurrency else _found(load)
    if mode is None or mode == found.mode:
        return found
    if mode == "max_load":
        return InFlight(mode, None, "mode as given")
    if found.concurrency is None:
        raise calc.SpecError("does not say how many requests were in flight: give --concurrency")
    return InFlight(mode, found.concurrency, "mode as given")


def _found(load: Load) -> InFlight:
    limit, rate = load.limit, load.requests_per_s
    at_once = rate is None or math.isinf(rate)
    if limit and at_once and not (load.requests and load.requests <= limit):
        return InFlight("closed_loop", _whole(limit), _waves(load))
    if load.requests and (limit or rate is not None) and at_once:
        return _burst(load)
    if load.mean_in_flight:
        return _average(load)
    if limit:
        return InFlight(
            "closed_loop", _whole(limit), "limit of requests in flight, perhaps not reached", True
        )
    raise calc.SpecError("does not say how many requests were in flight: give --concurrency")


def _waves(load: Load) -> str:
    if load.requests and load.requests < FEW_WAVES * load.limit:
        return f"only {load.requests:g} requests: start and end of the run weigh in"
    return ""


def _burst(load: Load) -> InFlight:
    """All requests sent at once: one static batch, or a queue that the engine works off."""
    n, mean = _whole(load.requests), load.mean_in_flight
    note = f"all {n} requests sent at once: no ttft_s and tpot_s rows"
    is_batch = n == 1 or (mean is not None and mean >= ONE_WAVE * n)
    return InFlight("static" if is_batch else "max_load", n, note, True, is_steady=n == 1)


def _average(load: Load) -> InFlight:
    n = _whole(min(load.mean_in_flight, load.limit or math.inf))
    how = "number in flight not in the file"
    if load.requests_per_s and math.isfinite(load.requests_per_s):
        how = f"sent at {load.requests_per_s:g} requests/s without keeping a number in flight"
    return InFlight("closed_loop", n, f"{how}: put as the {n} in flight on average", True)


def _whole(value: float) -> int:
    return max(1, round(value))
