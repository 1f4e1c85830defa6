"""``python -m validate score``: the product's predictions beside measured end-to-end runs."""

import argparse
import json

import calc
from validate.runs.scenario import figure, interval, scenario_of, trust
from validate.runs.table import Run, read_runs
from validate.scores import Score, as_record, as_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("rows", metavar="ROWS", help="table of measured runs (.csv)")
    parser.add_argument(
        "--calibration", default="default", help="default, family, datasheet, an id or a path"
    )
    parser.add_argument("--overheads", metavar="FILE", help="an engine's overheads, of validate calibrate")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Score every row of a table."""
    cache: dict = {}
    scores = [score_of(each, args.calibration, cache, args.overheads) for each in read_runs(args.rows)]
    print(json.dumps(as_record(scores, args.calibration), allow_nan=False) if args.json else as_table(scores))
    return 0 if any(score.predicted is not None for score in scores) else 2


def score_of(
    run: Run, calibration: str = "default", cache: dict | None = None, overheads: str | None = None
) -> Score:
    """Return the calculator's figure beside a measured one; runs of the same estimate share it."""
    known = {"row": run.row, "id": run.id, "group": run.group, "metric": run.metric, "measured": run.value}
    cache = {} if cache is None else cache
    key = tuple(
        value
        for name, value in vars(run).items()
        if name not in ("row", "id", "group", "metric", "value", "trust")
    )
    try:
        if key not in cache:
            cache[key] = scenario_of(run).estimate(calibration, overheads)
        estimate = cache[key]
        reason = refusal(estimate)
        if reason:
            return Score(**known, reason=reason)
        low, high = interval(estimate, run)
        return Score(**known, predicted=figure(estimate, run), low=low, high=high, trust=trust(estimate, run))
    except calc.SpecError as error:
        return Score(**known, reason=" ".join(str(error).split()))


def refusal(estimate: calc.Estimate) -> str | None:
    """Return why a run cannot have happened as described; None where it can."""
    if bool(estimate.fits):
        return None
    needed, there = estimate.memory.weights_bytes_per_device, estimate.device.memory_bytes
    if needed <= there:
        return None  # weights find room: what was measured ran with less cache than assumed
    return f"weights need {calc.format_bytes(needed)} of {calc.format_bytes(there)} per device"
