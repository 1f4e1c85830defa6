"""The worker process from outside: hangs, crashes, kills; with a stand-in for the worker."""

import os
import signal
import subprocess
import sys
import time

import pytest

from validate.plan import SENTINELS, work
from validate.probes.base import Case
from validate.protocol import FEWEST, Session, measure
from validate.remote import CaseError, Remote
from validate.store import Store

#: answers at once; m=13 sleeps for ever, m=14 ends, m=15 is killed, m=16 has no memory
WORKER = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    m = request.get("case", {}).get("sizes", {}).get("m")
    if m == 13: time.sleep(1000)
    if m == 14: os._exit(3)
    if m == 15: os.kill(os.getpid(), signal.SIGKILL)
    if m == 16: answer = {"flag": "out-of-memory", "note": "CUDA out of memory"}
    elif request["do"] == "check": answer = {"kernel": "k", "error": 0.0, "limit": 1.0}
    elif request["do"] == "machine": answer = {"kind": "cpu"}
    else: answer = {"seconds": 1e-3, "calls": 1}
    print(json.dumps(answer), flush=True)
"""


def gemm(m):
    return Case("gemm", "bf16", {"m": m, "n": 256, "k": 512})


@pytest.fixture
def remote():
    made = Remote([sys.executable, "-c", WORKER], first_s=20.0, answer_s=0.5)
    yield made
    made.close()


def test_answers_come_back(remote):
    assert remote.machine() == {"kind": "cpu"}
    assert remote.check(gemm(1)).kernel == "k"
    assert remote.visit(gemm(1), 0.01).seconds == 1e-3


@pytest.mark.parametrize(
    ("m", "flag", "words"),
    [
        (13, "hung", "no answer in 0.5 s"),
        (14, "died", "exit code 3"),
        (15, "died", "out of memory"),
        (16, "out-of-memory", "CUDA out of memory"),
    ],
)
def test_a_bad_end_is_one_line_and_the_next_case_runs(remote, m, flag, words):
    remote.machine()
    with pytest.raises(CaseError) as error:
        remote.visit(gemm(m), 0.01)
    assert error.value.flag == flag
    assert words in error.value.note
    assert "\n" not in error.value.note
    assert remote.visit(gemm(1), 0.01).calls == 1


def test_a_case_still_running_at_the_deadline_is_no_hang(remote):
    remote._answer_s = 60.0
    remote.machine()
    with pytest.raises(CaseError) as error:
        remote.visit(gemm(13), 0.01, left_s=0.1)
    assert error.value.flag == "no-time"


def test_bad_ends_in_the_middle_of_a_run_leave_the_other_points(remote, tmp_path):
    cases = [gemm(m) for m in (1, 2, 13, 14, 15, 16)]
    remote.machine()
    session = Session(remote, Store(tmp_path, "a", work), time.monotonic() + 60, sentinels=SENTINELS[:1])
    measure(session, cases)
    flags = [session.store.points[case.key].flag for case in cases]
    assert flags == ["", "", "hung", "died", "died", "out-of-memory"]


RUN = """
import sys, time
from validate.plan import work
from validate.probes.base import Case
from validate.protocol import Session, measure
from validate.remote import Checked, Visit
from validate.store import Store
class Slow:
    def check(self, case, left_s): return Checked("k", 0.0, 1.0)
    def visit(self, case, block_s, left_s=0):
        time.sleep(0.01); print(case.key, flush=True); return Visit(1e-3, 1)
cases = [Case("gemm", "bf16", {"m": m, "n": 64, "k": 64}) for m in range(1, 6)]
store = Store(__import__("pathlib").Path(sys.argv[1]), "a", work, len(sys.argv) > 2)
outcome = measure(Session(Slow(), store, time.monotonic() + 60), cases)
store.close(not outcome.stopped, cases)
"""


def start(folder, *more):
    command = [sys.executable, "-c", RUN, str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=os.getcwd())


@pytest.mark.parametrize("lines", [3, 12, 22])
def test_a_killed_run_goes_on_and_repeats_no_finished_measurement(tmp_path, lines):
    first = start(tmp_path)
    seen = [first.stdout.readline().strip() for _ in range(lines)]
    first.send_signal(signal.SIGKILL)
    seen += first.communicate()[0].split("\n")
    done = [key for key in seen if key.startswith("gemm")]
    second = start(tmp_path, "resume")
    more = [key for key in second.communicate()[0].split("\n") if key.startswith("gemm")]
    assert second.returncode == 0
    store = Store(tmp_path, "a", work, resume=True)
    # a visit whose line was printed but not yet journalled at the kill may be repeated: at most one
    for key, point in store.points.items():
        assert point.n >= FEWEST
        assert point.n <= done.count(key) + more.count(key) <= point.n + 1
