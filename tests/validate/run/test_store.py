"""Journal and points on disk: nothing lost to a kill, nothing overwritten."""

import json

from validate.plan import work
from validate.probes.base import Case
from validate.profile import read_points
from validate.store import Store

CASE = Case("gemm", "bf16", {"m": 1, "n": 256, "k": 512})


def visited(store, times):
    store.checked(CASE, "linear", 1e-3, 1e-2)
    for seconds in times:
        store.visited(CASE, seconds, 10, 0.5)


def test_visits_are_on_disk_before_the_case_is_finished(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [3.0, 1.0, 2.0])
    lines = (tmp_path / "a.visits.jsonl").read_text().splitlines()
    assert [json.loads(line).get("seconds") for line in lines] == [None, 3.0, 1.0, 2.0]
    again = Store(tmp_path, "a", work, resume=True)
    assert (again.visits(CASE), again.record(CASE.key).checked, again.is_done(CASE)) == (3, True, False)


def test_a_torn_line_of_the_journal_is_passed_over(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [1.0, 2.0])
    store.close(False)
    path = tmp_path / "a.visits.jsonl"
    path.write_text(path.read_text()[:-9])
    again = Store(tmp_path, "a", work, resume=True)
    assert again.visits(CASE) == 1
    again.visited(CASE, 4.0, 1, 0.0)
    again.close(False)
    assert Store(tmp_path, "a", work, resume=True).visits(CASE) == 2


def test_a_torn_row_of_the_points_costs_that_row_only(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [1.0, 2.0])
    store.finish(CASE)
    other = Case("gemm", "bf16", {"m": 2, "n": 256, "k": 512})
    store.finish(other, "hung", "no answer")
    path = tmp_path / "a.points.csv"
    path.write_bytes(path.read_bytes()[:-30])
    again = Store(tmp_path, "a", work, resume=True)
    assert again.is_done(CASE)
    assert not again.is_done(other)
    again.finish(other, "hung", "no answer")
    assert len(read_points(path)) == 2


def test_a_point_holds_quartiles_and_the_work_that_calc_counts(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [1.0, 2.0, 3.0, 4.0, 5.0])
    store.finish(CASE)
    (point,) = read_points(tmp_path / "a.points.csv")
    assert (point.seconds_min, point.seconds_p25, point.seconds_median, point.seconds_p75) == (1, 2, 3, 4)
    assert (point.flops, point.op, point.format) == (2 * 1 * 256 * 512, "gemm", "bf16")
    assert point.bytes == 2 * (256 * 512 + 1 * (256 + 512))
    assert point.sizes == CASE.sizes


def test_without_resume_older_points_are_moved_aside_not_lost(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [1.0, 2.0])
    store.finish(CASE)
    store.close(True, [CASE])
    fresh = Store(tmp_path, "a", work)
    assert fresh.points == {}
    kept = list(tmp_path.glob("a.*.points.csv"))
    assert len(kept) == 1
    assert len(read_points(kept[0])) == 1


def test_the_journal_goes_only_when_every_case_is_done(tmp_path):
    store = Store(tmp_path, "a", work)
    visited(store, [1.0, 2.0])
    store.finish(CASE, "few-visits")
    store.close(True, [CASE])
    assert (tmp_path / "a.visits.jsonl").exists()
    again = Store(tmp_path, "a", work, resume=True)
    again.finish(CASE)
    again.close(True, [CASE])
    assert not (tmp_path / "a.visits.jsonl").exists()
