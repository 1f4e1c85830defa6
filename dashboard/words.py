"""What the dashboard says: records of ``calc`` in, sentences and table rows out."""

import numpy as np

import calc
from dashboard import figures

TRUST = {
    "calibrated": "Calibrated on measurements of this GPU",
    "family": "Calibrated on a related GPU",
    "datasheet": "Datasheet estimate, not calibrated",
    "extrapolated": "Beyond what was measured",
}
METRICS = {
    "n_devices": "GPUs",
    "ttft_s": "Time to first token",
    "tpot_s": "Time per token",
    "usd_per_mtok_output": "USD per million output tokens",
}
TABLE_ROWS = 11
NOTHING = "n/a"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun.

    Examples
    --------
    >>> plural(1, "user"), plural(2048, "user")
    ('1 user', '2,048 users')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def hardware(plan: calc.Plan) -> str:
    """Return the planned devices, e.g. ``4 × NVIDIA H100 SXM5 80GB``."""
    return f"{plan.n_devices} × {plan.estimate.device.name}"


def summary(plan: calc.Plan, slo_name: str) -> str:
    """Return the scenario in one line, for when the sidebar is closed."""
    e = plan.estimate
    load = e.workload
    return (
        f"{e.model.name} in {e.weight_dtype} · {load.prompt_tokens:,} tokens in, "
        f"{load.output_tokens:,} out · {plural(load.concurrency, 'user')} at once · "
        f"{slo_words(plan.slo, slo_name)}"
    )


def slo_words(slo: calc.SLO, name: str = "") -> str:
    """Return the limits in words.

    Examples
    --------
    >>> slo_words(calc.SLO(2, 0.05), "chat"), slo_words(calc.SLO(), "batch")
    ('chat: first token within 2 s, then 50 ms per token', 'batch: no limits')
    """
    limits = []
    if slo.ttft_s is not None:
        limits.append(f"first token within {calc.format_seconds(slo.ttft_s)}")
    if slo.tpot_s is not None:
        limits.append(f"{'then ' if limits else ''}{calc.format_seconds(slo.tpot_s)} per token")
    return f"{name}: {', '.join(limits) or 'no limits'}" if name else ", ".join(limits) or "no limits"


def verdict(plan: calc.Plan) -> tuple[str, str, str]:
    """Return (kind, headline, sentences); kind is ``good``, ``slow`` or ``too large``."""
    e = plan.estimate
    where = hardware(plan)
    if not e.fits:
        memory = e.memory
        needs, has = memory.required_bytes_per_device, memory.usable_bytes_per_device
        return (
            "too large",
            f"Does not fit on {where}: {calc.format_bytes(memory.shortfall_bytes_per_device)} short per GPU",
            f"It needs {calc.format_bytes(needs)} on each GPU; the engine may use {calc.format_bytes(has)} "
            f"of {calc.format_bytes(memory.device_bytes_per_device)}.",
        )
    spare = calc.format_bytes(e.memory.unused_bytes_per_device)
    speed = f"{_times(plan)} Limited by {e.bound}.{_waiting(e)}"
    if plan.meets:
        return "good", f"Fits on {where}: {spare} spare per GPU", speed
    return "slow", f"Fits on {where}, but too slow: {' and '.join(_missed(plan))} over the limit", speed


def _times(plan: calc.Plan) -> str:
    e, slo = plan.estimate, plan.slo
    sees = "sees" if e.workload.concurrency == 1 else "see"
    return (
        f"{plural(e.workload.concurrency, 'user')} {sees} {calc.format_seconds(e.tpot_s)} per token"
        f"{_limit(slo.tpot_s)}, first token after {calc.format_seconds(e.ttft_s)}{_limit(slo.ttft_s)}."
    )


def _limit(limit_s: float | None) -> str:
    return "" if limit_s is None else f" (limit {calc.format_seconds(limit_s)})"


def _waiting(e: calc.Estimate) -> str:
    queued = int(e.service.queued)
    return f" Memory holds {int(e.service.concurrency):,} of them at once; {queued:,} wait." if queued else ""


def _missed(plan: calc.Plan) -> list[str]:
    e, slo = plan.estimate, plan.slo
    rows = (("time to first token", e.ttft_s, slo.ttft_s), ("time per token", e.tpot_s, slo.tpot_s))
    return [name for name, value, limit in rows if limit is not None and value > limit]


def metric_values(plan: calc.Plan, chosen: bool = False) -> dict[str, tuple[str, str]]:
    """Return (value, note under it) of each metric; ``n/a`` with the reason where there is none.

    ``chosen`` says that the number of GPUs was given, not found.
    """
    e = plan.estimate
    found = "fewest within the limits" if plan.meets else "closest size tried"
    devices = (str(plan.n_devices), "as chosen" if chosen else found)
    if not e.fits:
        reason = (NOTHING, "does not fit")
        return {"n_devices": devices, "ttft_s": reason, "tpot_s": reason, "usd_per_mtok_output": reason}
    if e.cost is None:
        cost = (NOTHING, "no price known")
    else:
        cost = (money(e.cost.usd_per_mtok_output), f"{money(e.cost.usd_per_hour)} USD per hour")
    return {
        "n_devices": devices,
        "ttft_s": (calc.format_seconds(e.ttft_s), interval(e, "ttft_s")),
        "tpot_s": (calc.format_seconds(e.tpot_s), interval(e, "tpot_s")),
        "usd_per_mtok_output": cost,
    }


def money(value: float) -> str:
    """Return an amount with cents, or three digits where cents would say nothing.

    Examples
    --------
    >>> money(1.7156), money(1234.5), money(0.0123)
    ('1.72', '1,234', '0.0123')
    """
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else calc.significant(value)


def interval(e: calc.Estimate, metric: str) -> str:
    """Return the 80 % interval of a time."""
    low, high = e.range(metric)
    return f"80 %: {calc.format_seconds(low)} to {calc.format_seconds(high)}"


def trust(e: calc.Estimate) -> str:
    """Return how far the times can be trusted, in words."""
    return TRUST[e.trust("tpot_s")]


def engine_line(e: calc.Estimate) -> str:
    """Return where the engine's overheads come from, as Markdown."""
    return f"**Engine overheads:** {calc.overheads_line(e.overheads)}."


def price_line(e: calc.Estimate) -> str:
    """Return where the price comes from, as Markdown."""
    if e.cost is None:
        return f"**Price:** none known for {e.device.name}. Enter your own under Advanced."
    rate = f"**Price:** {money(e.cost.usd_per_device_hour)} USD per GPU-hour"
    price = e.cost.price
    if price is None:
        return f"{rate}, your own."
    place = ", ".join(part for part in (price.provider, price.term, price.region) if part)
    sources = ", ".join(f"[source]({s.url})" if s.url else s.title for s in price.fact.sources)
    origin = f" ({sources})" if sources else f" ({price.fact.kind})"
    stale = " **Older than 180 days: check it.**" if price.is_stale() else ""
    return f"{rate}, {place}, seen {price.fact.date}{origin}.{stale}"


def rejected(plan: calc.Plan) -> list[str]:
    """Return why each smaller size was not chosen, one sentence each."""
    return [f"{plural(count, 'GPU')}: {reason}" for count, reason in plan.rejected]


def memory_title(e: calc.Estimate) -> str:
    """Return the conclusion of the memory bar."""
    memory = e.memory
    if not e.fits:
        return f"Memory: {calc.format_bytes(memory.shortfall_bytes_per_device)} too much for each GPU"
    share = memory.weights_bytes_per_device / memory.device_bytes_per_device
    return f"Memory: weights take {share:.0%} of each GPU"


def memory_takeaway(e: calc.Estimate) -> str:
    """Return the memory bar in one sentence, comparable with the lines an engine logs at start."""
    memory = e.memory
    if not e.fits:
        biggest = max(figures.memory_rows(e), key=lambda row: row[1])
        return (
            f"{biggest[0]} alone take {calc.format_bytes(biggest[1])} of the "
            f"{calc.format_bytes(memory.usable_bytes_per_device)} that the engine may use on each GPU."
        )
    tokens = e.workload.prompt_tokens + e.workload.output_tokens
    return (
        f"Room for {int(memory.cache_tokens):,} cached tokens: {int(memory.max_concurrency):,} requests "
        f"of {tokens:,} tokens at once."
    )


def memory_table(e: calc.Estimate) -> list[dict[str, str]]:
    """Return the memory bar as a table."""
    total = e.memory.device_bytes_per_device
    return [
        {"Part": label, "Per GPU": calc.format_bytes(value), "Share of the GPU": f"{value / total:.1%}"}
        for label, value in figures.memory_rows(e)
    ]


def curve_title(rows: list[dict], point: dict) -> str:
    """Return the conclusion of the throughput curve."""
    meeting = [row["users"] for row in rows if row["meets"]]
    if not meeting and not point["meets"]:
        return "Speed: not even one user stays within the limits"
    if not point["meets"]:
        return f"Speed: about {max(meeting):,} of {plural(point['users'], 'user')} stay within the limits"
    most = max([*meeting, point["users"]])
    full = most == max(row["users"] for row in rows)
    return f"Speed: up to about {plural(most, 'user')}" + (
        ", as many as memory holds" if full else " within the limits"
    )


def curve_takeaway(rows: list[dict], point: dict) -> str:
    """Return the throughput curve in one sentence."""
    best = max(rows, key=lambda row: row["tokens_per_s_per_gpu"])
    now = point["tokens_per_s_per_gpu"]
    share = now / best["tokens_per_s_per_gpu"]
    return (
        f"{plural(point['users'], 'user')}: {calc.significant(now)} tokens/s from each GPU, "
        f"{share:.0%} of the most it reaches (at {plural(best['users'], 'user')})."
    )


def curve_table(rows: list[dict], point: dict) -> list[dict[str, str]]:
    """Return the throughput curve as a table of at most a dozen rows, the scenario among them."""
    picked = {
        rows[i]["users"]: rows[i] for i in np.linspace(0, len(rows) - 1, TABLE_ROWS).round().astype(int)
    }
    picked[point["users"]] = point
    return [
        {
            "Users at once": f"{row['users']:,}",
            "Tokens/s per user": calc.significant(row["tokens_per_s_per_user"]),
            "Tokens/s per GPU": calc.significant(row["tokens_per_s_per_gpu"]),
            "First token": calc.format_seconds(row["ttft_s"]),
            "Per token": calc.format_seconds(row["tpot_s"]),
            "Within limits": "yes" if row["meets"] else "no",
        }
        for _, row in sorted(picked.items())
    ]


def remedy_line(words: str, plan: calc.Plan) -> str:
    """Return what a single change would lead to."""
    cost = plan.estimate.cost
    price = f", {money(cost.usd_per_mtok_output)} USD per million output tokens" if cost else ""
    return f"{words}: {hardware(plan)}{price}"


def command_lines(command: str) -> str:
    """Return a command with one option a line, still one command to the shell.

    Examples
    --------
    >>> print(command_lines("vllm serve m --max-model-len 4096"))
    vllm serve m \\
      --max-model-len 4096
    """
    return command.replace(" --", " \\\n  --")
