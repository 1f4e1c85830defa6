"""Variants: other kernels on a few of the planned shapes, timed beside the one that is fitted.

Ways are the kernels of torch itself that a probe may run by (backends of attention, pages read in
place): before anything is measured each is tried on a few shapes, the fastest becomes the plain
kernel. Adapters are kernels of other packages. Neither takes part in a fit.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import calc
from validate import adapters
from validate.probes import PROBES
from validate.probes.base import Case, Plan
from validate.profile import Point
from validate.protocol import BLOCK_S
from validate.remote import CaseError

#: shapes on which another way is compared, and an adapter's kernel, by level of the plan
WAY_SHAPES, ADAPTER_SHAPES = (2, 3, 5), (3, 5, 8)
#: the longest call on which ways are tried, as a share of the plan's longest: slow ones take many times that
TRIED_SHARE = 0.02
#: dtype of variants, blocks of a trial
DTYPE, TRIALS = "bf16", 2
#: the longest that a trial is waited for [s]
TRIAL_S = 20.0


def wanted_adapters(names: Sequence[str], kind: str, say) -> list[str]:
    """Return the adapters that a run uses; of ``all`` those that are available, the others are told.

    Parameters
    ----------
    names : sequence of str
        As given to ``--adapter``.
    kind : str
        Kind of the device that is measured: cpu, cuda, rocm or mps.
    say : callable
        Takes a line for each adapter that ``all`` leaves out.

    Raises
    ------
    SpecError
        If one that is named is not known or cannot run here; the message says why.
    """
    found = []
    for name in dict.fromkeys(names):
        if name == "all":
            continue
        if reason := missing_reason(name, kind):
            raise calc.SpecError(f"--adapter: {name} cannot run here: {reason}")
        found.append(name)
    if "all" in names:
        for name in adapters.ADAPTERS:
            if reason := missing_reason(name, kind):
                say(f"adapter {name} left out: {reason}")
            elif name not in found:
                found.append(name)
    return found


def missing_reason(name: str, kind: str) -> str:
    """Return why an adapter cannot run on a kind of device; empty where it can."""
    module = adapters.adapter(name)
    kinds = getattr(module, "KINDS", ("cuda", "rocm"))
    reason = module.available()
    if not reason and kind not in kinds:
        reason = f"its kernels are for {' and '.join(kinds)}, this run is on {kind}"
    return reason or ""


def few(cases: Iterable[Case], n: int) -> list[Case]:
    """Return at most ``n`` cases, evenly spread from the smallest to the largest.

    Examples
    --------
    >>> cases = [Case("norm", "bf16", {"rows": 2**i, "width": 64}) for i in range(9)]
    >>> [case.sizes["rows"] for case in few(cases, 3)]
    [1, 16, 256]
    """
    ordered = sorted(cases, key=_bytes)
    if len(ordered) <= n:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (n - 1))] for i in range(n)]


def _bytes(case: Case) -> float:
    return float(PROBES[case.probe].op(case.sizes, case.dtype).bytes)


def adapter_cases(names: Iterable[str], cases: Sequence[Case], level: int, say) -> list[Case]:
    """Return the variants of planned cases that adapters run: a few shapes of each kernel they replace.

    Parameters
    ----------
    names : iterable of str
    cases : sequence of Case
        The planned ones.
    level : int
        Of the plan: 0 quick, 1 standard, 2 full.
    say : callable
        Takes a line for each adapter that has nothing to do.
    """
    found = []
    for name in names:
        before = len(found)
        module = adapters.adapter(name)
        takes, kernels = getattr(module, "takes", lambda kernel, sizes: True), set(module.kernels())
        for probe in PROBES.values():
            if probe.replaces in kernels:
                fit = [case for case in _plain(cases, probe.name) if takes(probe.replaces, case.sizes)]
                found += [replace(case, kernel=name) for case in few(fit, ADAPTER_SHAPES[level])]
        if len(found) == before:
            say(f"adapter {name}: no planned case is of its kernels ({', '.join(sorted(kernels))}, {DTYPE})")
    return found


def _plain(cases: Iterable[Case], probe: str) -> list[Case]:
    return [case for case in cases if (case.probe, case.dtype, case.kernel) == (probe, DTYPE, "")]


@dataclass
class Choice:
    """How the ways of one probe compare: the fastest, those that ran beside it, those that could not."""

    probe: str
    shapes: list[Case]
    fastest: str = ""
    ran: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def variants(self) -> list[Case]:
        """Return what is to be timed beside the fastest; of what could not run one case, for the reason."""
        others = [way for way in self.ran if way != self.fastest]
        cases = [replace(shape, kernel=way) for way in others for shape in self.shapes]
        return cases + [replace(self.shapes[0], kernel=way) for way in self.failed]


def choices(backend, cases: Sequence[Case], plan: Plan, points: Iterable[Point] = ()) -> list[Choice]:
    """Return the fastest way of each probe that has several, by trials on a few shapes.

    Parameters
    ----------
    backend : object
        Who runs cases.
    cases : sequence of Case
        The planned ones.
    plan : Plan
    points : iterable of Point
        Of an earlier run that goes on: what it fitted stays the choice.
    """
    points = list(points)
    return [
        _choice(backend, probe, shapes, plan.kind, _fitted(points, probe.name))
        for probe in PROBES.values()
        if probe.ways(plan.kind) and (shapes := _shapes(probe.name, cases, plan))
    ]


def _shapes(probe: str, cases: Sequence[Case], plan: Plan) -> list[Case]:
    """Return short cases of a probe, without windows and prefixes of prompts: every way takes those."""
    found = [
        case for case in _plain(cases, probe)
        if not case.sizes.get("window") and (case.sizes.get("new", 1) == 1 or not case.sizes["past"])
    ]  # fmt: skip
    longest = TRIED_SHARE * plan.call_s
    short = [case for case in found if plan.seconds(PROBES[probe].op(case.sizes, DTYPE)) <= longest]
    return few(short or sorted(found, key=_bytes)[:1], WAY_SHAPES[plan.level])


def _fitted(points: Iterable[Point], probe: str) -> str:
    """Return the kernel that most plain points of a probe ran by."""
    kernels = Counter(point.kernel for point in points if point.probe == probe and point.plain)
    return kernels.most_common(1)[0][0] if kernels else ""


def _choice(backend, probe, shapes: list[Case], kind: str, earlier: str) -> Choice:
    ways, mean_s = (*probe.ways(kind), *probe.rivals(kind)), {}
    for way in ways:
        try:
            seconds = [_tried(backend, replace(shape, kernel=way)) for shape in shapes]
        except CaseError:
            continue
        mean_s[way] = sum(map(math.log, seconds)) / len(seconds)
    fit = [way for way in probe.ways(kind) if way in mean_s]
    fastest = earlier if earlier in fit else min(fit, key=mean_s.get, default="")
    return Choice(probe.name, shapes, fastest, list(mean_s), [way for way in ways if way not in mean_s])


def _tried(backend, case: Case) -> float:
    """Return the time of one call of a variant. [s]

    Raises
    ------
    CaseError
        If it is wrong or cannot run.
    """
    checked = backend.check(case, TRIAL_S)
    if not checked.error <= checked.limit:
        raise CaseError("wrong", "")
    return min(backend.visit(case, BLOCK_S, TRIAL_S).seconds for _ in range(TRIALS))


def with_choices(cases: Iterable[Case], chosen: Iterable[Choice]) -> list[Case]:
    """Return cases that prefer the fastest way of their probe; decoders that of each phase."""
    fastest = {choice.probe: choice.fastest for choice in chosen}

    def prefers(case: Case) -> str:
        if case.probe in PROBES:
            return fastest.get(case.probe, "")
        return fastest.get("decode" if case.sizes["past"] else "prefill", "")

    return [case if case.kernel else replace(case, prefers=prefers(case)) for case in cases]
