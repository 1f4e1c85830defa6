"""The command line: ``ullage plan | estimate | explain | list | show | serve | validate | calibrate``.

Parsing only: every figure comes from the public names of ``calc``.
Exit codes: 0 fits and meets the limits, 1 does not, 2 wrong usage or input.
"""

import argparse
import os
import sys
from pathlib import Path

import calc
from calc.cli import finetune, memory, trace
from calc.cli.scenario import add_command, add_scenario, scenario_of, slo_of, whole


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line on stderr with exit code 2."""

    def error(self, message: str):
        print(f"ullage: {message}", file=sys.stderr)
        raise SystemExit(2)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Examples
    --------
    >>> main(["list", "engines", "--csv"])  # doctest: +ELLIPSIS
    id,name,versions,memory_utilization,max_sequences,max_batched_tokens,overheads
    ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["validate"]:
        return _validate(arguments[1:])
    if arguments[:1] == ["calibrate"]:
        return _validate(arguments)
    args = _parser().parse_args(arguments)
    try:
        output, code = args.run(args)
        _write(output, args.out)
        return code
    except calc.SpecError as error:
        print(f"ullage: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ullage: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _write(output: str, out: str | None) -> None:
    if out is None:
        print(output, flush=True)
        return
    try:
        Path(out).write_text(output + "\n", encoding="utf-8")
    except OSError as error:
        raise calc.SpecError(f"-o: {out} cannot be written ({error.strerror})") from None


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ullage",
        description="Does this model fit, how fast will it serve, what does it cost - from first principles.",
        epilog="example: ullage plan --model llama-3.1-70b --device h100-sxm --users 64 --prompt 1k",
    )
    parser.add_argument("--version", action="version", version=f"ullage {calc.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_plan(commands)
    _add_estimate(commands)
    _add_explain(commands)
    memory.add_parsers(commands)
    finetune.add_parser(commands)
    trace.add_parser(commands)
    _add_list(commands)
    _add_show(commands)
    _add_serve(commands)
    commands.add_parser("validate", help="run real kernels and compare (python -m validate)", add_help=False)
    commands.add_parser("calibrate", help="fit an engine's overheads to your own runs", add_help=False)
    return parser


def _add_plan(commands) -> None:
    example = (
        "ullage plan --model llama-3.1-70b --device h100-sxm --users 64 --prompt 1k --output 256 --tpot 50ms"
    )
    add_scenario(
        add_command(commands, "plan", "find the fewest devices that fit and keep the limits", example, _plan)
    )


def _add_estimate(commands) -> None:
    example = "ullage estimate --model llama-3.1-70b --device h100-sxm --tp 4 --weights fp8 --users 16"
    add_scenario(
        add_command(commands, "estimate", "answer one scenario, without a search", example, _estimate)
    )


def _add_explain(commands) -> None:
    example = "ullage explain tpot_s --model llama-3.1-70b --device h100-sxm --tp 4"
    parser = add_command(commands, "explain", "show where a number comes from", example, _explain)
    parser.add_argument(
        "metric",
        help="tpot_s, ttft_s, cache_bytes, usd_per_mtok_output, n_devices ...; with --rate ttft_p99_s too",
    )
    add_scenario(parser)


def _add_list(commands) -> None:
    parser = add_command(commands, "list", "list what is known", "ullage list devices", _list)
    parser.add_argument("what", choices=["models", "devices", "engines", "prices"])


def _add_show(commands) -> None:
    example = "ullage show h100-sxm --sources"
    parser = add_command(commands, "show", "show one device, model or engine", example, _show)
    parser.add_argument("name", help="id, alias or path")
    parser.add_argument("--sources", action="store_true", help="where each number comes from")


def _add_serve(commands) -> None:
    parser = add_command(commands, "serve", "open the dashboard", "ullage serve --port 8501", _serve)
    parser.add_argument("--port", default="8501", help="port (default 8501)")


def _estimate(args):
    from calc.cli import text

    slo = slo_of(args)
    e = calc.estimate(**scenario_of(args))
    code = 0 if e.meets(slo) else 1
    if args.json:
        return text.as_json({**e.to_dict(), "meets": code == 0}), code
    if args.csv:
        row = text.flat(e.to_dict())
        return text.as_csv(list(row), [list(row.values())]), code
    return text.report(e), code


def _plan(args):
    from calc.cli import text

    result = calc.plan(**scenario_of(args), slo=slo_of(args), tp=whole("--tp", args.tp))
    e, code = result.estimate, 0 if result.meets else 1
    rejected = [{"n_devices": n, "reason": why} for n, why in result.rejected]
    if args.json:
        record = {**e.to_dict(), "meets": result.meets, "rejected": rejected, "launch": _launch(e)}
        return text.as_json(record), code
    if args.csv:
        row = {"meets": result.meets, **text.flat(e.to_dict())}
        return text.as_csv(list(row), [list(row.values())]), code
    lines = [f"{n} x {e.device.id}: no, {why}" for n, why in result.rejected]
    if result.meets:
        lines.append(f"{e.n_devices} x {e.device.id}: yes")
    else:
        lines.append(f"none of the sizes tried is enough; shown is {e.n_devices} x {e.device.id}")
    lines += ["", text.report(e)]
    if result.meets:
        lines += ["", _launch(e) or f"(no server command for this deployment of {e.engine.id})"]
    return "\n".join(lines), code


def _launch(e) -> str | None:
    try:
        return calc.launch_command(
            e.deployment, e.model, context_tokens=e.workload.prompt_tokens + e.workload.output_tokens
        )
    except calc.SpecError:
        return None


def _explain(args):
    from calc.cli import text

    explanation = calc.explain(calc.estimate(**scenario_of(args)), args.metric)
    if args.json:
        return text.as_json(explanation.to_dict()), 0
    if args.csv:
        rows = [[t.symbol, t.name, t.value, t.unit, t.kind, t.source] for t in explanation.terms]
        return text.as_csv(["symbol", "name", "value", "unit", "kind", "source"], rows), 0
    return explanation.to_text(), 0


def _list(args):
    from calc.cli import lists, text

    header, rows, shown = lists.LISTS[args.what]()
    if args.json:
        return text.as_json(
            {"schema_version": 1, args.what: [dict(zip(header, row, strict=True)) for row in rows]}
        ), 0
    if args.csv:
        return text.as_csv(header, rows), 0
    return text.table(*shown), 0


def _show(args):
    from calc.cli import lists, text

    title, record, header, rows = lists.show(args.name, args.sources)
    if args.json:
        return text.as_json({"schema_version": 1, **record}), 0
    if args.csv:
        return text.as_csv(header, rows), 0
    return f"{title}\n\n{text.table(header, rows)}", 0


def _serve(args):
    import importlib.util
    import subprocess

    if importlib.util.find_spec("streamlit") is None:
        raise calc.SpecError(
            "serve: the dashboard needs streamlit and plotly; install them with: pip install 'ullage[app]'"
        )
    app = importlib.util.find_spec("app")
    if app is None or app.origin is None:
        raise calc.SpecError("serve: app.py was not found beside the package")
    port = whole("--port", args.port)
    command = [sys.executable, "-m", "streamlit", "run", app.origin, "--server.port", str(port)]
    try:
        return "", subprocess.call([*command, "--browser.gatherUsageStats", "false"])
    except KeyboardInterrupt:
        return "", 0


def _validate(arguments: list[str]) -> int:
    import importlib.util
    import subprocess

    if importlib.util.find_spec("validate") is None:
        print("ullage: validate is not part of this release", file=sys.stderr)
        return 2
    return subprocess.call([sys.executable, "-m", "validate", *arguments])


if __name__ == "__main__":
    sys.exit(main())
