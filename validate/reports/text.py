"""The record of a profile as tables on a terminal."""

from collections.abc import Mapping, Sequence

import calc
from calc.cli.text import table
from validate.reports import variants

_UNITS = {"_bytes_per_s": (1e9, "GB/s"), "_flops_per_s": (1e12, "TFLOP/s")}


def as_text(record: Mapping) -> str:
    """Return the record of ``validate.reports.record`` for people."""
    parts = [_heading(record)]
    if "machine" in record:
        parts += [table(["machine", ""], machine_rows(record)), table(["run", ""], protocol_rows(record))]
    parts.append(table(OP_HEADER, [op_cells(row) for row in record["ops"]], right=tuple(range(3, 10))))
    if record.get("acceptance"):
        cells = [accepted_cells(group) for group in record["acceptance"]]
        parts.append(table(ACCEPTANCE_HEADER, cells, right=(2, 3, 4, 5, 6, 7)))
    parts.append(LEGEND)
    if record.get("variants"):
        cells = [variants.variant_cells(row) for row in record["variants"]]
        parts += [table(variants.HEADER, cells, right=(3, 4, 5, 6)), variants.LEGEND]
    if record.get("skipped"):
        rows = [[row["probe"], row["case"] or "all", row["reason"]] for row in record["skipped"]]
        parts.append(table(["skipped", "case", "reason"], rows))
    return "\n\n".join(parts)


def _heading(record: Mapping) -> str:
    written = f" ({record['date']})" if record.get("date") else ""
    return f"{record['id']}: {record['name']}{written}"


LEGEND = """fit: median error on the points that were fitted; left out: on shapes that took no part (p90:
one in ten is worse). roofline and default: median error of the device's ceilings alone, and of what would
speak for it without this file. Figures in percent; docs/validator.md says how to read them."""
OP_HEADER = [
    "op",
    "format",
    "form",
    "n",
    "fit",
    "left out",
    "p90",
    "bias",
    "roofline",
    "default",
    "trust",
    "range",
]
ACCEPTANCE_HEADER = ["decoder", "phase", "n", "median %", "p90 %", "bias %", "roofline %", "in 80 % range"]


def op_cells(row: Mapping) -> list[str]:
    """Return the cells of one op, in the order of ``OP_HEADER``."""
    trust = row["trust"] + (f" ({row['remark']})" if row["remark"] else "")
    return [
        row["op"], row["format"], row["form"], str(row["n"] or "-"), percent(row["fit_median_pct"]),
        percent(row["left_out_median_pct"]), percent(row["left_out_p90_pct"]), percent(row["bias_pct"], "+"),
        percent(row["roofline_median_pct"]), percent(row["default_median_pct"]), trust,
        range_text(row["range"]),
    ]  # fmt: skip


def accepted_cells(group: Mapping) -> list[str]:
    """Return the cells of one group of acceptance steps, in the order of ``ACCEPTANCE_HEADER``."""
    return [
        group["decoder"], group["phase"], str(group["n"]), percent(group["median_pct"]),
        percent(group["p90_pct"]), percent(group["bias_pct"], "+"), percent(group["roofline_median_pct"]),
        percent(group["inside80_pct"]),
    ]  # fmt: skip


def machine_rows(record: Mapping) -> list[list[str]]:
    """Return name and value of what tells the machine from others."""
    machine = record["machine"]
    rows = [
        ["device", f"{machine['name']} ({machine['kind']}, {machine['processors']} processors)"],
        ["memory", calc.format_bytes(machine["memory_bytes"])],
        ["last cache", calc.format_bytes(machine["cache_bytes"]) if machine["cache_bytes"] else "not told"],
        ["host", f"{machine['host'] or 'not told'}, {machine['threads']} threads"],
        ["software", ", ".join(f"{name} {version}" for name, version in record["versions"].items())],
    ]
    if machine["driver"]:
        rows.append(["driver", machine["driver"]])
    return rows + [["ceiling " + name, text] for name, text in ceiling_rows(record["ceilings"])]


def ceiling_rows(ceilings: Mapping[str, float]) -> list[tuple[str, str]]:
    """Return measured ceilings with their units.

    Examples
    --------
    >>> ceiling_rows({"copy_bytes_per_s": 4.3e12, "gemm_bf16_flops_per_s": 7.9e14})
    [('copy', '4,300 GB/s'), ('gemm_bf16', '790 TFLOP/s')]
    """
    rows = []
    for name, value in ceilings.items():
        for ending, (scale, unit) in _UNITS.items():
            if name.endswith(ending):
                rows.append((name.removesuffix(ending), f"{_plain(value / scale)} {unit}"))
                break
        else:
            rows.append((name, _plain(value)))
    return rows


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def protocol_rows(record: Mapping) -> list[list[str]]:
    """Return name and value of how it was measured, and how steady the machine was."""
    p, counts = record["protocol"], record.get("points") or {}
    steady = "steady" if p["steady"] else "NOT STEADY: times drifted, do not trust small differences"
    rows = [
        ["statistic", f"{p['statistic']}, {p['rounds']} rounds, {p['clock']} clock"],
        ["time", f"{p['wall_s']:.0f} s of {p['budget_s']:.0f} s"],
        ["machine", f"{steady} (drift {p['drift_pct']:+.1f} %, {p['stalls']} stalls)"],
        ["load", f"{p['load_before']:.2f} before, {p['load_after']:.2f} after"],
        ["points", ", ".join(f"{n} {flag}" for flag, n in counts.items()) or "file not found"],
    ]
    return rows + [[name, p[name]] for name in ("stopped", "note") if p[name]]


def percent(value: float | None, sign: str = "") -> str:
    """Return a percentage with one digit, a dash where there is none."""
    return "-" if value is None else f"{value:{sign}.1f}"


def range_text(ranges: Mapping[str, Sequence[float]]) -> str:
    """Return fitted ranges in a few characters.

    Examples
    --------
    >>> range_text({"m": [1.0, 8192.0], "k": [64.0, 64.0]})
    'm 1-8,192, k 64'
    """
    parts = []
    for name, (low, high) in ranges.items():
        ends = [f"{end:,.0f}" if end == int(end) else _plain(end) for end in (low, high)]
        parts.append(f"{name} {ends[0]}" if low == high else f"{name} {'-'.join(ends)}")
    return ", ".join(parts)
