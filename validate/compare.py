"""``python -m validate compare A B``: two profiles or calibrations over the same operations."""

import argparse
import json
from dataclasses import asdict

import calc
from calc.cli.text import table
from calc.timing.calibration import load_calibration
from validate.comparison import Side, changed_forms, grid, moves, only_in, ratios
from validate.profile import Profile, mismatch
from validate.report import profile_or_none
from validate.reports.predicted import device_of

SCHEMA_VERSION = 1
MODELS = ("llama-3.1-8b", "qwen3-30b-a3b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = "example: python -m validate compare h100-sxm profiles/nvidia-h200-3f9a12bc.yaml"
    parser.add_argument("first", metavar="A", help="profile, or calibration by id or file")
    parser.add_argument("second", metavar="B", help="what to compare it with")
    parser.add_argument("--device", help="predict both on this device (default: each on its own)")
    parser.add_argument("--model", action="append", help=f"model of the grid (default {', '.join(MODELS)})")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; 2 where the two have nothing in common."""
    profiles = [profile_or_none(name) for name in (args.first, args.second)]
    names = zip((args.first, args.second), profiles, strict=True)
    sides = [side(name, profile, args.device) for name, profile in names]
    record = compared(*sides, list(args.model or MODELS))
    record["machines"] = machines(*profiles, *sides)
    print(json.dumps(record, indent=2, allow_nan=False) if args.json else as_text(record))
    return 0 if record["ratios"] else 2


def side(name: str, profile: Profile | None, device: str | None) -> Side:
    """Return one side on the device that was asked for, or on its own.

    Raises
    ------
    SpecError
        If the calibration speaks for no single device and none was named.
    """
    own = load_calibration(name)
    if device:
        return Side(calc.load_device(device), own)
    if profile:
        return Side(device_of(profile), own)
    if not own.device:
        raise calc.SpecError(f"{name} is of no single device; say on which to predict with --device")
    return Side(calc.load_device(own.device), own)


def compared(first: Side, second: Side, models: list[str]) -> dict:
    """Return the comparison as plain data."""
    a, b = first.own, second.own
    gemms = {fmt for kind in ("gemm", "moe") for fmt in a.ops.get(kind, {}) if fmt in b.ops.get(kind, {})}
    formats = sorted(gemms & set(calc.WEIGHT_FORMATS)) or ["bf16"]
    return {
        "schema_version": SCHEMA_VERSION,
        "first": {"id": a.id, "name": a.name, "device": first.device.id},
        "second": {"id": b.id, "name": b.name, "device": second.device.id},
        "models": models,
        "ratios": [asdict(row) for row in ratios(first, second, grid(models, formats))],
        "moves": [asdict(row) for row in moves(a, b)],
        "changed_forms": changed_forms(a, b),
        "only_in_first": only_in(a, b),
        "only_in_second": only_in(b, a),
    }


def machines(first: Profile | None, second: Profile | None, a: Side, b: Side) -> dict:
    """Return whether the machines differ, and how: by fingerprint where both are profiles."""
    if first and second:
        found = mismatch(first, second.machine, second.versions)
        return {"differ": bool(found), "how": found.partition(": ")[2] or "same fingerprint"}
    names = [each.own.device or "no single device" for each in (a, b)]
    how = " and ".join(dict.fromkeys(names))
    return {"differ": names[0] != names[1], "how": f"{how}; by name only, at least one has no fingerprint"}


def as_text(record: dict) -> str:
    """Return the comparison for people."""
    first, second, machine = record["first"], record["second"], record["machines"]
    head = [
        f"A: {first['id']} ({first['name']}), predicted on {first['device']}",
        f"B: {second['id']} ({second['name']}), predicted on {second['device']}",
        f"machines: {'different' if machine['differ'] else 'the same'} ({machine['how']})",
    ]
    parts = ["\n".join(head), _ratio_table(record), _move_table(record)]
    lists = {"only in A": "only_in_first", "only in B": "only_in_second", "other formula": "changed_forms"}
    rows = [f"{title}: {', '.join(record[key])}" for title, key in lists.items() if record[key]]
    return "\n\n".join(part for part in [*parts, "\n".join(rows)] if part)


def _ratio_table(record: dict) -> str:
    if not record["ratios"]:
        return "no operation in common on the grid of " + ", ".join(record["models"])
    rows = [
        [r["op"], r["format"], r["n"], f"{r['median']:.2f}", f"{r['low']:.2f}", f"{r['high']:.2f}"]
        for r in record["ratios"]
    ]
    return table(["time with B over A", "format", "n", "median", "least", "most"], rows, right=(2, 3, 4, 5))


def _move_table(record: dict) -> str:
    rows = [
        [m["op"], m["format"], m["parameter"], f"{m['first']:.3g}", f"{m['second']:.3g}"]
        for m in record["moves"]
    ]
    if not rows:
        return "no parameter moved by more than a tenth" if record["ratios"] else ""
    return table(["parameter moved", "format", "", "A", "B"], rows, right=(3, 4))
