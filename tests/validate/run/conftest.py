"""A machine that obeys a law, with a clock of its own: whole runs without torch, in no time."""

import math
import zlib

import pytest

from validate.plan import work
from validate.remote import CaseError, Checked, Visit
from validate.run_report import Progress

PEAK, BANDWIDTH, FIXED_S = 1e12, 2e10, 5e-6
FACTS = {
    "kind": "cpu", "torch": "2.13.0", "name": "Fake CPU", "processors": 4, "memory_bytes": 32e9,
    "cache_bytes": 1e7, "threads": 4, "pool_bytes": 1e9, "clock": "fake", "driver": "",
}  # fmt: skip


class Quiet(Progress):
    """Keeps lines."""

    def __init__(self):
        self.lines, self._moves = [], False

    def _show(self, left_s):
        pass

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def quiet_progress():
    """Return the progress that keeps its lines, to be made for each run."""
    return Quiet


class FakeMachine:
    """Answers as a worker does: times follow an additive law, ``bad`` maps keys to what goes wrong.

    ``factors`` maps kernels to how many times as long they take.
    """

    def __init__(self, bad=None, noise=0.0, stop_after=None, factors=None):
        self.factors = factors or {}
        self.time_s, self.bad, self.noise, self.visits, self.checks = 0.0, bad or {}, noise, [], []
        self.stop_after = stop_after

    def now(self):
        return self.time_s

    def machine(self):
        return FACTS

    def close(self):
        pass

    def _trouble(self, case, what):
        for part, trouble in self.bad.items():
            if part in case.key and trouble[0] == what:
                raise CaseError(*trouble[1:])

    def check(self, case, left_s=1e9):
        self.checks.append(case.key)
        self._trouble(case, "check")
        for part, trouble in self.bad.items():
            if part in case.key and trouble[0] == "error":
                return Checked(case.kernel or "fake", trouble[1], 1e-2)
        return Checked(case.kernel or case.prefers or "fake", 1e-3, 1e-2)

    def seconds(self, case):
        _, _, flops, moved = work(case)
        factor = self.factors.get(case.kernel or case.prefers, 1.0)
        return factor * self.law(flops, moved)

    def law(self, flops, moved):
        return FIXED_S + flops / (0.7 * PEAK) + moved / (0.8 * BANDWIDTH)

    def visit(self, case, block_s, left_s=1e9):
        self._trouble(case, "visit")
        if self.stop_after is not None and len(self.visits) >= self.stop_after:
            raise KeyboardInterrupt
        draw = zlib.crc32(f"{case.key} {len(self.visits)}".encode()) / 2**32
        seconds = self.seconds(case) * math.exp(self.noise * draw)
        self.visits.append(case.key)
        calls = max(1, round(block_s / seconds))
        self.time_s += seconds * calls
        return Visit(seconds, calls)


@pytest.fixture
def fake():
    """The class of fake machines."""
    return FakeMachine
