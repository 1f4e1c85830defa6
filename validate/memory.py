"""``python -m validate memory``: what fits and how much cache, beside start-up logs and fit labels."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import calc
from validate import fit_rows, memory_report, memory_rows
from validate.memory_logs import StartLog, parse_log
from validate.names import GIB
from validate.scenario import scenario_of
from validate.scores import Score, as_record

EXAMPLE = "example: python -m validate memory start.log --device h100-sxm"

#: option for one raw log -> field of Setup, type, what it says
_OPTIONS = {
    "--model": ("model", str, "model id, Hugging Face name or path"),
    "--device": ("device", str, "device id or name"),
    "--gpu-total-gib": ("device_bytes", float, "memory the driver reports, in GiB"),
    "--engine": ("engine", str, "vllm or sglang"),
    "--engine-version": ("version", str, "e.g. 0.19.0"),
    "--tp": ("tp", int, "tensor-parallel devices"),
    "--pp": ("pp", int, "pipeline stages"),
    "--dp": ("dp", int, "data-parallel ranks"),
    "--ep": ("ep", int, "expert-parallel ranks"),
    "--weights": ("weights", str, "weight format"),
    "--kv": ("kv_cache_dtype", str, "cache format"),
    "--max-model-len": ("request_tokens", int, "longest request"),
    "--memory-utilization": ("memory_utilization", float, "share of device memory in use"),
    "--block-size": ("block_tokens", int, "tokens of a cache block"),
    "--max-sequences": ("max_sequences", int, "scheduler limit on sequences"),
    "--max-batched-tokens": ("max_batched_tokens", int, "scheduler limit on tokens a step"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.epilog = EXAMPLE
    parser.add_argument(
        "logs", metavar="LOGS", help="table of logs or fit labels (.csv), or a raw log; - is stdin"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object with schema_version")
    parser.add_argument("--rows", action="store_true", help="print every row of a table")
    one = parser.add_argument_group("what a raw log does not say")
    for option, (field, kind, help_text) in _OPTIONS.items():
        one.add_argument(option, dest=field, type=kind, default=None, help=help_text)


def run(args: argparse.Namespace) -> int:
    """Score one input and print it; 2 when nothing could be scored."""
    text = _read(args.logs)
    rows, columns = _rows(text)
    given = {name: value for name, _, _ in _OPTIONS.values() if (value := getattr(args, name)) is not None}
    if set(fit_rows.COLUMNS) <= columns:
        scores, show = fit_rows.scores_of(rows), memory_report.of_labels
    elif "model" in columns and columns & set(memory_rows.FIGURES):
        scores, show = memory_rows.scores_of(rows), memory_report.of_table
    elif args.logs.endswith(".csv"):
        figures, labels = " or ".join(memory_rows.FIGURES), ", ".join(fit_rows.COLUMNS)
        raise calc.SpecError(f"{args.logs}: needs the columns model and {figures}; or {labels}")
    else:
        return _one_log(text, given, args)
    if given:
        option = next(option for option, (name, _, _) in _OPTIONS.items() if name in given)
        raise calc.SpecError(f"{option}: is for a raw log; a table says it in its columns")
    if not scores:
        raise calc.SpecError(f"{args.logs}: holds no figure to score")
    return _print(scores, args.json, show(scores, all_rows=args.rows))


def _read(name: str) -> str:
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise calc.SpecError(f"{name}: cannot be read ({error.strerror})") from None
    return data.decode("utf-8-sig", errors="replace")


def _rows(text: str) -> tuple[list[dict], set[str]]:
    """Rows and columns of a table; none where the first line names none of ours."""
    first = next(csv.reader(io.StringIO(text.partition("\n")[0])), [])
    if not {"model", "hardware"} & set(first):
        return [], set()
    return list(csv.DictReader(io.StringIO(text))), set(first)


def _print(scores: Sequence[Score], as_json: bool, report: str) -> int:
    print(json.dumps(as_record(scores), indent=2, allow_nan=False) if as_json else report)
    if any(score.predicted is not None for score in scores):
        return 0
    print(f"validate: nothing could be answered: {scores[0].reason}", file=sys.stderr)
    return 2


def _one_log(text: str, given: dict, args: argparse.Namespace) -> int:
    log = parse_log(text)
    if log.is_empty:
        raise calc.SpecError(f"{args.logs}: no line of a vLLM or SGLang start-up log was recognised")
    if "device_bytes" in given:
        given["device_bytes"] *= GIB
    log = StartLog(replace(log.setup, **given), log.logged)
    scenario = scenario_of(log.setup)  # raises, in one line, for what is not known
    scores = memory_rows.scores_of_start(0, Path(args.logs).name, log.setup, log.logged)
    if not scores:
        raise calc.SpecError(f"{args.logs}: the log holds no weights, cache or concurrency line to score")
    return _print(scores, args.json, memory_report.of_log(log, scenario, scores))
