"""``python -m validate overheads``: what engines add to their kernels, fitted on measured runs."""

import argparse
from datetime import date
from pathlib import Path

import numpy as np

import calc
from calc.specs.facts import spec_files
from calc.specs.strict_yaml import read_yaml
from calc.timing.overheads import profile_index
from validate.runs.accuracy import Outcome, outcomes_of, page
from validate.runs.fit import near, overheads_of, profile_of, split
from validate.runs.recorded import Recorded, Runs, overheads_from, recorded
from validate.runs.table import Run, read_runs, version_of
from validate.yaml_text import flow

#: fewer runs than this leave too little to fit
LEAST_RUNS = 6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("rows", metavar="ROWS", nargs="+", help="tables of measured runs (.csv)")
    parser.add_argument("--out", default="calibrations/overheads", metavar="FOLDER", help="where files go")
    parser.add_argument("--engine", action="append", help="fit this engine only (may be given again)")
    parser.add_argument("--report", metavar="FILE", help="write how far predictions are off to this page")
    parser.add_argument("--title", default="measured end-to-end runs", help="title of the source")
    parser.add_argument("--url", default="", help="address of the source")
    parser.add_argument("--date", default=None, help="date of the source (default today)")


def run(args: argparse.Namespace) -> int:
    """Fit every profile of every engine that the tables hold runs of, and write its file."""
    runs = [each for path in args.rows for each in read_runs(path)]
    engines = [
        name for name in dict.fromkeys(each.engine for each in runs) if not args.engine or name in args.engine
    ]
    outcomes: list[Outcome] = []
    for engine in engines:
        profiles = _profiles(engine, [each for each in runs if each.engine == engine], outcomes)
        path = Path(args.out) / f"{engine}.yaml"
        path.write_text(overheads_text(engine, profiles, args.title, args.url, args.date), encoding="utf-8")
        print(f"wrote {path}", flush=True)
    if args.report:
        Path(args.report).write_text(page(outcomes), encoding="utf-8")
        print(f"wrote {args.report}")
    return 0 if engines else 2


def _profiles(engine: str, runs: list[Run], outcomes: list[Outcome]) -> list[dict]:
    """Return the profiles of an engine's file, refitted where there are enough runs of them."""
    rows = [dict(row) for row in read_yaml(spec_files("calibrations", "overheads")[engine])["profiles"]]
    members: list[list[Recorded]] = [[] for _ in rows]
    for each in runs:
        try:
            member = recorded(each)
            device, mode = member.scenario.device, member.scenario.workload.mode
            members[profile_index(rows, version_of(each), device.vendor, mode)].append(member)
        except calc.SpecError as error:
            print(f"left aside: {each.id}: {' '.join(str(error).split())}", flush=True)
    for i in sorted(range(len(rows)), key=lambda i: _is_of_one_model(members[i])):
        start = _next_version(rows, i) if _is_of_one_model(members[i]) else None
        rows[i] = refitted(engine, rows[i], members[i], outcomes, start)
    return rows


def _is_of_one_model(members: list[Recorded]) -> bool:
    """Whether runs say little about other models: host time and kernels cannot be told apart."""
    return len({member.run.model for member in members}) == 1


def _next_version(rows: list[dict], i: int) -> dict | None:
    """Return the profile of the next later version on devices of the same makers, if measured."""
    later = [row for row in rows[:i] if row.get("vendors") == rows[i].get("vendors")]
    return later[-1] if later and later[-1]["kind"] == "measured" else None


def refitted(
    engine: str, row: dict, members: list[Recorded], outcomes: list | None = None, start: dict | None = None
) -> dict:
    """Return a profile fitted to runs, from the start of another; as it was where they are too few."""
    if len(members) < LEAST_RUNS:
        if outcomes is not None and members:
            outcomes += _as_it_was(engine, row, members)
        return row
    profile, outside = profile_of(members, near(_values(start)) if start else None)
    if outcomes is not None:
        fitted = Runs(members).predicted(overheads_of(members, profile["values"]))
        outcomes += outcomes_of(members, fitted, outside, profile["errors"])
    host, kernels, reach = split(profile["values"])
    if all(member.scenario.workload.warmed_up for member in members):
        host["first_use_s"] = 0.0  # none is known of
    for metric, error in profile["errors"].items():
        makers = "/".join(row.get("vendors", []))
        print(
            f"{engine:15s} {row['versions']:12s} {makers:8s} {metric:7s} n {error['n']:4d}  "
            f"left out: median {error['median_pct']:5.1f} %  p90 {error['p90_pct']:5.1f} %",
            flush=True,
        )
    groups = ", ".join(dict.fromkeys(member.run.group for member in members))
    fresh = {"kind": "measured", "host": host, "kernels": kernels, "reach": reach}
    return {**row, **fresh, "errors": profile["errors"], "note": f"{len(members)} rows: {groups}"}


def _values(row: dict) -> dict[str, float]:
    """Return the numbers of a profile by the names of the fit."""
    reach = {f"reach.{name}": share for name, share in row.get("reach", {}).items()}
    return {**row["host"], **row.get("kernels", {}), **reach}


def _as_it_was(engine: str, row: dict, members: list[Recorded]) -> list[Outcome]:
    """Outcomes of runs that are too few to fit: answered by the profile as it is, none left out."""
    shipped = overheads_from(engine, _values(row))
    unknown = np.full(len(members), np.nan)
    outside, unsure = {"device": unknown, "model": unknown}, {"low": 1.0, "high": 1.0}
    errors = dict.fromkeys(("tpot_s", "ttft_s"), unsure)
    return outcomes_of(members, Runs(members).predicted(shipped), outside, errors)


def overheads_text(engine: str, profiles: list[dict], title: str, url: str, seen: str | None = None) -> str:
    """Return the YAML of an engine's overheads."""
    seen = seen or date.today().isoformat()
    lines = [
        f"id: {engine}",
        f'date: "{seen}"',
        'note: "Written by python -m validate overheads where kind is measured; errors are of devices and'
        ' models left out of the fit"',
        "sources:",
        "  runs:",
        f'    title: "{title}"',
        f'    url: "{url}"',
        f'    date: "{seen}"',
        "# the first profile that covers a version, of the device's maker if there is one",
        "profiles:",
    ]
    for row in profiles:
        lines += _profile_lines(row)
    return "\n".join(lines) + "\n"


def _profile_lines(row: dict) -> list[str]:
    lines = [
        f'  - versions: "{row["versions"]}"',
        f"    vendors: [{', '.join(row.get('vendors', []))}]",
        *([f'    max_load: "{row["max_load"]}"'] if row.get("max_load") else []),
        f"    kind: {row['kind']}",
        f"    host: {flow(row['host'])}",
    ]
    lines += [f"    {name}: {flow(row[name])}" for name in ("kernels", "reach") if row.get(name)]
    if row.get("errors"):
        lines.append("    errors:")
        lines += [f"      {metric}: {flow(error)}" for metric, error in row["errors"].items()]
    if row.get("note"):
        lines.append(f'    note: "{row["note"]}"')
    return lines
