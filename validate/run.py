"""``python -m validate run``: check, measure, fit and accept the kernels of this machine."""

import argparse
import contextlib
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import calc
from calc.timing.calibration import calibration_for
from validate import machine
from validate.acceptance.predict import accepted
from validate.own_device import ceilings_of, device_from, own_device
from validate.plan import (
    SENTINELS,
    budget_seconds,
    measuring_seconds,
    plan_of,
    planned_cases,
    work,
)
from validate.probes.base import Case, Plan
from validate.profile import Fingerprint, Profile, Protocol, Skipped, mismatch, read_profile, write_profile
from validate.profile_fit import fit_all
from validate.protocol import BLOCK_S, Outcome, Session, StoppedError, measure
from validate.remote import CaseError, local_worker
from validate.run_report import Progress, acceptance_table, errors_table, summary, variants_table
from validate.store import Store
from validate.variants import adapter_cases, choices, wanted_adapters, with_choices

#: ceilings to plan with where the sentinels could not run [flop/s], [byte/s]
ROUGH = (1e11, 1e10)
#: load per core above which the machine counts as busy
BUSY = 0.3
NOTHING, WRONG = 2, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = "example: python -m validate run --budget 5m --model llama-3.1-8b"
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda:0 or mps (default auto)")
    parser.add_argument("--budget", default="standard", help="quick, standard, full or a time such as 5m")
    parser.add_argument(
        "--model", action="append", default=[], help="add this model's shapes (may be repeated)"
    )
    parser.add_argument("--ops", help="probes to measure, separated by commas (default all)")
    parser.add_argument("--dtype", help="dtypes to measure, separated by commas (default all)")
    parser.add_argument(
        "--adapter", action="append", default=[], metavar="NAME",
        help="compare kernels of another package with torch's (see check; all: those that run here; "
        "may be repeated)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="host threads (default one fewer than cores)")
    parser.add_argument(
        "--out", default="calibrations/devices", metavar="FOLDER", help="where files are written"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an earlier run; repeats no finished case"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the cases and stop")


def run(args: argparse.Namespace, backend=None, progress=None) -> int:
    """Run the command; ``backend`` and ``progress`` stand in for the worker and the terminal in tests."""
    start, budget_s = time.monotonic(), budget_seconds(args.budget)
    models = tuple(calc.load_model(name) for name in args.model)
    threads = args.threads or machine.default_threads()
    if threads < 1:
        raise calc.SpecError(f"--threads: {threads} is not allowed; allowed are 1 and more")
    progress = progress or Progress()
    backend = backend or local_worker(chosen_device(args.device), threads, 0)
    try:
        return _run(args, backend, progress, models, start, budget_s)
    finally:
        backend.close()


def chosen_device(name: str) -> str:
    """Return the device that a name means; ``auto`` is the first GPU there is, else the processor.

    Raises
    ------
    SpecError
        If torch is missing or does not have the device.
    """
    try:
        import torch
    except ImportError:
        raise calc.SpecError("run: torch is not installed; pip install 'ullage[validate]'") from None
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind if kind != "cuda" else "cuda:0" for kind in ("cuda", "mps", "cpu") if has[kind])
    if not has.get(name.split(":")[0]):
        known = ", ".join(kind for kind, there in has.items() if there)
        raise calc.SpecError(f"--device: {name!r} is not here; this machine has {known}")
    return name


@dataclass(frozen=True)
class _Machine:
    """What the worker said of the machine, before anything is measured."""

    facts: dict
    print: Fingerprint
    id: str


def _run(args, backend, progress, models, start: float, budget_s: float) -> int:
    found = _machine(backend)
    folder = Path(args.out)
    _warn_of_other_machine(folder / f"{found.id}.yaml", found, progress)
    plan = plan_of(budget_s, found.facts, *_rough_ceilings(backend), models)
    cases = planned_cases(plan, *(each.split(",") if each else None for each in (args.ops, args.dtype)))
    adapters = wanted_adapters(args.adapter, plan.kind, progress.line)
    cases += adapter_cases(adapters, cases, plan.level, progress.line)
    if args.dry_run:
        print("\n".join(case.key for case in cases))
        return 0
    before = machine.load()
    store = Store(folder, found.id, work, args.resume)
    cases = _with_ways(backend, cases, plan, store)
    progress.line(_opening(found, cases, budget_s, before))
    session = Session(
        backend, store, start + measuring_seconds(budget_s), now=time.monotonic, load=machine.load,
        say=progress, sentinels=SENTINELS,
    )  # fmt: skip
    with stopped_by_signals():
        outcome = measure(session, cases)
    backend.close()
    protocol = Protocol(
        statistic="min_of_block_medians", budget_s=budget_s, wall_s=0.0, rounds=outcome.rounds,
        clock=found.facts.get("clock", ""), steady=outcome.steady, drift_pct=outcome.drift_pct,
        stalls=outcome.stalls, load_before=before, load_after=machine.load(), stopped=outcome.stopped,
        note=machine.clocks(),
    )  # fmt: skip
    return _finish(found, store, outcome, protocol, folder, (progress, start, cases))


def _with_ways(backend, cases: list[Case], plan: Plan, store: Store) -> list[Case]:
    """Return cases that prefer the fastest way of their probe, and the other ways beside it."""
    found = choices(backend, cases, plan, store.points.values())
    return with_choices(cases, found) + [case for choice in found for case in choice.variants()]


def _machine(backend) -> _Machine:
    try:
        facts = backend.machine()
    except CaseError as error:
        raise calc.SpecError(f"run: the device cannot be used: {error.note}") from None
    about = machine.fingerprint(facts)
    return _Machine(facts, about, machine.run_id(about, facts["torch"]))


def _warn_of_other_machine(path: Path, found: _Machine, progress) -> None:
    """Say in one line that the files there are of another machine."""
    if path.exists():
        with contextlib.suppress(calc.SpecError):
            if line := mismatch(read_profile(path), found.print, machine.versions(found.facts)):
                progress.line(f"warning: {line}")


def _opening(found: _Machine, cases, budget_s: float, load: float) -> str:
    busy = load > BUSY * max(found.print.threads, 1)
    hint = (
        f"; load {load:.1f}: others are busy here, times are less certain" if busy else f"; load {load:.1f}"
    )
    return f"{found.print.name}: {len(cases)} cases in {budget_s:.0f} s, {found.print.threads} threads{hint}"


def _rough_ceilings(backend) -> tuple[float, float]:
    """Return the rates of the sentinels, to plan with. [flop/s], [byte/s]"""
    rates = []
    for case, rough in zip(SENTINELS, ROUGH, strict=True):
        _, _, flops, moved = work(case)
        try:
            seconds = min(backend.visit(case, BLOCK_S).seconds for _ in range(2))
            rates.append((flops or moved) / seconds)
        except CaseError:
            rates.append(rough)
    return rates[0], rates[1]


@contextlib.contextmanager
def stopped_by_signals():
    """Let Ctrl-C and SIGTERM end measuring in order; a second one ends the program at once."""

    def stop(number, frame):
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        raise StoppedError(signal.Signals(number).name)

    try:
        old = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread
        old = {}
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)


def _finish(found: _Machine, store: Store, outcome: Outcome, protocol: Protocol, folder: Path, about) -> int:
    """Fit, accept, write the profile and show it; return the exit code."""
    progress, start, cases = about
    points = list(store.points.values())
    store.close(not outcome.stopped, cases)
    profile = fitted_profile(found, points, protocol, progress)
    if profile is None:
        print(f"nothing to fit; points: {store.points_path}")
        return NOTHING
    profile = replace(profile, protocol=replace(protocol, wall_s=time.monotonic() - start))
    path = folder / f"{found.id}.yaml"
    write_profile(profile, path)
    calc.load_calibration.cache_clear()
    _show(profile, path, points)
    return WRONG if any(point.flag == "wrong" for point in points) else 0


def fitted_profile(found, points, protocol: Protocol, progress) -> Profile | None:
    """Return the profile that points give; None where no kind has enough of them."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    ceilings, shipped = ceilings_of(points), machine.shipped_device(found.print.name)
    own = None
    if not shipped:
        if not any("gemm" in name for name in ceilings) or not any("bytes" in name for name in ceilings):
            return None
        own = own_device(found.id, found.print, ceilings, today)
    device = device_from(own) if own else calc.load_device(shipped)
    ops, few = fit_all(points, device, lambda text: progress("say", text=text))
    if not ops:
        return None
    profile = Profile(
        id=found.id, name=f"{found.print.name}, measured here", device=device.id, date=today,
        machine=found.print, versions=machine.versions(found.facts), protocol=protocol, ceilings=ceilings,
        ops=ops, skipped=tuple(_skipped(points, few)), points=f"{found.id}.points.csv", own_device=own,
    )  # fmt: skip
    rows = accepted(points, device, calibration_for(device, _as_calibration(profile)))
    return replace(profile, acceptance=rows)


def _as_calibration(profile: Profile):
    """Return the calibration that a profile is, through its file, as everybody else reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{profile.id}.yaml"
        write_profile(profile, path)
        return calc.load_calibration(str(path))


def _skipped(points, few):
    """Rows for what has no time or no fit: wrong kernels, bad ends, what is missing, too few points."""
    for point in points:
        if not point.usable:
            yield Skipped(point.probe, f"{point.flag}: {point.note}", point.case)
    for name, reason in few:
        yield Skipped(name, reason)


def _show(profile: Profile, path: Path, points) -> None:
    """Print the tables, what was skipped, and how to use the profile."""
    print("median errors: after = shapes left out of the fit, before = calc without this profile")
    print(errors_table(profile))
    if profile.acceptance:
        print("\nsmall decoders, never in the fit: predicted against measured")
        print(acceptance_table(profile.acceptance))
    if shown := variants_table(points):
        print("\nother kernels: their times over those of the fitted kernel, same shapes")
        print(shown)
    print("", *summary(profile), sep="\n")
    device = path if profile.own_device else profile.device
    print(f"profile: {path}\npoints:  {path.parent / profile.points}")
    print(f"use it:  python -m calc estimate --model llama-3.1-8b --device {device} --calibration {path}")
