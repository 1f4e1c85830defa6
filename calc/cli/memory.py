"""``ullage memory`` and ``ullage solve``: what fits, and the inverse questions."""

import calc
from calc.cli import text
from calc.cli.scenario import add_command, add_memory_options, add_scenario, scenario_of, slo_of


def add_parsers(commands) -> None:
    """Add both commands."""
    example = "ullage memory --model deepseek-v3 --device h200-sxm --tp 8 --users 64 --prompt 8k"
    parser = add_command(commands, "memory", "show what fits, for any parallelism", example, _memory)
    add_scenario(parser)
    add_memory_options(parser)
    example = "ullage solve context --model llama-3.1-8b --device l40s --users 16"
    parser = add_command(
        commands, "solve", "find the most users, context, devices or weights", example, _solve
    )
    parser.add_argument("unknown", choices=["concurrency", "context", "n_devices", "weight_dtype"])
    add_scenario(parser)
    add_memory_options(parser)


def _memory(args):
    scenario = scenario_of(args)
    parts = {name: scenario[name] for name in ("model", "device", "deployment", "workload")}
    memory, ways = calc.memory(**parts), calc.ways_to_fit(**parts)
    sentence = calc.fit_sentence(memory, calc.load_device(parts["device"]), ways)
    code = 0 if memory.fits else 1
    record = {
        "schema_version": 1,
        "fits": memory.fits,
        "fit": sentence,
        "memory": calc.memory_record(memory),
        "ways_to_fit": [{"kind": way.kind, "change": way.label, "sentence": way.sentence} for way in ways],
    }
    if args.json:
        return text.as_json(calc.plain(record)), code
    if args.csv:
        row = text.flat(calc.plain(record))
        return text.as_csv(list(row), [list(row.values())]), code
    lines = [sentence, "", text.memory_table(memory), "", *_totals(memory, parts["workload"])]
    if ways:
        lines += ["", "ways to fit:", *(f"  {way.sentence}" for way in ways[:8])]
    return "\n".join(lines), code


def _totals(memory, load) -> list[str]:
    """The engine's own lines, and the deployment as a whole."""
    request = load.prompt_tokens + load.output_tokens
    lines = [
        f"GPU KV cache size: {int(memory.cache_tokens):,} tokens",
        f"Maximum concurrency for {request:,} tokens per request: {memory.max_concurrency:.2f}x",
        f"all {memory.n_devices} devices: weights {calc.format_bytes(memory.weights_bytes)}, "
        f"cache pool {calc.format_bytes(memory.cache_pool_bytes)}",
        f"cache of the requests in flight: {calc.format_bytes(memory.cache_bytes)} reserved, "
        f"{calc.format_bytes(memory.cache_used_bytes)} used",
    ]
    if memory.draft_bytes:
        drafts = calc.format_bytes(memory.draft_bytes), calc.format_bytes(memory.draft_cache_bytes)
        lines.append("what drafts: weights {}, cache {} of the above".format(*drafts))
    if memory.graph_bytes_per_device:
        graphs = calc.format_bytes(memory.graph_bytes_per_device)
        lines.append(f"CUDA graphs take about {graphs} per device outside of the budget")
    if memory.host_cache_tokens:
        lines.append(f"host memory keeps {int(memory.host_cache_tokens):,} more tokens of cache")
    return lines


def _solve(args):
    scenario = scenario_of(args)
    parts = {name: scenario[name] for name in ("model", "device", "deployment", "workload")}
    slo = slo_of(args) if args.ttft or args.tpot else None
    solution = calc.solve(**parts, for_=args.unknown, slo=slo)
    code = 0 if solution.value is not None else 1
    record = {
        "schema_version": 1,
        "for": solution.for_,
        "value": solution.value,
        "sentence": solution.sentence,
        "memory": calc.memory_record(solution.memory),
        "estimate": None if solution.estimate is None else solution.estimate.to_dict(),
    }
    if args.json:
        return text.as_json(calc.plain(record)), code
    if args.csv:
        return text.as_csv(
            ["for", "value", "sentence"], [[solution.for_, solution.value, solution.sentence]]
        ), code
    lines = [solution.sentence]
    if solution.value is not None:
        lines += ["", text.memory_table(solution.memory)]
        if solution.estimate is not None:
            lines += ["", text.speed_table(solution.estimate)]
    return "\n".join(lines), code
