"""The process that runs kernels: reads one JSON request a line, answers with one JSON line.

It is a process of its own so that a kernel that hangs, crashes or eats all memory takes
nothing with it: the parent (``validate.remote``) stops it, says so, and starts another.
"""

import json
import os
import queue
import sys
import threading
from collections import OrderedDict

from validate.probes.base import Case
from validate.probes.ready import UnavailableError, is_missing, ready

#: bytes of activations of cases that are kept ready
READY_BYTES = 3e9
#: how often the second-level caches fit into what is read between two short calls. Twice is not
#: enough: some of the code survives, now and then, and such a call takes a third of the time of others
FLUSH = 4


class Worker:
    """Builds, checks and times cases on one device."""

    def __init__(self, device: str, threads: int, pool_bytes: float, probes=None):
        import torch

        from validate.clock import clock_of
        from validate.machine import core_cache_bytes, pool_size
        from validate.probes.bench import Bench

        torch.set_grad_enabled(False)
        torch.set_num_threads(threads)
        torch.backends.cuda.matmul.allow_tf32 = False
        self.torch, self.bench = torch, Bench(device, pool_bytes or pool_size(torch, device))
        if self.bench.device.type == "cuda":
            torch.cuda.set_device(self.bench.device)
        on_host = self.bench.kind == "cpu"
        flush_bytes = min(FLUSH * threads * core_cache_bytes(), self.bench.pool_bytes)
        flush = self.bench.flusher(flush_bytes) if on_host else None
        self.clock = clock_of(torch, self.bench.kind, flush)
        self._ready: OrderedDict = OrderedDict()
        self._each_s: dict[str, float] = {}  # of cases that were ready once
        self._probes = probes

    def probe(self, case: Case):
        """Return the probe of a case, decoders included."""
        if self._probes is None:
            from validate.acceptance import DECODERS
            from validate.probes import PROBES

            self._probes = {**PROBES, **DECODERS}
        return self._probes[case.probe]

    def check(self, case: Case) -> dict:
        """Run a case once and compare with the reference in float64."""
        from validate.probes.bench import relative_error

        probe = self.probe(case)
        built = self._built(case)[0]
        args = built.sets[0]
        with built.within():
            self.bench.poison_like(built.call(*self._given(built)))
            out = built.call(*self._given(built))
        args, out = self.bench.to_check(built.plain(args) if built.plain else args), self.bench.to_check(out)
        chosen, want = probe.reference(case, args, self.bench)
        error = relative_error(chosen(out), want)
        if not self.bench.is_finite(out):
            error = float("inf")
        return {"kernel": built.kernel, "error": error, "limit": probe.limit(case.dtype)}

    def _given(self, built) -> tuple:
        """Return the first inputs; copies of them where the call overwrites them."""
        args = built.sets[0]
        if not built.overwrites:
            return args
        return tuple(each.clone() if isinstance(each, self.torch.Tensor) else each for each in args)

    def visit(self, case: Case, block_s: float) -> dict:
        """Time one block of a case."""
        built, timer, _ = self._built(case)
        with built.within():
            block = timer.block(block_s)
        return {"seconds": block.seconds, "calls": block.calls}

    def _built(self, case: Case):
        if case.key in self._ready:
            self._ready.move_to_end(case.key)
            return self._ready[case.key]
        probe = self.probe(case)
        size = float(probe.op(case.sizes, case.dtype).activation_bytes)
        while self._ready and size + sum(each[2] for each in self._ready.values()) > READY_BYTES:
            key, (_, timer, _) = self._ready.popitem(last=False)
            self._each_s[key] = timer.each_s
        self.bench.seed(case.key)
        built = ready(probe, case, self.bench)
        self._ready[case.key] = built, self.clock.timer(built, self._each_s.get(case.key)), size
        return self._ready[case.key]

    def machine(self) -> dict:
        """Return what torch knows of the device."""
        from validate.machine import device_facts

        return {**device_facts(self.torch, self.bench), "clock": self.clock.name}

    def forget(self) -> None:
        """Free what is kept ready, after running out of memory."""
        self._ready.clear()
        if self.bench.device.type == "cuda":
            self.torch.cuda.empty_cache()


def answer(worker, request: dict) -> dict:
    """Return the answer to one request; errors as a flag and one line."""
    try:
        if request["do"] == "machine":
            return worker.machine()
        case = Case(**request["case"])
        if request["do"] == "check":
            return worker.check(case)
        return worker.visit(case, request["block_s"])
    except UnavailableError as error:
        return {"flag": "unavailable", "note": str(error)}
    except Exception as error:  # whatever a kernel raises is an answer; the run goes on
        flag = flag_of(error)
        if flag == "out-of-memory":
            worker.forget()
        return {"flag": flag, "note": one_line(error)}


def flag_of(error: Exception) -> str:
    """Return what an exception means.

    Examples
    --------
    >>> flag_of(MemoryError()), flag_of(NotImplementedError()), flag_of(RuntimeError("x"))
    ('out-of-memory', 'unavailable', 'failed')
    """
    text = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate" in text:
        return "out-of-memory"
    return "unavailable" if is_missing(error) else "failed"


def one_line(error: Exception) -> str:
    """Return the kind and first line of an error.

    Examples
    --------
    >>> one_line(ValueError("first\\nsecond"))
    'ValueError: first'
    """
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def serve(worker_of, lines, out) -> None:
    """Answer requests until the input ends; the first makes the worker."""
    worker = None
    while (line := lines()) is not None:
        request = json.loads(line)
        if worker is None:
            worker = worker_of()
        out(json.dumps(answer(worker, request)))


def _reader(stream) -> "queue.Queue[str | None]":
    """Read lines in a thread; when the parent is gone, stop even in the middle of a kernel."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read():
        for line in stream:
            lines.put(line)
        lines.put(None)
        threading.Timer(2.0, os._exit, (0,)).start()

    threading.Thread(target=read, daemon=True).start()
    return lines


def main(argv: list[str]) -> None:
    """Serve one device: ``python -m validate.worker DEVICE THREADS POOL_BYTES``."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not look like answers
    lines = _reader(sys.stdin)
    device, threads, pool_bytes = argv

    def out(text: str) -> None:
        answers.write(text + "\n")
        answers.flush()

    serve(lambda: Worker(device, int(threads), float(pool_bytes)), lines.get, out)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
