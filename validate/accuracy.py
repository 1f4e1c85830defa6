"""``python -m validate accuracy``: docs/accuracy.md, tables and plots from calibrations and points."""

import argparse
from pathlib import Path

import numpy as np

import calc
from calc.specs.facts import spec_files
from calc.timing.calibration import load_calibration
from validate.kernels import scored
from validate.points.table import point_sets, read_table
from validate.scores import grouped

_HEADER = """# How accurate the times are

Written by `python -m validate accuracy POINTS`; do not edit. Points are measured kernel latencies of
ten systems (aiconfigurator-core 0.12.0, Apache-2.0, a stratified sample of about 36,000 rows; rows
flagged as fallback kernels or host-bound launches are left out).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("points", metavar="POINTS", help="table of measured kernels (.parquet or .csv)")
    parser.add_argument("--out", default="docs/accuracy.md", metavar="FILE", help="page to write")


def run(args: argparse.Namespace) -> int:
    """Write the page and its plots."""
    columns = read_table(args.points)
    page, sets = Path(args.out), list(point_sets(columns))
    text = "\n".join(
        [_HEADER, *_left_out_tables(), *_transfer_table(sets), *_interval_table(sets), *_figure(sets, page)]
    )
    page.write_text(text + "\n", encoding="utf-8")
    print(f"wrote {page}")
    return 0


def _measured() -> list[str]:
    return [
        name for name in spec_files("calibrations", "devices") if load_calibration(name).trust == "calibrated"
    ]


def _left_out_tables() -> list[str]:
    """Median and p90 error of shapes left out of the fit, as the calibration files state them."""
    devices, rows = _measured(), {}
    for device in devices:
        for kind, fits in load_calibration(device).ops.items():
            for fmt, fit in fits.items():
                rows.setdefault((kind, fmt), {})[device] = fit.error
    lines = [
        "## Shapes left out of the fit",
        "",
        "Median (90th percentile) absolute error in percent of each device's own calibration on shapes that",
        "took no part in its fit (five folds by shape).",
        "",
        "| op | format | " + " | ".join(devices) + " | median |",
        "|---|---|" + "---|" * (len(devices) + 1),
    ]
    for (kind, fmt), errors in sorted(rows.items()):
        cells = [
            f"{errors[d]['cv_median_pct']:.1f} ({errors[d]['cv_p90_pct']:.0f})" if d in errors else "-"
            for d in devices
        ]
        middle = np.median([error["cv_median_pct"] for error in errors.values()])
        lines.append(f"| {kind} | {fmt} | " + " | ".join(cells) + f" | {middle:.1f} |")
    return [*lines, ""]


def _scores(sets, calibration: str) -> list:
    args = argparse.Namespace(calibration=calibration, by_device=True)
    return [score for points in sets for score in scored(points, args)]


def _transfer_table(sets) -> list[str]:
    """Errors with the parameters of a device's family, where the device was measured too."""
    lines = [
        "## Parameters of the family",
        "",
        "Median (90th percentile) absolute error when a device's own calibration is set aside and that of",
        "its family is used: fitted on another member of the generation and scaled by the datasheet.",
        "",
        "| op / format | device | n | median % | p90 % | in 80 % range |",
        "|---|---|---|---|---|---|",
    ]
    members = {name for name in _measured() if not _is_base(name)}
    for group in grouped(_scores([s for s in sets if s.device in members], "family")):
        op, fmt, device = group.group.rsplit("/", 2)
        if group.mdape_pct is not None:
            lines.append(
                f"| {op} / {fmt} | {device} | {group.n} | {group.mdape_pct:.1f} | {group.p90_pct:.1f} "
                f"| {group.inside80_pct:.0f} |"
            )
    return [*lines, ""]


def _is_base(name: str) -> bool:
    files = spec_files("calibrations", "devices")
    return any(f"based_on: {name}\n" in path.read_text(encoding="utf-8") for path in files.values())


def _interval_table(sets) -> list[str]:
    lines = [
        "## Intervals",
        "",
        "Share of points inside the stated 80 % interval, all devices together. These rows took part in the",
        "fits, while the interval is that of rows left out, so that it holds somewhat more than 80 % of",
        "them, most where points are few.",
        "",
        "| op / format | n | in 80 % range |",
        "|---|---|---|",
    ]
    args = argparse.Namespace(calibration="default", by_device=False)
    for group in grouped(score for points in sets for score in scored(points, args)):
        if group.inside80_pct is not None:
            lines.append(f"| {group.group.replace('/', ' / ')} | {group.n} | {group.inside80_pct:.0f} |")
    return [*lines, ""]


def _figure(sets, page: Path) -> list[str]:
    """Plot predicted against measured for each op and return the lines that show it."""
    try:
        import matplotlib
    except ImportError:
        raise calc.SpecError("plots need matplotlib: pip install 'ullage[validate]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    scores = _scores(sets, "default")
    ops = sorted({score.group.split("/")[0] for score in scores})
    width = 4
    figure, axes = pyplot.subplots(-(-len(ops) // width), width, figsize=(13, 3.1 * -(-len(ops) // width)))
    for axis in axes.flat[len(ops) :]:
        axis.set_visible(False)
    for op, axis in zip(ops, axes.flat, strict=False):
        _plot(axis, op, [score for score in scores if score.group.split("/")[0] == op])
    figure.tight_layout()
    image = page.parent / "images" / "accuracy.png"
    image.parent.mkdir(exist_ok=True)
    figure.savefig(image, dpi=70)
    return [
        "## Predicted against measured",
        "",
        f"![Predicted against measured kernel times](images/{image.name})",
    ]


def _plot(axis, op: str, scores) -> None:
    for device in sorted({score.group.rsplit("/", 1)[1] for score in scores}):
        mine = [s for s in scores if s.group.endswith(f"/{device}") and s.predicted]
        axis.plot(
            [1e3 * s.measured for s in mine], [1e3 * s.predicted for s in mine], ".", ms=1.5, label=device
        )
    axis.set(xscale="log", yscale="log", title=op, xlabel="measured, ms", ylabel="predicted, ms")
    ends = axis.get_xlim()
    axis.plot(ends, ends, "k-", lw=0.6)
