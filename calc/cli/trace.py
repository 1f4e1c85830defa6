"""``ullage trace``: play a request trace on a deployment; how many replicas meet an SLO."""

import argparse
import time

import calc
from calc.cli.scenario import add_command, add_scenario, number, scenario_of, slo_of, whole

_EXAMPLE = "ullage trace requests.csv --model llama-3.1-70b --device h100-sxm --tp 4 --ttft 2s --tpot 50ms"
_SHARES = (50, 90, 99)
_TIMES = {
    "ttft_s": "time to first token",
    "tpot_s": "time per output token",
    "e2e_latency_s": "whole request",
    "queue_s": "queueing",
}
#: options of a scenario that a trace has itself
_NOT_USED = ("users", "prompt", "output", "mode", "price", "price_term", "rate", "lengths")


def add_parser(commands) -> None:
    """Add the command to the parsers of ``ullage``."""
    parser = add_command(commands, "trace", "play a request trace, request by request", _EXAMPLE, run)
    parser.add_argument("file", help="CSV with columns time,prompt,output, or an Azure LLM inference trace")
    parser.add_argument("--replicas", default=None, metavar="N", help="copies of the deployment (default 1)")
    parser.add_argument(
        "--percentile", default="99", metavar="P", help="share of requests to keep the limits (default 99)"
    )
    parser.add_argument("--rate-scale", default="1", metavar="X", help="replay X times as fast (default 1)")
    parser.add_argument("--routing", default="round_robin", choices=["round_robin", "least_loaded"])
    parser.add_argument(
        "--policy",
        default=None,
        choices=["chunked", "prefill_first"],
        help="prompts share steps with decodes, or go first (default: the engine's)",
    )
    parser.add_argument("--cached-share", default="0", metavar="SHARE", help="of each prompt, prefix-cached")
    parser.add_argument("--limit", default=None, metavar="N", help="read the first N requests only")
    add_scenario(parser)
    for action in parser._actions:
        if action.dest in _NOT_USED:
            action.help = argparse.SUPPRESS


def run(args):
    """Return the report and the exit code: 0 finished and within the limits, 1 not."""
    from calc.cli import text

    begin, slo = time.perf_counter(), slo_of(args)
    requests = calc.read_trace(args.file, whole("--limit", args.limit))
    requests = requests.faster(number("--rate-scale", args.rate_scale))
    scenario = scenario_of(args)
    steps = calc.steps_of(scenario["model"], scenario["device"], scenario["deployment"], args.calibration)
    share = number("--percentile", args.percentile)
    table, scheduler = calc.ready(
        steps, requests, policy=args.policy, cached_share=number("--cached-share", args.cached_share)
    )
    fleet = None
    if args.replicas is None and (slo.ttft_s or slo.tpot_s):
        fleet = calc.fewest_replicas(table, scheduler, requests, slo.ttft_s, slo.tpot_s, share, args.routing)
        found = fleet.simulation
    else:
        replicas = whole("--replicas", args.replicas) or 1
        found = calc.simulate_requests(table, scheduler, requests, replicas, args.routing)
    seconds = time.perf_counter() - begin
    good = found.meets(slo.ttft_s, slo.tpot_s, share)
    record = _record(args, steps, requests, found, fleet, slo, share, good)
    if args.json:
        return text.as_json(calc.plain(record)), 0 if good else 1
    if args.csv:
        row = text.flat(calc.plain(record))
        return text.as_csv(list(row), [list(row.values())]), 0 if good else 1
    return _report(steps, requests, found, fleet, slo, share, seconds), 0 if good else 1


def _record(args, steps, requests, found, fleet, slo, share, good) -> dict:
    figures = {
        metric: {"mean": found.mean(metric), **{f"p{p}": found.percentile(metric, p) for p in _SHARES}}
        for metric in _TIMES
    }
    names = ("n_requests", "finished", "rejected", "interrupted", "replicas", "duration_s", "requests_per_s",
             "output_tokens_per_s", "utilisation", "mean_decodes", "pool_share", "preemptions")  # fmt: skip
    return {
        "schema_version": 1,
        "scenario": {
            "trace": args.file, "model": steps.model.id, "device": steps.device.id, "engine": steps.engine.id,
            "tp": steps.deployment.tp, "n_devices": steps.deployment.n_devices * found.replicas,
            "arrivals_per_s": requests.requests_per_s, "prompt_tokens": requests.prompt_tokens.mean(),
            "output_tokens": requests.output_tokens.mean(),
        },
        **{name: getattr(found, name) for name in names},
        **figures,
        "slo": {"ttft_s": slo.ttft_s, "tpot_s": slo.tpot_s, "percentile": share},
        "meets": good,
        "goodput_requests_per_s": found.goodput(slo.ttft_s, slo.tpot_s),
        "fewest_replicas": None if fleet is None else fleet.replicas,
        "tried": None if fleet is None else [{"replicas": n, "meets": ok} for n, ok in fleet.tried],
    }  # fmt: skip


def _report(steps, requests, found, fleet, slo, share, seconds) -> str:
    from calc.cli import text

    each = steps.deployment.n_devices
    lengths = (
        f"{requests.prompt_tokens.mean():,.0f} prompt + {requests.output_tokens.mean():,.0f} output tokens"
    )
    lines = [
        f"{steps.model.name} on {found.replicas} x {each} x {steps.device.name}, {steps.engine.name}",
        f"{len(requests):,} requests in {requests.span_s:,.0f} s, {requests.requests_per_s:.3g} per second, "
        f"{lengths} on average",
        "",
    ]
    if fleet is not None:
        lines += [_fleet_line(fleet, share), ""]
    if found.interrupted:
        lines += [f"interrupted: {found.finished:,} of {len(requests):,} requests finished", ""]
    rows = [
        [name, *(_shown(found.percentile(metric, p)) for p in _SHARES), _shown(found.mean(metric))]
        for metric, name in _TIMES.items()
    ]
    lines += [text.table(["", *(f"p{p}" for p in _SHARES), "mean"], rows, right=(1, 2, 3, 4)), ""]
    lines.append(
        f"{found.output_tokens_per_s:,.0f} output tokens/s; busy {found.utilisation:.0%} of the time, "
        f"{found.mean_decodes:.1f} sequences decoding, cache at most {found.pool_share:.0%} full, "
        f"{found.preemptions:,} preemptions"
    )
    if found.rejected:
        lines.append(f"{found.rejected:,} requests rejected: longer than the cache of a replica")
    if slo.ttft_s or slo.tpot_s:
        good = found.goodput(slo.ttft_s, slo.tpot_s)
        verdict = "meets" if found.meets(slo.ttft_s, slo.tpot_s, share) else "does not meet"
        lines.append(
            f"{verdict} the limits at p{share:g}; goodput {good:.3g} of {found.requests_per_s:.3g} requests/s"
        )
    return "\n".join(lines)


def _fleet_line(fleet, share) -> str:
    if fleet.replicas is None:
        return f"no number of replicas meets the limits at p{share:g}: {fleet.reason}"
    return f"{fleet.replicas} replicas are the fewest that meet the limits at p{share:g}"


def _shown(seconds: float) -> str:
    return "-" if seconds != seconds else calc.format_seconds(seconds)
