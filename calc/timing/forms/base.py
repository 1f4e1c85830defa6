"""What a timing form is: a name with a version, named parameters, and a function of the work.

A form turns the work of one kernel call into seconds with a handful of fitted numbers. All
parameters are positive and enter so that more work never takes less time. A changed formula
gets a new version, so that stored parameters are never read by a formula they were not
fitted with.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Ceilings(NamedTuple):
    """What the datasheet promises: dense peak, memory bandwidth, number of processors (SM, CU)."""

    peak_flops_per_s: float
    bandwidth_bytes_per_s: float
    processors: float


class Parts(NamedTuple):
    """Seconds of one call: ``fixed_s`` plus what ``compute_s`` and ``memory_s`` overlap to."""

    seconds: object
    fixed_s: object
    compute_s: object
    memory_s: object


@dataclass(frozen=True)
class Parameter:
    """One fitted number: where a fit starts, its bounds, unit and meaning."""

    name: str
    start: float
    low: float
    high: float
    unit: str
    meaning: str


@dataclass(frozen=True)
class Form:
    """A formula by name and version: ``parts(work, ceilings, parameters)`` gives its Parts.

    ``work`` maps names to numbers or arrays: ``flops``, ``bytes`` and the sizes in
    ``Op.shape``. ``resident``: repeated calls find all their data in the device's own cache,
    so that the bandwidth of its memory does not bound a benchmark; inside a step it does.
    """

    name: str
    parameters: tuple[Parameter, ...]
    parts: Callable[[Mapping, Ceilings, Mapping], Parts]
    resident: bool = False

    def seconds(self, work: Mapping, ceilings: Ceilings, parameters: Mapping):
        """Return the time of one call. [s]"""
        return self.parts(work, ceilings, parameters).seconds

    def cold(self, parameters: Mapping) -> Mapping:
        """Return the parameters for a call inside a step, where caches hold other layers' data.

        Benchmarks repeat one call, so part of its data is still in the device's own cache;
        ``warm_bytes`` describes that, and its lowest value is none of it.
        """
        if "warm_bytes" not in parameters:
            return parameters
        lowest = {each.name: each.low for each in self.parameters if each.name == "warm_bytes"}
        return {**parameters, **lowest}


def overlap(first, second, exponent):
    r"""Time of two activities that overlap imperfectly: between their maximum and their sum.

    .. math::  (a^p + b^p)^{1/p}

    An exponent of 1 is no overlap, a large one perfect overlap.

    Examples
    --------
    >>> overlap(3.0, 4.0, 1.0), round(overlap(3.0, 4.0, 2.0), 3)
    (7.0, 5.0)
    """
    return (first**exponent + second**exponent) ** (1 / exponent)


#: parameters that most forms share
FIXED = Parameter("fixed_s", 4e-6, 5e-7, 3e-4, "s", "fixed cost of a call")
COMPUTE = Parameter("e_compute", 0.7, 0.02, 1.0, "1", "share of the dense peak that large calls reach")
MEMORY = Parameter("e_memory", 0.8, 0.02, 1.0, "1", "share of memory bandwidth that large calls reach")
OVERLAP = Parameter("overlap", 3.0, 1.0, 12.0, "1", "exponent of the overlap of arithmetic and traffic")
