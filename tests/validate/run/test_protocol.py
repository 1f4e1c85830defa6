"""The protocol: rounds, stalls, wrong kernels, bad ends, deadlines; without torch."""

from itertools import pairwise

import pytest

from validate.plan import SENTINELS, work
from validate.probes.base import Case
from validate.protocol import FEWEST, MOST, Session, measure
from validate.remote import CaseError, Visit
from validate.store import Store

CASES = [Case("gemm", "bf16", {"m": m, "n": 256, "k": 512}) for m in (1, 2, 4, 8, 16, 32)]


def session_on(backend, folder, budget_s=100.0, resume=False):
    store = Store(folder, "fake", work, resume)
    return Session(backend, store, backend.now() + budget_s, now=backend.now, sentinels=SENTINELS[:1])


def test_every_case_is_visited_and_its_point_is_the_smallest_block(fake, tmp_path):
    backend = fake(noise=0.3)
    session = session_on(backend, tmp_path)
    measure(session, CASES)
    for case in CASES:
        point = session.store.points[case.key]
        assert FEWEST <= point.n <= MOST
        assert backend.seconds(case) <= point.seconds_min <= point.seconds_p25 <= point.seconds_median
        assert (point.flag, point.correct, point.kernel) == ("", True, "fake")


def test_visits_of_a_case_are_spread_over_the_session(fake, tmp_path):
    backend = fake()
    measure(session_on(backend, tmp_path), CASES)
    mine = [i for i, key in enumerate(backend.visits) if key == CASES[0].key]
    rounds = len(backend.visits) / len(mine)
    assert all(later - earlier > rounds / 4 for earlier, later in pairwise(mine))


@pytest.mark.parametrize("error", [0.5, float("inf"), float("nan")])
def test_a_wrong_kernel_is_reported_and_not_timed(fake, tmp_path, error):
    backend = fake(bad={"m=4 ": ("error", error)})
    session = session_on(backend, tmp_path)
    outcome = measure(session, CASES)
    point = session.store.points[CASES[2].key]
    assert (point.flag, point.correct, point.seconds_min, point.usable) == ("wrong", False, 0.0, False)
    assert CASES[2].key not in backend.visits
    assert "not timed" in point.note
    assert len(outcome.failures) == 1


@pytest.mark.parametrize(
    ("when", "flag"),
    [("check", "out-of-memory"), ("visit", "hung"), ("visit", "died"), ("check", "unavailable")],
)
def test_a_bad_end_costs_its_own_case_only(fake, tmp_path, when, flag):
    backend = fake(bad={"m=8 ": (when, flag, "in one line")})
    session = session_on(backend, tmp_path)
    measure(session, CASES)
    flags = {case.key: session.store.points[case.key].flag for case in CASES}
    assert flags.pop(CASES[3].key) == flag
    assert set(flags.values()) == {""}


def test_a_stalled_visit_is_thrown_away_and_repeated(fake, tmp_path):
    backend = fake()
    plain = backend.visit

    def stalls_once(case, block_s, left_s=1e9):
        visit = plain(case, block_s)
        return Visit(50 * visit.seconds, visit.calls) if len(backend.visits) == 15 else visit

    backend.visit = stalls_once
    session = session_on(backend, tmp_path)
    outcome = measure(session, CASES)
    assert outcome.stalls == 1
    slow = [p for p in session.store.points.values() if p.seconds_p75 > 2 * p.seconds_min]
    assert slow == []


def test_drifting_sentinels_make_a_run_unsteady(fake, tmp_path):
    backend = fake()
    plain = backend.visit
    backend.visit = lambda case, block_s, left_s=1e9: Visit(
        plain(case, block_s).seconds * (1 + len(backend.visits) / 50), 1
    )
    outcome = measure(session_on(backend, tmp_path), CASES)
    assert outcome.drift_pct > 10
    assert not outcome.steady


def test_the_dearest_cases_are_left_out_where_time_is_short_but_never_the_largest(fake, tmp_path):
    backend = fake()
    cases = [Case("gemm", "bf16", {"m": m, "n": 16384, "k": 8192}) for m in range(100, 140)]
    one = backend.seconds(cases[0])
    session = session_on(backend, tmp_path, budget_s=one * 120)
    measure(session, cases)
    flags = [session.store.points[case.key].flag for case in cases]
    assert flags.count("no-time") > 5
    assert flags.count("") >= 12
    assert flags[-1] == ""


def test_at_the_deadline_what_was_visited_twice_is_kept_and_said_to_be_few(fake, tmp_path):
    backend = fake()
    session = session_on(backend, tmp_path, budget_s=0.2)
    measure(session, CASES)
    flags = {point.flag for point in session.store.points.values()}
    assert flags <= {"few-visits", "no-time"}
    assert all(point.usable == (point.n >= 2) for point in session.store.points.values())


def test_a_deadline_in_the_first_round_ends_in_order(fake, tmp_path):
    backend = fake()
    session = session_on(backend, tmp_path, budget_s=0.06)
    outcome = measure(session, CASES)
    assert outcome.rounds == 1
    assert 0 < len(set(backend.visits) - {SENTINELS[0].key}) < len(CASES)
    assert {session.store.points[case.key].flag for case in CASES} == {"no-time"}


def test_ctrl_c_keeps_every_visit_and_resume_repeats_none(fake, tmp_path):
    first = fake(stop_after=20)
    session = session_on(first, tmp_path)
    outcome = measure(session, CASES)
    session.store.close(False)
    assert outcome.stopped
    second = fake()
    session = session_on(second, tmp_path, resume=True)
    before = {case.key: session.store.visits(case) for case in CASES}
    assert sum(before.values()) == sum(key in {c.key for c in CASES} for key in first.visits)
    measure(session, CASES)
    assert second.checks == []  # all were checked before
    assert all(session.store.points[case.key].n >= FEWEST for case in CASES)
    third = fake()
    session.store.close(False)
    measure(session_on(third, tmp_path, resume=True), CASES)
    assert [key for key in third.visits if key in {c.key for c in CASES}] == []


def test_what_a_backend_says_of_a_case_reaches_the_points_file(fake, tmp_path):
    backend = fake(bad={"m=8 ": ("visit", "hung", "no answer in 60 s")})
    session = session_on(backend, tmp_path)
    said = []
    session.say = lambda event, **about: said.append((event, about.get("flag")))
    measure(session, CASES)
    assert ("fail", "hung") in said
    assert "no answer in 60 s" in (tmp_path / "fake.points.csv").read_text()
    with pytest.raises(CaseError):
        backend.visit(CASES[3], 0.01)
