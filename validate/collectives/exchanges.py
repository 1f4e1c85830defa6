"""The exchanges that are measured: what each rank brings, what it must end up with, the call.

Payloads are those of ``calc.work.communication``: the tensor that is summed (all-reduce,
reduce-scatter), the one that results (all-gather), or all that a rank sends, its own share
included (all-to-all). Ranks bring ``(i + rank) mod 3`` at place ``i``: sums stay exact in 16 bits.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Exchange:
    """One collective: the sizes of its tensors, its result, and torch's call.

    ``brings`` and ``gets`` are the shares of the payload that one rank brings and gets, in
    parts of ``1 / world`` where they are ``"part"``; ``result(inputs, rank)`` is what a rank
    gets from the inputs of all; ``call(dist, out, x)`` runs it.
    """

    kind: str
    brings: str
    gets: str
    result: Callable
    call: Callable


def _all_gather(dist, out, x):
    return (getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor)(out, x)


def _reduce_scatter(dist, out, x):
    return (getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor)(out, x)


def _all_to_all_result(inputs, rank):
    return np.concatenate([np.split(each, len(inputs))[rank] for each in inputs])


#: kind of op -> how it is run
EXCHANGES = {
    each.kind: each
    for each in (
        Exchange("allreduce", "whole", "in place", lambda inputs, rank: sum(inputs),
                 lambda dist, out, x: dist.all_reduce(x)),
        Exchange("allgather", "part", "whole", lambda inputs, rank: np.concatenate(inputs),
                 _all_gather),
        Exchange("reduce_scatter", "whole", "part",
                 lambda inputs, rank: np.split(sum(inputs), len(inputs))[rank], _reduce_scatter),
        Exchange("alltoall", "whole", "whole", _all_to_all_result,
                 lambda dist, out, x: dist.all_to_all_single(out, x)),
    )
}  # fmt: skip


def parts_of(exchange: Exchange, elements: int, world: int) -> tuple[int, int]:
    """Return the elements that one rank brings and gets, of a payload of ``elements``.

    Examples
    --------
    >>> parts_of(EXCHANGES["reduce_scatter"], elements=8, world=2)
    (8, 4)
    """
    part = elements // world
    return tuple(part if each == "part" else elements for each in (exchange.brings, exchange.gets))


def brought(exchange: Exchange, elements: int, world: int, rank: int) -> np.ndarray:
    """Return what a rank brings to an exchange with a payload of so many elements.

    Examples
    --------
    >>> brought(EXCHANGES["allgather"], elements=6, world=2, rank=1).tolist()
    [1.0, 2.0, 0.0]
    """
    size, _ = parts_of(exchange, elements, world)
    return ((np.arange(size) + rank) % 3).astype(np.float32)


def expected(exchange: Exchange, elements: int, world: int, rank: int) -> np.ndarray:
    """Return what a rank must get.

    Examples
    --------
    >>> expected(EXCHANGES["alltoall"], elements=4, world=2, rank=0).tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    inputs = [brought(exchange, elements, world, each) for each in range(world)]
    return exchange.result(inputs, rank)


def payloads(low: int, high: int, n: int, world: int) -> list[int]:
    """Return payloads in elements of 16 bits, evenly spread in the logarithm, each a multiple of ``world``.

    Parameters
    ----------
    low, high : int
        Smallest and largest payload. [byte]
    n : int
        How many, before those that are the same are merged.

    Examples
    --------
    >>> payloads(256, 4096, 3, world=4)
    [128, 512, 2048]
    """
    sizes = np.geomspace(low / 2, high / 2, n)
    return sorted({max(1, round(size / world)) * world for size in sizes})
