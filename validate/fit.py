"""``python -m validate fit``: calibrations of devices from tables of measured kernels."""

import argparse
from datetime import date
from pathlib import Path

import numpy as np

import calc
from calc.timing.forms import FORMS, Form
from calc.timing.step_time import work_of
from validate.fitting import error_row, fitted, left_out
from validate.points.table import DEVICES, KINDS, Points, point_sets, read_table
from validate.yaml_text import flow

#: op kind -> form it is fitted with
FORM_OF = {
    "gemm": "gemm/2",
    "bmm": "gemm/2",
    "prefill_attention": "prefill/2",
    "decode_attention": "decode/1",
    "encoder_attention": "encoder/1",
    "prefill_mla": "prefill_mla/2",
    "decode_mla": "decode_mla/1",
    "moe": "moe/1",
    **dict.fromkeys(("conv1d_update", "conv1d", "recurrent_update", "chunk_scan"), "linear/2"),
    **dict.fromkeys(("allreduce", "allgather", "reduce_scatter", "alltoall"), "collective/1"),
    "custom_allreduce": "custom_allreduce/1",
    **dict.fromkeys(("deepep_ll_dispatch", "deepep_ll_combine"), "dispatch/1"),
}
#: fewer points than this leave too little to fit
LEAST_POINTS = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("points", metavar="POINTS", help="table of measured kernels (.parquet or .csv)")
    parser.add_argument(
        "--out", default="calibrations/devices", metavar="FOLDER", help="where files are written"
    )
    parser.add_argument("--device", action="append", help="fit this device only (may be given again)")
    parser.add_argument("--title", default="measured kernel latencies", help="title of the source")
    parser.add_argument("--url", default="", help="address of the source")
    parser.add_argument("--date", default=None, help="date of the source (default today)")


def run(args: argparse.Namespace) -> int:
    """Fit every device in a table and write its calibration file."""
    columns = read_table(args.points)
    by_device: dict[str, list] = {}
    for points in point_sets(columns):
        if args.device and points.device not in args.device:
            continue
        row = fit_points(points)
        if row is not None:
            by_device.setdefault(points.device, []).append(row)
            error = row["error"]
            print(
                f"{points.device:22s} {row['op_kind']:22s} {row['format']:12s} n {error['n']:4d}  "
                f"left out: median {error['cv_median_pct']:5.1f} %  p90 {error['cv_p90_pct']:5.1f} %",
                flush=True,
            )
    for device, rows in by_device.items():
        path = Path(args.out) / f"{device}.yaml"
        path.write_text(calibration_text(device, rows, args, _software(columns, device)), encoding="utf-8")
        print(f"wrote {path}")
    return 0 if by_device else 2


def fit_points(points: Points) -> dict | None:
    """Return the fitted row of one set of points, None where there are too few."""
    seconds, op = points.seconds, points.op
    if len(seconds) < LEAST_POINTS or op.kind not in FORM_OF:
        return None
    form: Form = FORMS[FORM_OF[op.kind]]
    work, ceilings = work_of(op, calc.load_device(points.device))
    parameters = fitted(form, work, ceilings, seconds)
    predicted = form.seconds(work, ceilings, parameters)
    held = left_out(form, work, ceilings, seconds, points.groups)
    near = left_out(form, work, ceilings, seconds, np.arange(len(seconds)))
    kernels = sorted(set(points.rows["kernel"].astype(str)) - {""}) if "kernel" in points.rows else []
    return {
        "op_kind": op.kind,
        "format": op.format,
        "form": form.name,
        "kernel": ", ".join(kernels),
        "parameters": parameters,
        "error": error_row(predicted, held, near, seconds),
        "range": _ranges(op.shape),
    }


def _ranges(shape) -> dict[str, tuple[float, float]]:
    return {
        name: (float(np.min(size)), float(np.max(size)))
        for name, size in shape.items()
        if isinstance(size, np.ndarray) and size.size > 1
    }


def _software(columns, device: str) -> str:
    systems = [system for system, name in DEVICES.items() if name == device]
    here = np.isin(columns["system"].astype(str), systems)
    pairs = {f"{e} {v}" for e, v in zip(columns["engine"][here], columns["version"][here], strict=True)}
    return ", ".join(sorted(pairs))


def calibration_text(device: str, rows: list[dict], args, software: str) -> str:
    """Return the YAML of a device's calibration."""
    seen = args.date or date.today().isoformat()
    lines = [
        f"id: {device}",
        f'name: "{calc.load_device(device).name}, fitted kernels"',
        "trust: calibrated",
        f"device: {device}",
        f'date: "{seen}"',
        f'software: "{software}"',
        'note: "Written by python -m validate fit; errors are of shapes left out of the fit"',
        "sources:",
        "  points:",
        f'    title: "{args.title}"',
        f'    url: "{args.url}"',
        f'    date: "{seen}"',
        "ops:",
    ]
    kinds: dict[str, list[dict]] = {}
    for row in rows:
        kinds.setdefault(row["op_kind"], []).append(row)
    for kind, members in kinds.items():
        lines.append(f"  {kind}:")
        for row in members:
            lines += [f"    {row['format']}:", *op_lines(row)]
    return "\n".join(lines) + "\n"


def op_lines(row: dict) -> list[str]:
    """Return the YAML lines of one fitted row."""
    return [
        f"      form: {row['form']}",
        f'      kernel: "{row["kernel"]}"',
        f"      parameters: {flow(row['parameters'])}",
        f"      error: {flow(row['error'])}",
        f"      range: {flow({name: list(ends) for name, ends in row['range'].items()})}",
    ]


__all__ = ["FORM_OF", "KINDS", "add_arguments", "calibration_text", "fit_points", "run"]
