"""Clocks: how long one call takes, by the means of each kind of device.

A clock times one *block*: several samples of several calls each, of which the median counts.
Input sets go round from call to call, so that weights and caches are cold.
"""

import statistics
import time
from typing import NamedTuple

#: samples of a block at most, shortest sample [s], calls that one CUDA graph holds at most
SAMPLES, SAMPLE_S, GRAPH_CALLS = 5, 2e-3, 64
#: short calls that are timed one by one in a block; the median of fewer is at times that of lucky ones
FEWEST_ALONE, MOST_ALONE = 9, 25


class Block(NamedTuple):
    """Median seconds of a call in one block, and calls in all."""

    seconds: float
    calls: int


class CpuClock:
    """``perf_counter`` around plain calls; around each short call by itself, after ``flush``.

    In a step every call follows one that streamed weights through the core's caches, so that
    code and operands of the next are cold: a tight loop of short calls would hide that.
    """

    name = "perf_counter"

    def __init__(self, now=time.perf_counter, flush=None):
        self._now, self.flush = now, flush

    def wait(self) -> None:
        """Wait until everything given to the device is done: here at once."""

    def timer(self, built, each_s: float | None = None) -> "Timer":
        """Return what times one case; ``each_s`` is a call's time where it was timed before."""
        return Timer(self, built, each_s)


class Timer:
    """Times one case by the host's clock."""

    def __init__(self, clock, built, each_s: float | None = None):
        self._clock, self._built, self._at, self.each_s = clock, built, 0, each_s

    def _sample(self, calls: int) -> float:
        sets, call, at = self._built.sets, self._built.call, self._at
        self._clock.wait()
        start = self._clock._now()
        for i in range(at, at + calls):
            call(*sets[i % len(sets)])
        self._clock.wait()
        self._at = (at + calls) % len(sets)
        return (self._clock._now() - start) / calls

    def block(self, block_s: float) -> Block:
        """Time one block of about ``block_s``, after a warm-up; a long call is its own."""
        if self.each_s is not None and self.each_s < SAMPLE_S and self._clock.flush:
            return self._alone(block_s)
        if self.each_s is None:  # the first call may compile or allocate
            self._sample(1)
            self.each_s = min(self._sample(1) for _ in range(2))
            if self.each_s < SAMPLE_S and self._clock.flush:
                return self._alone(block_s)
        elif self.each_s < SAMPLE_S:
            self._sample(2)
        calls = max(1, round(SAMPLE_S / max(self.each_s, 1e-7)))
        samples = max(1, min(SAMPLES, round(block_s / (calls * max(self.each_s, 1e-7)))))
        taken = [self._sample(calls) for _ in range(samples)]
        self.each_s = min(self.each_s, *taken)
        return Block(statistics.median(taken), calls * samples)

    def _alone(self, block_s: float) -> Block:
        """Time short calls one by one, each after the caches were filled with something else."""
        taken, end = [], self._clock._now() + block_s
        while len(taken) < FEWEST_ALONE or (len(taken) < MOST_ALONE and self._clock._now() < end):
            self._clock.flush()
            taken.append(self._sample(1))
        self.each_s = min(self.each_s, *taken)
        return Block(statistics.median(taken), len(taken))


class MpsClock(CpuClock):
    """The host's clock, waiting for Apple's device at both ends."""

    name = "perf_counter, synchronised"

    def __init__(self, torch, now=time.perf_counter):
        super().__init__(now)
        self._torch = torch

    def wait(self) -> None:
        """Wait until everything given to the device is done."""
        self._torch.mps.synchronize()


class CudaClock:
    """CUDA (or ROCm) events around replays of a graph; around plain calls where none can be captured."""

    name = "events, graph replay"

    def __init__(self, torch):
        self.torch = torch

    def timer(self, built, each_s: float | None = None) -> "GraphTimer":
        """Return what times one case; a graph is captured anew each time."""
        return GraphTimer(self.torch, built)


class GraphTimer:
    """Times one case by events; ``graph`` is None where capture failed, and ``why`` says why."""

    def __init__(self, torch, built):
        self._torch, self._built, self.graph, self.why, self._calls = torch, built, None, "", 1
        self.each_s = None

    def _run(self, calls: int) -> None:
        for i in range(calls):
            self._built.call(*self._built.sets[i % len(self._built.sets)])

    def _events_s(self, do, times: int) -> float:
        cuda = self._torch.cuda
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        start.record()
        for _ in range(times):
            do()
        end.record()
        cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / times

    def _prepare(self) -> None:
        cuda = self._torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):  # graphs want a warm-up on another stream
            self._run(3)
        cuda.current_stream().wait_stream(side)
        cuda.synchronize()
        self.each_s = self._events_s(lambda: self._run(1), 2)
        self._calls = max(1, min(GRAPH_CALLS, round(SAMPLE_S / max(self.each_s, 1e-7))))
        try:
            graph = cuda.CUDAGraph()
            with cuda.graph(graph):
                self._run(self._calls)
            self.graph = graph
        except RuntimeError as error:
            self.why = "no graph: " + str(error).splitlines()[0][:100]
            cuda.synchronize()

    def block(self, block_s: float) -> Block:
        """Time one block of about ``block_s``, after a warm-up."""
        if self.each_s is None:
            self._prepare()
        do = self.graph.replay if self.graph else (lambda: self._run(self._calls))
        self._events_s(do, 1)
        one = max(self._events_s(do, 1), 1e-7)
        times = max(1, min(50, round(SAMPLE_S / one)))
        samples = max(1, min(SAMPLES, round(block_s / (times * one))))
        taken = [self._events_s(do, times) / self._calls for _ in range(samples)]
        return Block(statistics.median(taken), samples * times * self._calls)


def clock_of(torch, kind: str, flush=None):
    """Return the clock of a kind of device: cpu, cuda, rocm or mps; ``flush`` fills a processor's caches."""
    if kind in ("cuda", "rocm"):
        return CudaClock(torch)
    return MpsClock(torch) if kind == "mps" else CpuClock(flush=flush)
