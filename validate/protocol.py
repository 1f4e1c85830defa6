"""The protocol: shuffled rounds over all cases, so that a busy minute hits no case alone.

Each visit times one block; the smallest block median of a case is its time, beside median
and quartiles. A wrong kernel is reported and never timed. Bad ends (out of memory, a hang, a
crash) cost their own case and nothing else. Stopping early loses no visit.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from validate.probes.base import Case
from validate.remote import CaseError
from validate.store import Store

#: visits of a finished point: fewest and most; a block much longer than the best one is a stall
FEWEST, MOST, STALL, STALLS_PER_CASE = 5, 14, 3.0, 3
#: aimed length of a block [s], drift of the sentinels that makes a run unsteady [%]
BLOCK_S, UNSTEADY_PCT = 0.012, 10.0
#: cost of a visit beside its block [s]; cases of a probe and dtype that are not left out
OVERHEAD_S, ALWAYS_KEPT = 0.005, 12


class StoppedError(Exception):
    """The run is to end in order: Ctrl-C, SIGTERM."""


@dataclass
class Outcome:
    """How measuring went; ``stopped`` is empty where it was not cut short by anybody."""

    rounds: int = 0
    stalls: int = 0
    stopped: str = ""
    drift_pct: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def steady(self) -> bool:
        """Whether the sentinels kept their times."""
        return self.drift_pct <= UNSTEADY_PCT


@dataclass
class Session:
    """What a measurement needs: who runs cases, where results go, until when.

    ``say`` is called with events (``"visit"``, ``"fail"``, ``"round"``) and a text; ``load``
    returns the load of the machine, ``now`` a monotonic time. [s]
    """

    backend: object
    store: Store
    deadline_s: float
    now: Callable[[], float] = time.monotonic
    load: Callable[[], float] = lambda: 0.0
    say: Callable[..., None] = lambda event, **about: None
    sentinels: tuple[Case, ...] = ()
    seed: int = 0

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline_s - self.now()


def measure(session: Session, cases: list[Case]) -> Outcome:
    """Measure all cases until the deadline; return how it went. Every case ends as a point."""
    outcome, rng = Outcome(), random.Random(session.seed)
    live = [case for case in cases if not session.store.is_done(case)]
    drift = {case.key: [] for case in session.sentinels}
    try:
        _rounds(session, live, outcome, rng, drift)
    except (StoppedError, KeyboardInterrupt) as error:
        outcome.stopped = str(error) or "interrupted"
    for case in live:
        if not session.store.is_done(case):
            session.store.finish(case, "few-visits", outcome.stopped or "the time was up")
    outcome.drift_pct = _drift_pct(drift)
    return outcome


def _rounds(session: Session, live: list[Case], outcome: Outcome, rng, drift) -> None:
    """Go round until every case has its visits; how many is settled by the time that is left."""
    _sentinels(session, drift)
    costs, stalls, target = {}, {}, FEWEST
    while live and session.left_s > 0:
        rng.shuffle(live)
        session.say("round", round=outcome.rounds + 1, cases=len(live), target=target)
        start = session.now()
        _round(session, live, outcome, costs, stalls)
        outcome.rounds += 1
        if outcome.rounds == 1:
            if session.left_s > 0:  # else some were not visited: their costs are not known
                _drop_to_fit(session, live, costs)
            round_s = sum(costs.get(case.key, 0.0) for case in live)
        else:
            round_s = session.now() - start
        target = min(MOST, max(FEWEST, outcome.rounds + int(session.left_s / max(round_s, 1e-9))))
        for case in [each for each in live if session.store.visits(each) >= target]:
            session.store.finish(case)
            live.remove(case)
        _sentinels(session, drift)


def _round(session: Session, live: list[Case], outcome: Outcome, costs: dict, stalls: dict) -> None:
    """Visit every case once; a stalled visit is repeated at the end of the round."""
    waiting = list(live)
    while waiting:
        case = waiting.pop(0)
        if session.left_s <= 0:
            return
        try:
            patient = stalls.get(case.key, 0) < STALLS_PER_CASE
            stalled, costs[case.key] = _visit(session, case, patient)
        except CaseError as error:
            live.remove(case)
            session.store.finish(case, error.flag, error.note)
            outcome.failures.append(f"{case.key}: {error.flag}: {error.note}")
            session.say("fail", case=case.key, flag=error.flag, note=error.note)
            continue
        session.say("visit", case=case.key, left_s=session.left_s)
        if stalled:
            stalls[case.key] = stalls.get(case.key, 0) + 1
            outcome.stalls += 1
            waiting.append(case)


def _visit(session: Session, case: Case, patient: bool) -> tuple[bool, float]:
    """Check a case if nobody did, time one block; ``patient`` throws a stalled one away.

    Returns whether it stalled and was thrown away, and what another visit costs. [s]

    Raises
    ------
    CaseError
        If the kernel is wrong, or cannot run.
    """
    store = session.store
    if not store.record(case.key).checked:
        checked = session.backend.check(case, session.left_s)
        store.checked(case, *checked)
    record = store.record(case.key)
    if not record.error <= record.limit:
        what = "the result holds NaN or infinity, or was not written" if record.error == float("inf") else ""
        what = what or f"relative error {record.error:.1e}, allowed {record.limit:.0e}"
        raise CaseError("wrong", f"{what}; not timed")
    visit = session.backend.visit(case, BLOCK_S, session.left_s)
    cost = OVERHEAD_S + visit.seconds * visit.calls
    if patient and record.seconds and visit.seconds > STALL * min(record.seconds):
        return True, cost
    store.visited(case, visit.seconds, visit.calls, session.load())
    return False, cost


def _drop_to_fit(session: Session, live: list[Case], costs: dict) -> None:
    """Leave out the dearest cases until the fewest visits fit into the time that is left.

    The largest case of each probe and dtype stays, for the range; so do a dozen of each, and as
    many of each kernel that is compared.
    """
    total = sum(costs[case.key] for case in live)
    members: dict[tuple, list[Case]] = {}
    for case in sorted(live, key=lambda each: -costs[each.key]):
        members.setdefault((case.probe, case.dtype, case.kernel), []).append(case)
    spare = [case for cases in members.values() for case in cases[1 : max(1, len(cases) - ALWAYS_KEPT)]]
    for case in sorted(spare, key=lambda each: -costs[each.key]):
        if total * (FEWEST - 1) <= session.left_s:
            return
        total -= costs[case.key]
        live.remove(case)
        session.store.finish(case, "no-time", "left out to keep the budget")


def _sentinels(session: Session, drift: dict) -> None:
    """Time the sentinels: the same two cases at the start, after each round and at the end."""
    for case in session.sentinels:
        try:
            blocks = [session.backend.visit(case, BLOCK_S).seconds for _ in range(3)]
        except CaseError:
            continue
        drift[case.key].append(min(blocks))


def _drift_pct(drift: dict) -> float:
    """Largest change of a sentinel between start and end, in percent; the middle does not count."""
    changes = [100 * abs(times[-1] / times[0] - 1) for times in drift.values() if len(times) > 1]
    return max(changes, default=0.0)
