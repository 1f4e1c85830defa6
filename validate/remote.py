"""The parent's side of the worker process: requests with a time limit, a new worker after a bad end."""

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import asdict
from typing import NamedTuple

from validate.probes.base import Case

#: seconds that a first answer may take (imports, CUDA), and any other
FIRST_S, ANSWER_S = 180.0, 60.0


class CaseError(Exception):
    """A case that ended badly: ``flag`` as in a point, ``note`` in one line."""

    def __init__(self, flag: str, note: str):
        super().__init__(f"{flag}: {note}")
        self.flag, self.note = flag, note


class Checked(NamedTuple):
    """Result of a check: the kernel that ran, its relative error, what is allowed."""

    kernel: str
    error: float
    limit: float


class Visit(NamedTuple):
    """One block: median seconds of a call, and calls."""

    seconds: float
    calls: int


class Remote:
    """A worker process for one device.

    Parameters
    ----------
    command : list of str
        How to start the worker.
    first_s, answer_s : float
        Time limits of the first answer and of the others. [s]
    """

    def __init__(self, command: list[str], first_s: float = FIRST_S, answer_s: float = ANSWER_S):
        self._command, self._first_s, self._answer_s = command, first_s, answer_s
        self._process = None
        self.restarts = 0

    def _start(self) -> None:
        # a session of its own: Ctrl-C is for the parent, which ends the run in order
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        self._answers: queue.Queue[str | None] = queue.Queue()
        stream, answers = self._process.stdout, self._answers

        def read():
            for line in stream:
                answers.put(line)
            answers.put(None)

        threading.Thread(target=read, daemon=True).start()

    def ask(self, request: dict, left_s: float = 1e9) -> dict:
        """Return the answer to a request; ``left_s`` is the time left to the run.

        Raises
        ------
        CaseError
            If the worker says so, does not answer in time, or ends.
        """
        usual = self._answer_s if self._process else self._first_s
        limit = min(usual, max(1.0, left_s))
        if self._process is None:
            self._start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=limit)
        except queue.Empty:
            self.close()
            if limit < usual:
                raise CaseError("no-time", "still running when the time was up") from None
            raise CaseError("hung", f"no answer in {limit:g} s; its process was stopped") from None
        except OSError:
            line = None
        if line is None:
            raise CaseError("died", self._ended())
        found = json.loads(line)
        if "flag" in found:
            raise CaseError(found["flag"], found["note"])
        return found

    def _ended(self) -> str:
        code = self._process.wait()
        self.close()
        if code == -signal.SIGKILL:
            return "its process was killed, as a machine out of memory does"
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process ended by itself ({name})"

    def close(self) -> None:
        """Stop the worker, whatever it is doing."""
        process, self._process = self._process, None
        if process is not None:
            self.restarts += 1
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()

    def machine(self) -> dict:
        """Return what the worker knows of its device."""
        return self.ask({"do": "machine"})

    def check(self, case: Case, left_s: float = 1e9) -> Checked:
        """Return whether a case's kernel is right."""
        return Checked(**self.ask({"do": "check", "case": asdict(case)}, left_s))

    def visit(self, case: Case, block_s: float, left_s: float = 1e9) -> Visit:
        """Return the time of one block."""
        return Visit(**self.ask({"do": "visit", "case": asdict(case), "block_s": block_s}, left_s))


def local_worker(device: str, threads: int, pool_bytes: float) -> Remote:
    """Return a worker on this machine."""
    command = [sys.executable, "-m", "validate.worker", device, str(threads), f"{pool_bytes:.0f}"]
    return Remote(command)
