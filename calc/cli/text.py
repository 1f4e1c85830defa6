"""Text for people and machines: tables, CSV, JSON, and the report of one scenario."""

import csv
import io
import json

import numpy as np

import calc


def table(header: list[str], rows: list[list], right: tuple[int, ...] = ()) -> str:
    """Return aligned columns; those in ``right`` are aligned to the right.

    Examples
    --------
    >>> print(table(["op", "ms"], [["gemm", "1.5"], ["norm", "10.0"]], right=(1,)))
    op      ms
    gemm   1.5
    norm  10.0
    """
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join(lines)


def as_csv(header: list[str], rows: list[list]) -> str:
    """Return rows as CSV with a header line.

    Examples
    --------
    >>> print(as_csv(["op", "ms"], [["gemm", 1.5]]))
    op,ms
    gemm,1.5
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return stream.getvalue().rstrip("\n")


def as_json(data) -> str:
    """Return data as indented JSON.

    Examples
    --------
    >>> print(as_json({"fits": True}))
    {
      "fits": true
    }
    """
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def flat(record: dict, prefix: str = "") -> dict:
    """Return nested data as one level of dotted names, lists left out; the CSV of a scenario.

    Examples
    --------
    >>> flat({"a": {"b": 1}, "c": 2, "rows": [1, 2]})
    {'a.b': 1, 'c': 2}
    """
    row = {}
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            row.update(flat(value, f"{name}."))
        elif not isinstance(value, list):
            row[name] = value
    return row


def scenario_line(e) -> str:
    """Return one line that names the scenario."""
    load = e.workload
    users = "max load" if load.mode == "max_load" else f"{load.concurrency} users"
    if load.mode == "open_loop":
        users = f"{load.requests_per_s:g} requests/s, {load.prompt_lengths.kind} lengths"
    if load.sequences_per_request > 1:
        users += f" of {load.sequences_per_request} sequences each"
    formats = (
        f"{e.weight_dtype} weights, {e.deployment.kv_dtype or e.model.checkpoint.kv_dtype or 'bf16'} cache"
    )
    d = e.deployment
    ranks = {name: getattr(d, name) for name in ("tp", "pp", "dp", "ep", "cp")}
    split = " ".join(f"{name} {size}" for name, size in ranks.items() if name == "tp" or size > 1)
    place = f"{e.n_devices} x {e.device.name}, {split}, {e.engine.name}"
    lengths = f"{load.prompt_tokens} prompt + {load.output_tokens} output tokens, {load.mode}"
    return f"{e.model.name} ({formats}) on {place}\n{users}, {lengths}"


def memory_table(memory) -> str:
    """Return the memory of one device, row by row, against what the device reports."""
    rows = [[name, calc.format_bytes(value)] for name, value in memory.breakdown() if value]
    rows.append(["device reports", calc.format_bytes(memory.device_bytes_per_device)])
    return table(["memory per device", ""], rows, right=(1,))


def _range(e, metric: str, show) -> str:
    low, high = e.range(metric)
    return f"{show(low)} - {show(high)}"


def _rate(value: float) -> str:
    return f"{calc.significant(value)} tokens/s"


def speed_table(e) -> str:
    """Return the speed of the scenario with its 80 % ranges."""
    seconds = calc.format_seconds
    rows = [
        ["time to first token", seconds(e.ttft_s), _range(e, "ttft_s", seconds)],
        ["time per output token", seconds(e.tpot_s), _range(e, "tpot_s", seconds)],
        ["whole request", seconds(e.e2e_latency_s), _range(e, "e2e_latency_s", seconds)],
        ["output of the deployment", _rate(e.output_tokens_per_s), _range(e, "output_tokens_per_s", _rate)],
    ]
    return table(["speed", "mean", "80 % range"], rows, right=(1, 2))


def cost_lines(e) -> list[str]:
    """Return the cost in words, with the price it rests on."""
    if not e.requests_per_s:
        return ["cost: nothing is served at a rate of 0"]
    if e.cost is None:
        return [f"cost: no price is known for {e.device.id}; give yours with --price USD"]
    c, price = e.cost, e.cost.price
    origin = "your price"
    if price is not None:
        stale = ", over 180 days old" if price.is_stale() else ""
        origin = f"{price.provider} {price.term}, seen {price.fact.date}{stale}"
    tokens = {
        "output tokens": c.usd_per_mtok_output,
        "input tokens": c.usd_per_mtok_input,
        "of both": c.usd_per_mtok,
    }
    devices = f"{e.n_devices} x {c.usd_per_device_hour:.2f}, {origin}"
    return [
        f"cost: {c.usd_per_hour:.2f} USD/h, fully used ({devices})",
        "the whole bill per million: " + ", ".join(f"{usd:.3f} USD {name}" for name, usd in tokens.items()),
    ]


def report(e) -> str:
    """Return the report of one scenario for people."""
    request = e.workload.prompt_tokens + e.workload.output_tokens
    memory, parts = e.memory, [scenario_line(e), "", e.fit_sentence()]
    if e.fits:
        parts += [
            f"GPU KV cache size: {int(memory.cache_tokens):,} tokens",
            f"Maximum concurrency for {request:,} tokens per request: {memory.max_concurrency:.2f}x",
        ]
        if e.service.queued and e.workload.mode != "open_loop":
            held, asked = e.service.concurrency, e.workload.concurrency
            parts.append(f"only {held:,.0f} of {asked:,} users run at once; the others queue")
    if request > e.model.max_context_tokens:
        parts.append(f"longer than the {e.model.max_context_tokens:,} tokens that {e.model.id} was made for")
    parts += ["", memory_table(memory), ""]
    if e.fits:
        parts += _open_loop(e)
    if e.fits and np.isfinite(e.ttft_s):
        parts += [speed_table(e), f"limited by: {e.bound}", *_trust(e), "", *cost_lines(e)]
    return "\n".join(parts)


def _trust(e) -> list[str]:
    c, measured = e.calibration, e.calibration.device
    lines = [f"trust: {e.trust('tpot_s')} (calibration {c.id!r}: {c.name.lower()})"]
    if measured not in ("", e.device.id):
        lines.append(f"note: calibration {c.id!r} was measured on {measured}, not on {e.device.id}")
    return [*lines, f"engine: {calc.overheads_line(e.overheads)}"]


def _open_loop(e) -> list[str]:
    """Percentiles over requests of an open loop, and whether it has a steady state."""
    if e.workload.mode != "open_loop":
        return []
    found = e.open_loop
    if not found.steady:
        return [found.statement(), ""]
    names = {"ttft": "time to first token", "tpot": "time per output token", "queue": "queueing"}
    rows = []
    for key, name in names.items():
        spread = getattr(found, key)
        shown = [calc.format_seconds(getattr(spread, share)) for share in ("p50", "p90", "p99")]
        rows.append([name, *shown])
    running = f"{found.mean_in_flight:.1f} requests decode or wait for a place on average"
    return [
        f"{found.statement()}; {running}, {found.queue_probability:.1%} of requests find all places taken",
        "",
        table(["over requests", "p50", "p90", "p99"], rows, right=(1, 2, 3)),
        "",
    ]
