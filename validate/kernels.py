"""``python -m validate kernels``: the product's predictions beside measured kernel latencies."""

import argparse
import json

import numpy as np

import calc
from calc.timing.calibration import calibration_for
from calc.timing.step_time import timed_op
from validate.points.table import Points, point_sets, read_table
from validate.scores import Score, as_record, as_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("points", metavar="POINTS", help="table of measured kernels (.parquet or .csv)")
    parser.add_argument(
        "--calibration", default="default", help="default, family, datasheet, an id or a path"
    )
    parser.add_argument("--by-device", action="store_true", help="one group for each op, format and device")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Score every row that has a prediction."""
    columns = read_table(args.points)
    scores = [score for points in point_sets(columns) for score in scored(points, args)]
    if not scores:
        raise calc.SpecError(f"{args.points}: no row of a known system and op")
    print(json.dumps(as_record(scores, args.calibration), allow_nan=False) if args.json else as_table(scores))
    return 0 if any(score.predicted is not None for score in scores) else 2


def scored(points: Points, args: argparse.Namespace) -> list[Score]:
    """Return the scores of one set of points."""
    name = f"{points.kind.op}/{points.format}"
    group = f"{name}/{points.device}" if args.by_device else name
    device = calc.load_device(points.device)
    try:
        row = timed_op(points.op, device, calibration_for(device, args.calibration))
    except calc.SpecError as error:
        return [
            Score(int(i), str(i), group, "latency_s", float(t), reason=str(error))
            for i, t in zip(points.index, points.seconds, strict=True)
        ]
    shape = points.seconds.shape
    predicted, outside = np.broadcast_to(row.seconds, shape), np.broadcast_to(row.outside, shape)
    trust = np.where(outside, "extrapolated", row.fit.trust)
    return [
        Score(
            int(i), str(i), group, "latency_s", float(t), float(p), float(p * row.fit.low),
            float(p * row.fit.high), str(label),
        )
        for i, t, p, label in zip(points.index, points.seconds, predicted, trust, strict=True)
    ]  # fmt: skip
