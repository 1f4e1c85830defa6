"""What commands have in common: their options, and reading a scenario from them."""

import argparse

import calc


def add_command(commands, name: str, help_text: str, example: str, run) -> argparse.ArgumentParser:
    """Return the parser of a command with its help, example and output options."""
    parser = commands.add_parser(name, help=help_text, description=help_text, epilog=f"example: {example}")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object with schema_version")
    form.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("-o", dest="out", metavar="FILE", help="write to a file instead of the terminal")
    parser.set_defaults(run=run)
    return parser


def add_scenario(parser) -> None:
    """Add the options that describe a scenario, and limits on mean times."""
    scenario = parser.add_argument_group("scenario")
    _add_workload(scenario)
    _add_settings(scenario)
    _add_sources(scenario)
    slo = parser.add_argument_group("limits on mean times")
    slo.add_argument("--ttft", default=None, metavar="TIME", help="time to first token, e.g. 2s")
    slo.add_argument("--tpot", default=None, metavar="TIME", help="time per output token, e.g. 50ms")


def _add_workload(scenario) -> None:
    scenario.add_argument(
        "--model", required=True, help="id, Hugging Face name, or path of a config.json or spec"
    )
    scenario.add_argument("--device", required=True, help="id, or path of a device .yaml")
    scenario.add_argument("--users", default=None, metavar="N", help="requests in flight (default 1)")
    scenario.add_argument("--rate", default=None, metavar="R", help="requests per second, instead of --users")
    scenario.add_argument("--lengths", default="constant", choices=["constant", "geometric", "lognormal"],
                          help="how lengths spread around their means, with --rate")  # fmt: skip
    scenario.add_argument("--prompt", default="1k", metavar="TOKENS", help="prompt tokens, e.g. 1k (default)")
    scenario.add_argument("--output", default="256", metavar="TOKENS", help="output tokens (default 256)")
    scenario.add_argument(
        "--shared-prefix", default="0", metavar="TOKENS", help="prompt tokens that all requests share, cached"
    )
    scenario.add_argument("--sequences-per-request", default="1", metavar="N",
                          help="beams, or n of best-of-n; the tokens of one of them count")  # fmt: skip
    scenario.add_argument("--mode", default=None, choices=["closed_loop", "static", "max_load"],
                          help="continuous batching (default), one batch, or all memory holds")  # fmt: skip


def _add_settings(scenario) -> None:
    scenario.add_argument("--engine", default="vllm", help="serving engine (default vllm)")
    scenario.add_argument(
        "--engine-version", default=None, metavar="V", help="its version (default: newest known)"
    )
    scenario.add_argument("--tp", default=None, metavar="N", help="tensor-parallel devices")
    scenario.add_argument("--pp", default="1", metavar="N", help="pipeline stages")
    scenario.add_argument("--dp", default="1", metavar="N", help="attention data parallel ranks")
    scenario.add_argument("--ep", default="1", metavar="N", help="ranks that share out experts, in tp * dp")
    scenario.add_argument("--cp", default="1", metavar="N", help="decode context parallel ranks, within tp")
    scenario.add_argument(
        "--expert-skew", default="0", metavar="X", help="exponent of expert popularity, 0 (uniform) to 1.5"
    )
    scenario.add_argument(
        "--weights", default=None, metavar="DTYPE", help="weight format (default: the checkpoint's)"
    )
    scenario.add_argument("--kv", default=None, metavar="DTYPE", help="cache format (default bf16)")
    scenario.add_argument(
        "--memory-utilization", default=None, metavar="SHARE", help="share of device memory in use"
    )
    scenario.add_argument("--max-sequences", default=None, metavar="N", help="scheduler limit on sequences")
    scenario.add_argument(
        "--max-batched-tokens", default=None, metavar="N", help="scheduler limit on tokens a step"
    )
    scenario.add_argument(
        "--hold-steps", default="0", metavar="N", help="decode steps that the scheduler holds new requests"
    )


def _add_sources(scenario) -> None:
    scenario.add_argument(
        "--calibration", default="default", help="default, family, datasheet, an id or a path"
    )
    scenario.add_argument(
        "--overheads", default=None, metavar="FILE", help="your engine's overheads, of ullage calibrate"
    )
    scenario.add_argument(
        "--drafts", default=None, metavar="KIND:N:SHARE",
        help="speculative decoding, e.g. eagle:3:0.7 or draft=llama-3.2-1b:3:0.7 (also mtp, ngram)",
    )  # fmt: skip
    scenario.add_argument(
        "--equal-lengths", action="store_true", help="every request as long as said, as in benchmarks"
    )
    scenario.add_argument(
        "--cold", action="store_true", help="a closed loop of a server that was not warmed up"
    )
    scenario.add_argument("--price", default=None, metavar="USD", help="your price per device-hour")
    scenario.add_argument(
        "--price-term", default="on-demand", help="on-demand, spot, reserved, capacity-block, market"
    )


def number(name: str, given: str | None) -> float | None:
    """Return an option as a number, None where it was not given."""
    if given is None:
        return None
    try:
        return float(given)
    except ValueError:
        raise calc.SpecError(f"{name}: {given!r} is not a number") from None


def whole(name: str, given: str | None) -> int | None:
    """Return an option as a whole number, None where it was not given."""
    value = number(name, given)
    if value is not None and (not value == value or abs(value) > 1e12 or value != int(value)):
        raise calc.SpecError(f"{name}: {given!r} is not a whole number")
    return None if value is None else int(value)


def scenario_of(args) -> dict:
    """The keyword arguments of ``calc.estimate`` and ``calc.plan``."""
    deployment = calc.Deployment(
        engine=args.engine,
        engine_version=args.engine_version,
        weight_dtype=args.weights,
        kv_dtype=args.kv,
        memory_utilization=number("--memory-utilization", args.memory_utilization),
        max_sequences=whole("--max-sequences", args.max_sequences),
        max_batched_tokens=whole("--max-batched-tokens", args.max_batched_tokens),
        hold_steps=number("--hold-steps", args.hold_steps),
        tp=1 if args.tp is None else whole("--tp", args.tp),
        **{name: whole(f"--{name}", getattr(args, name)) for name in ("pp", "ep", "dp", "cp")},
        speculation=speculation_of(args.drafts),
        **_memory_settings(args),
    )
    load = calc.Workload(
        prompt_tokens=calc.parse_tokens(args.prompt, "--prompt"),
        output_tokens=calc.parse_tokens(args.output, "--output"),
        concurrency=whole("--users", args.users),
        mode=args.mode or "",
        requests_per_s=number("--rate", args.rate),
        prompt_lengths=args.lengths,
        output_lengths=args.lengths,
        expert_skew=number("--expert-skew", args.expert_skew),
        equal_lengths=args.equal_lengths,
        warmed_up=not args.cold,
        shared_prefix_tokens=calc.parse_tokens(args.shared_prefix, "--shared-prefix"),
        sequences_per_request=whole("--sequences-per-request", args.sequences_per_request),
    )
    return {
        "model": args.model,
        "device": args.device,
        "deployment": deployment,
        "workload": load,
        "calibration": args.calibration,
        **({"overheads": args.overheads} if args.overheads else {}),
        "usd_per_device_hour": number("--price", args.price),
        "price_term": args.price_term,
    }


def speculation_of(given: str | None) -> "calc.Speculation | None":
    """Return drafting as ``--drafts`` says it: who drafts, how many tokens, the share that is kept."""
    if given is None:
        return None
    parts = given.split(":")
    if len(parts) != 3:
        raise calc.SpecError(f"--drafts: {given!r} is not allowed; allowed are e.g. eagle:3:0.7")
    kind, _, model = parts[0].partition("=")
    tokens, share = whole("--drafts", parts[1]), number("--drafts", parts[2])
    return calc.Speculation(kind, tokens, share, draft_model=model or None)


def add_memory_options(parser) -> None:
    """Add what memory is answered for beyond a timed scenario."""
    more = parser.add_argument_group("memory only: adapters, offloading")
    more.add_argument(
        "--max-context", default=None, metavar="TOKENS", help="length the engine is started for"
    )
    more.add_argument("--lora-slots", default="0", metavar="N", help="LoRA adapters held at once")
    more.add_argument("--lora-rank", default="16", metavar="R", help="rank of the adapters (default 16)")
    more.add_argument("--host-cache", default=None, metavar="SIZE", help="host memory per device, e.g. 64GiB")


def _memory_settings(args) -> dict:
    if not hasattr(args, "max_context"):
        return {}
    context = None if args.max_context is None else calc.parse_tokens(args.max_context, "--max-context")
    host = 0.0 if args.host_cache is None else calc.parse_bytes(args.host_cache, "--host-cache")
    slots, rank = whole("--lora-slots", args.lora_slots), whole("--lora-rank", args.lora_rank)
    adapters = {"lora_slots": slots, "lora_rank": rank}
    return {**adapters, "max_context_tokens": context, "host_cache_bytes": host}


def slo_of(args) -> "calc.SLO":
    """Return the limits on mean times."""
    limits = {"ttft_s": ("--ttft", args.ttft), "tpot_s": ("--tpot", args.tpot)}
    given = {
        key: calc.parse_seconds(value, flag) for key, (flag, value) in limits.items() if value is not None
    }
    return calc.SLO(**given)
