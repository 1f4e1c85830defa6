"""Clocks against made-up devices: samples, graphs, events; without torch or a GPU."""

import pytest

from validate.clock import GRAPH_CALLS, CpuClock, GraphTimer, MpsClock, Timer, clock_of
from validate.probes.base import Built


class Hands:
    """A clock that moves when calls run."""

    def __init__(self):
        self.time_s, self.ran = 0.0, []

    def now(self):
        return self.time_s

    def call(self, seconds, name="x"):
        self.time_s += seconds
        self.ran.append(name)


def test_a_long_call_is_a_block_of_its_own():
    hands = Hands()
    timer = Timer(CpuClock(hands.now), Built(hands.call, [(0.5,)], ""))
    timer.block(0.01)
    before = len(hands.ran)
    block = timer.block(0.01)
    assert (block.seconds, block.calls, len(hands.ran) - before) == (0.5, 1, 1)


def test_input_sets_go_round_from_call_to_call():
    hands = Hands()
    sets = [(1e-4, name) for name in "abc"]
    timer = Timer(CpuClock(hands.now), Built(hands.call, sets, ""))
    timer.block(0.01)
    timer.block(0.01)
    assert {hands.ran.count(name) for name in "abc"} <= {len(hands.ran) // 3 + i for i in (-1, 0, 1)}
    assert all(a != b for a, b in zip(hands.ran[3:], hands.ran[4:], strict=False))


def test_short_calls_are_timed_one_by_one_after_the_caches_were_filled():
    hands, flushed = Hands(), []

    def flush():
        flushed.append(len(hands.ran))
        hands.time_s += 1e-3

    timer = Timer(CpuClock(hands.now, flush), Built(hands.call, [(1e-5,)], ""))
    block = timer.block(0.01)
    assert block.seconds == pytest.approx(1e-5)  # the flush is not in it
    assert len(flushed) == block.calls


class FakeCuda:
    """What the clock uses of ``torch.cuda``: a device on which a call takes ``call_s``."""

    def __init__(self, call_s, captures=True):
        self.call_s, self.captures, self.device_s, self.capturing = call_s, captures, 0.0, None
        self.replays = 0

    def kernel(self, *args):
        if self.capturing is not None:
            self.capturing.append(args)
        else:
            self.device_s += self.call_s + 5e-6  # a launch from the host

    def Stream(self):  # noqa: N802
        return self

    def current_stream(self):
        return self

    def wait_stream(self, other):
        pass

    def stream(self, other):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *about):
        self.capturing = None

    def synchronize(self):
        pass

    def CUDAGraph(self):  # noqa: N802
        return FakeGraph(self)

    def graph(self, graph):
        if not self.captures:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.capturing = graph.calls
        return self

    def Event(self, enable_timing):  # noqa: N802
        return FakeEvent(self)


class FakeGraph:
    def __init__(self, cuda):
        self.cuda, self.calls = cuda, []

    def replay(self):
        self.cuda.replays += 1
        self.cuda.device_s += self.cuda.call_s * len(self.calls)


class FakeEvent:
    def __init__(self, cuda):
        self.cuda, self.at = cuda, 0.0

    def record(self):
        self.at = self.cuda.device_s

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at)


class FakeTorch:
    def __init__(self, cuda):
        self.cuda = cuda


@pytest.mark.parametrize("call_s", [2e-6, 1e-3])
def test_a_gpu_is_timed_by_events_around_graph_replays_on_rotated_inputs(call_s):
    cuda = FakeCuda(call_s)
    timer = GraphTimer(FakeTorch(cuda), Built(cuda.kernel, [(i,) for i in range(10)], ""))
    block = timer.block(0.012)
    assert block.seconds == pytest.approx(call_s)  # launches are not in it
    assert cuda.replays > 1
    assert len(timer.graph.calls) <= GRAPH_CALLS
    assert [args[0] for args in timer.graph.calls] == [i % 10 for i in range(len(timer.graph.calls))]


def test_where_no_graph_can_be_captured_plain_calls_are_timed_and_it_says_why():
    cuda = FakeCuda(1e-4, captures=False)
    timer = GraphTimer(FakeTorch(cuda), Built(cuda.kernel, [()], ""))
    assert timer.block(0.012).seconds == pytest.approx(1.05e-4)
    assert timer.graph is None
    assert timer.why == "no graph: operation not permitted when stream is capturing"


def test_each_kind_of_device_has_its_clock():
    names = {kind: clock_of(None, kind).name for kind in ("cpu", "cuda", "rocm", "mps")}
    assert names["cuda"] == names["rocm"] == "events, graph replay"
    assert names["cpu"] == "perf_counter"
    waited = []

    class Torch:
        class mps:  # noqa: N801
            synchronize = staticmethod(lambda: waited.append(1))

    MpsClock(Torch).timer(Built(lambda: None, [()], "")).block(0.001)
    assert waited
