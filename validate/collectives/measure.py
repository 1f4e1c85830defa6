"""Measuring collectives: every size checked, then visited several times in shuffled order."""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from validate.collectives.exchanges import Exchange, brought, expected, parts_of
from validate.collectives.group import Group
from validate.profile import Point

#: least time of one timed block, so that the clock and the barrier do not count [s]
BLOCK_S = 2e-3
MOST_CALLS = 1000
WARM_UPS = 3


@dataclass(eq=False)
class Case:
    """One collective at one payload, with the block times of its visits. [s]"""

    exchange: Exchange
    elements: int
    calls: int = 1
    error: str = ""
    flag: str = ""
    blocks: list[float] = field(default_factory=list)


def checked(case: Case, group: Group) -> Case:
    """Run a case once on known numbers; flag it where any rank gets wrong ones."""
    x = group.tensor(brought(case.exchange, case.elements, group.world, group.rank))
    want = expected(case.exchange, case.elements, group.world, group.rank)
    out = group.empty(len(want))
    try:
        case.exchange.call(group.dist, out, x)
        got = x if case.exchange.gets == "in place" else out
        wrong = float(not np.array_equal(got.float().cpu().numpy(), want))
    except (RuntimeError, ValueError) as error:
        case.error, wrong = str(error).splitlines()[0], 2.0
    worst = group.largest(wrong)
    case.flag = {0.0: "", 1.0: "wrong", 2.0: "failed"}[worst]
    return case


class Buffers:
    """One buffer to send from and one to receive in, as large as the largest case needs."""

    def __init__(self, cases: list[Case], group: Group):
        most = max(case.elements for case in cases)
        self.group = group
        self.x = group.tensor(((np.arange(most) + group.rank) % 3).astype(np.float32))
        self.out = group.empty(most)

    def call_of(self, case: Case):
        """Return a function without arguments that runs a case."""
        brings, gets = parts_of(case.exchange, case.elements, self.group.world)
        x, out, dist = self.x[:brings], self.out[:gets], self.group.dist
        return lambda: case.exchange.call(dist, out, x)


def measured(cases: list[Case], group: Group, rounds: int, limit_s: float) -> Iterator[int]:
    """Visit every right case once a round, in an order shuffled alike on all ranks; yield the round.

    Ends when the next round would pass ``limit_s``; sums that grow to infinity cost the same.
    """
    live, buffers = [case for case in cases if not case.flag], Buffers(cases, group)
    start = time.perf_counter()
    for number in range(rounds):
        random.Random(number).shuffle(live)
        for case in live:
            call = buffers.call_of(case)
            for _ in range(WARM_UPS):
                call()
            if not case.blocks:
                case.calls = _calls(group.seconds(call, 1))
            case.blocks.append(group.seconds(call, case.calls))
        yield number
        spent = group.largest(time.perf_counter() - start)
        if spent * (number + 2) / (number + 1) > limit_s:
            return


def _calls(seconds: float) -> int:
    return int(min(MOST_CALLS, max(1, BLOCK_S / max(seconds, 1e-7))))


def point_of(case: Case, group: Group) -> Point:
    """Return a case as a row of a points file."""
    kind, sizes = case.exchange.kind, {"world": group.world, "elements": case.elements}
    row = Point(
        case=f"{kind} {group.backend} world={group.world} elements={case.elements}",
        probe="collective", op=kind, format="bf16", kernel=group.backend, dtype="bf16", sizes=sizes,
        bytes=2.0 * case.elements, flag=case.flag, note=case.error, calls=case.calls, n=len(case.blocks),
        load=os.getloadavg()[0], when=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    if not case.blocks:
        return row
    least, first, middle, third = np.quantile(case.blocks, [0, 0.25, 0.5, 0.75])
    times = {"seconds_min": least, "seconds_p25": first, "seconds_median": middle, "seconds_p75": third}
    return replace(row, **{name: float(value) for name, value in times.items()})
