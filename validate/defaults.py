"""``python -m validate defaults``: general efficiencies from the kernels of all measured systems.

One fit for each op kind and format over all systems, its error on systems left out of the fit: what
may be expected of a device about which only the datasheet is known.
"""

import argparse
from datetime import date
from pathlib import Path

import numpy as np

import calc
from calc.timing.collectives import is_collective_kind
from calc.timing.forms import FORMS, Ceilings
from calc.timing.step_time import work_of
from validate.fit import LEAST_POINTS, op_lines
from validate.fitting import error_row, fitted, left_out
from validate.points.table import Points, point_sets, read_table

#: points of one system in a fit, at most, so that each system counts about as much
MOST_POINTS = 150
#: kernels that only some systems have, under names of their own
_LEFT_OUT = ("deepep_ll_dispatch", "deepep_ll_combine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("points", metavar="POINTS", help="table of measured kernels (.parquet or .csv)")
    parser.add_argument("--out", default="calibrations/devices", metavar="FOLDER", help="where files go")
    parser.add_argument("--title", default="measured kernel latencies", help="title of the source")
    parser.add_argument("--url", default="", help="address of the source")


def run(args: argparse.Namespace) -> int:
    """Fit and write one file for kernels and one for each topology's collectives."""
    pools: dict[str, dict] = {}
    for points in point_sets(read_table(args.points)):
        kind, topology = points.op.kind, calc.load_device(points.device).link.topology
        if kind not in _LEFT_OUT:
            pool = pools.setdefault(topology if is_collective_kind(kind) else "kernels", {})
            pool.setdefault((kind, points.op.format), []).append(points)
    for name, groups in pools.items():
        rows = [pooled(members) for members in groups.values()]
        path = Path(args.out) / f"pool-{name}.yaml"
        path.write_text(_text(name, [row for row in rows if row], args), encoding="utf-8")
        print(f"wrote {path}")
    return 0


def pooled(members: list[Points]) -> dict | None:
    """Return the row fitted to points of several systems, None where there are too few systems."""
    if len(members) < 2 or sum(len(points.seconds) for points in members) < LEAST_POINTS:
        return None
    kind = members[0].op.kind
    form = FORMS["link/1" if is_collective_kind(kind) else "roofline/1"]
    work, ceilings, seconds, systems = _joined([_part(points) for points in members])
    parameters = fitted(form, work, ceilings, seconds)
    held = left_out(form, work, ceilings, seconds, systems, folds=len(members))
    return {
        "op_kind": kind,
        "format": "any" if is_collective_kind(kind) else members[0].op.format,
        "form": form.name,
        "kernel": ", ".join(sorted(points.device for points in members)),
        "parameters": parameters,
        "error": error_row(form.seconds(work, ceilings, parameters), held, seconds),
        "range": {},
    }


def _part(points: Points):
    """Sizes, ceilings and seconds of at most ``MOST_POINTS`` points of a set, as arrays."""
    work, ceilings = work_of(points.op, calc.load_device(points.device))
    size = len(points.seconds)
    chosen = np.random.default_rng(0).permutation(size)[:MOST_POINTS]
    arrays = {name: np.broadcast_to(value, size)[chosen] for name, value in work.items()}
    limits = [np.broadcast_to(value, size)[chosen] for value in ceilings]
    return points.device, arrays, limits, points.seconds[chosen]


def _joined(parts):
    names = set.intersection(*(set(work) for _, work, _, _ in parts))
    work = {name: np.concatenate([part[1][name] for part in parts]) for name in names}
    ceilings = Ceilings(
        *(np.concatenate(limits) for limits in zip(*(part[2] for part in parts), strict=True))
    )
    systems = np.concatenate([np.full(len(part[3]), part[0]) for part in parts])
    return work, ceilings, np.concatenate([part[3] for part in parts]), systems


def _text(name: str, rows: list[dict], args) -> str:
    seen, kinds = date.today().isoformat(), {}
    for row in sorted(rows, key=lambda row: row["format"] != "bf16"):
        kinds.setdefault(row["op_kind"], {}).setdefault(row["format"], row)
    lines = [
        f"id: pool-{name}",
        f'name: "All measured systems together, {name}"',
        "trust: datasheet",
        f'date: "{seen}"',
        'note: "Written by python -m validate defaults; errors are of systems left out of the fit"',
        "sources:",
        "  points:",
        f'    title: "{args.title}"',
        f'    url: "{args.url}"',
        f'    date: "{seen}"',
        "ops:",
    ]
    for kind, formats in kinds.items():
        lines.append(f"  {kind}:")
        for fmt, row in formats.items():
            lines += [f"    {fmt}:", *op_lines(row)[:-1]]
    return "\n".join(lines) + "\n"
