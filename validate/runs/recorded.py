"""Many runs at once: kernel seconds of their steps recorded, so that overheads can be tried on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import calc
from calc.serving.batching import Service, loop_service, static_service
from calc.serving.speculation import is_draft, with_drafts
from calc.serving.steps import Steps, decode_rows
from calc.specs.device import Device
from calc.specs.facts import Fact
from calc.specs.numeric import minimum
from calc.timing.exchange import least_exchange_s
from calc.timing.overheads import (
    COLLECTIVE,
    GROUPS,
    HOST,
    HOST_COLLECTIVE,
    Overheads,
    handling_s,
    host_time_s,
    kernel_group,
    own_kernels_s,
)
from calc.timing.step_time import Duration, TimedOp, is_exchange, launch_s, roofline_point
from calc.work.op import Sequences
from validate.runs.scenario import Scenario, scenario_of, trust
from validate.runs.table import Run

#: names of the numbers that a profile holds: host numbers, then kernel factors
NAMES = (*HOST, *GROUPS)

#: 1 for groups of kernels that are never faster than the roofline, 0 for exchanges
_ROOFED = np.array([float(name not in (COLLECTIVE, HOST_COLLECTIVE)) for name in GROUPS])


def overheads_from(engine: str, values: dict[str, float]) -> Overheads:
    """Return overheads of given numbers, by the names of ``NAMES``; what is not named has no effect."""
    host = {name: Fact(values.get(name, 0.0), unit, "assumed") for name, (unit, _) in HOST.items()}
    kernels = {name: values[name] for name in GROUPS if name in values}
    reach = {name: values[f"reach.{name}"] for name in GROUPS if f"reach.{name}" in values}
    return Overheads(engine, "any", host, kernels, reach)


class _Recorder:
    """Steps without overheads that keep the seconds of every step by kernel group."""

    def __init__(self, steps: Steps):
        self._steps, self.calls = steps, []

    def __getattr__(self, name: str):
        return getattr(self._steps, name)

    def time(self, *groups) -> Duration:
        """Return the time of one step, and keep it."""
        duration = self._steps.time(*groups)
        seconds, fixed, least = (dict.fromkeys(GROUPS, 0.0) for _ in range(3))
        in_step = (row for row in duration.rows if not is_draft(row))
        exchanges = sum(float(row.op.count) for row in in_step if is_exchange(row))
        for row in duration.rows:
            if row.op is not None:
                group = kernel_group(row.op, self.device)
                seconds[group] += float(row.seconds)
                fixed[group] += _launch_s(row)
                least[group] += _least_s(row, self.device)
        sequences = float(sum(self._rows_of(group) for group in groups))
        rows = [[each[name] for name in GROUPS] for each in (seconds, fixed, least)]
        self.calls.append((rows, sequences, exchanges))
        return duration

    def _rows_of(self, group: Sequences):
        """Tokens of a group that bring logits, drafts that are verified among them."""
        drafts = self.deployment.speculation
        if group.phase != "decode" or drafts is None:
            return group.logit_rows
        return decode_rows(group.logit_rows, 1, drafts.draft_tokens)


def _launch_s(row: TimedOp) -> float:
    """Fixed costs that an engine's own kernels have too. [s]"""
    if row.op.is_collective:
        return float(row.fixed_s)
    return float(minimum(row.fixed_s, row.calls * launch_s(row.fit)))


def _least_s(row: TimedOp, device: Device) -> float:
    """Time that roofline or links allow all calls of a row. [s]"""
    if row.has_work:
        return float(row.seconds * roofline_point(row, device).share)
    return float(row.op.count * least_exchange_s(row.op, device))


@dataclass(frozen=True, eq=False)
class Recorded:
    """One run: its scenario, load and the steps that its service asks for."""

    run: Run
    scenario: Scenario
    in_flight: float
    wanted: float
    calls: list
    trust: str = "calibrated"


def recorded(run: Run) -> Recorded:
    """Return a run with the kernel seconds of its steps.

    Raises
    ------
    SpecError
        If the run cannot be answered.
    """
    scenario = scenario_of(run)
    e = scenario.estimate()
    in_flight = float(e.service.concurrency)
    plain = Steps(e.model, e.device, e.deployment, e.engine, e.calibration, overheads_from(run.engine, {}))
    steps = _Recorder(with_drafts(plain))
    if e.workload.mode == "static":
        static_service(steps, e.workload)
    else:
        loop_service(steps, e.workload, in_flight, in_flight)
    return Recorded(run, scenario, in_flight, in_flight + float(e.service.queued), steps.calls, trust(e, run))


@dataclass(eq=False)
class Batch:
    """Recorded runs of one kind of load as arrays; stands in for ``Steps`` in the service formulas."""

    members: Sequence[Recorded]
    overheads: Overheads | None = None
    stages: np.ndarray = field(init=False)
    policy: str = field(init=False)
    ranks: np.ndarray = field(init=False)

    def __post_init__(self):
        steps = [_steps(member) for member in self.members]
        self.stages = np.array([float(each.stages) for each in steps])
        self.ranks = np.array([float(each.ranks) for each in steps])
        self.policy = steps[0].policy
        self.hold_steps = np.array([float(each.hold_steps) for each in steps])
        gained = [float(each.tokens_per_step) for each in steps]
        self.tokens_per_step = np.array(gained) if max(gained) > 1 else 1
        self._budgets = np.array(
            [
                float(each.token_budget(m.scenario.workload.prompt_tokens))
                for each, m in zip(steps, self.members, strict=True)
            ]
        )
        self._launches = np.array([float(each.prefill_launches) for each in steps])
        self._layers = np.array([each.model.n_layers for each in steps])
        calls = np.array([[call[0] for call in member.calls] for member in self.members])
        self._seconds = calls.transpose(1, 2, 0, 3)  # call, kind of time, run, group
        self._sequences = np.array([[call[1] for call in member.calls] for member in self.members])
        self._exchanges = np.array([[call[2] for call in member.calls] for member in self.members])
        self._call = 0

    @property
    def handling_s(self) -> np.ndarray:
        """Host time of a request of each run, with the overheads at hand."""
        return handling_s(self.overheads, self._launches)

    def token_budget(self, prompt_tokens):
        """Most tokens of a step of each run."""
        return self._budgets

    def time(self, *groups) -> Duration:
        """Return the recorded step that is next in line, with the overheads at hand."""
        (seconds, fixed, least), exchanges = self._seconds[self._call], self._exchanges[:, self._call]
        sequences = self._sequences[:, self._call]
        self._call += 1
        o = self.overheads
        factors = np.array([o.kernels.get(name, 1.0) for name in GROUPS])
        reach = np.array([o.reach.get(name, 0.0) for name in GROUPS])
        own = own_kernels_s(factors * seconds, factors * fixed, least, reach)
        kernels = np.maximum(own, least * _ROOFED).sum(axis=1)
        host = host_time_s(o, sequences, self._layers, exchanges)
        return Duration((TimedOp("kernels", kernels), TimedOp("engine overhead", host)))

    def service(self, overheads: Overheads) -> Service:
        """Return the service of all runs under some overheads."""
        self.overheads, self._call = overheads, 0
        load = _together([member.scenario.workload for member in self.members])
        if load.mode == "static":
            return static_service(self, load)
        in_flight, wanted = (
            np.array([getattr(member, name) for member in self.members]) for name in ("in_flight", "wanted")
        )
        return loop_service(self, load, in_flight, wanted)


def _together(loads: Sequence[calc.Workload]) -> calc.Workload:
    """Return loads of one kind as one load of arrays."""
    names = ["prompt_tokens", "output_tokens"] + ["concurrency"] * (loads[0].mode != "max_load")
    sizes = {name: np.array([float(getattr(load, name)) for load in loads]) for name in names}
    alike = {name: getattr(loads[0], name) for name in ("mode", "equal_lengths", "warmed_up")}
    return calc.Workload(**sizes, **alike)


def _steps(member: Recorded) -> Steps:
    s = member.scenario
    engine = calc.engine_of(s.deployment, s.device)
    return with_drafts(Steps(s.model, s.device, s.deployment, engine, None, None))


class Runs:
    """Recorded runs of any load, answered together in the order given."""

    def __init__(self, members: Sequence[Recorded]):
        self.members = list(members)
        self.measured = np.array([member.run.value for member in members])
        loads = [member.scenario.workload for member in members]
        kinds = np.array([f"{load.mode} {load.equal_lengths} {load.warmed_up}" for load in loads])
        indices = [np.flatnonzero(kinds == kind) for kind in dict.fromkeys(kinds.tolist())]
        self._parts = [(index, Batch([members[i] for i in index])) for index in indices]

    def predicted(self, overheads: Overheads) -> np.ndarray:
        """Return the predicted figure of every run."""
        values = np.empty(len(self.members))
        for index, batch in self._parts:
            service = batch.service(overheads)
            values[index] = _figures(service, [member.run for member in batch.members])
        return values


def _figures(service: Service, runs: Sequence[Run]) -> np.ndarray:
    figures = {
        "e2e_latency_s": service.e2e_latency_s,
        "output_tokens_per_s": service.output_tokens_per_s,
        "ttft_s": service.ttft.seconds,
        "tpot_s": service.tpot.seconds,
        "decode_tokens_per_s": 1 / service.tpot.seconds,
        "prefill_tokens_per_s": np.array([run.prompt_tokens for run in runs]) / service.ttft.seconds,
    }
    shape = (len(runs),)
    return np.array(
        [np.broadcast_to(figures[run.metric], shape)[i] for i, run in enumerate(runs)], dtype=float
    )
