"""The command: two real processes, a wrong collective, wrong usage."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import calc
from validate.cli import main
from validate.collectives.exchanges import EXCHANGES
from validate.collectives.measure import Case, checked, measured, point_of
from validate.profile import read_points

REASON = "torch is not installed: pip install 'ullage[validate]'"


def test_without_torchrun_it_says_how_to_start(capsys, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert main(["collective"]) == 2
    assert "torchrun --nproc-per-node 2 -m validate collective" in capsys.readouterr().err


def test_one_process_alone_is_refused(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main(["collective"]) == 2
    assert "1 process is not allowed" in capsys.readouterr().err


def test_an_unknown_op_names_the_nearest(capsys):
    assert main(["collective", "--ops", "allreduse"]) == 2
    assert "did you mean 'allreduce'" in capsys.readouterr().err


@pytest.fixture
def alone():
    """A group of one process that plays rank 0 of 2; ``dist`` does what a test tells it."""
    torch = pytest.importorskip("torch", reason=REASON)
    return SimpleNamespace(
        world=2, rank=0, backend="fake", dist=SimpleNamespace(),
        tensor=lambda array: torch.from_numpy(array).to(torch.bfloat16),
        empty=lambda n: torch.full((n,), torch.nan, dtype=torch.bfloat16),
        largest=lambda value: value, seconds=lambda call, calls: 0.001,
    )  # fmt: skip


@pytest.mark.parametrize("wrong", ["half of it", "nothing", "an error"])
def test_a_wrong_collective_is_flagged_and_not_timed(alone, wrong):
    def gather(out, x):
        if wrong == "an error":
            raise RuntimeError("no such backend\nmore")
        if wrong == "half of it":
            out[: len(x)] = x

    alone.dist.all_gather_single = gather
    case = checked(Case(EXCHANGES["allgather"], 8), alone)
    list(measured([case], alone, 2, 60.0))
    row = point_of(case, alone)
    assert (row.flag, row.usable, row.n) == ("failed" if wrong == "an error" else "wrong", False, 0)
    assert row.note == ("no such backend" if wrong == "an error" else "")


def test_a_right_one_is_timed(alone):
    def gather(out, x):
        out[:3], out[3:] = x, (x + 1) % 3  # what rank 1 brings

    alone.dist.all_gather_single = gather
    case = checked(Case(EXCHANGES["allgather"], 6), alone)
    assert sum(1 for _ in measured([case], alone, 2, 60.0)) == 2
    row = point_of(case, alone)
    assert (row.flag, row.n, row.seconds_min, row.bytes) == ("", 2, 0.001, 12)


def test_the_budget_ends_the_visits(alone):
    alone.dist.all_reduce = lambda x: None
    assert sum(1 for _ in measured([Case(EXCHANGES["allreduce"], 8)], alone, 50, 0.0)) == 1


def test_two_processes_measure_and_fit(tmp_path, root):
    pytest.importorskip("torch", reason=REASON)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
        "-m", "validate", "collective", "--backend", "gloo", "--sizes", "13", "--largest", "256kB",
        "--rounds", "2", "--out", str(tmp_path),
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (points,), (fits,) = tmp_path.glob("*.points.csv"), tmp_path.glob("*.yaml")
    rows = read_points(points)
    assert {row.op for row in rows} == set(EXCHANGES)
    assert all(row.usable and row.seconds_min < 1 for row in rows)
    assert set(calc.load_calibration(str(fits)).ops) == set(EXCHANGES)
    assert "2 ranks, gloo" in done.stdout
