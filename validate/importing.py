"""``python -m validate import``: result files of benchmark tools as rows that ``score`` reads."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import calc
from validate.importers.measured import Context, option
from validate.importers.registry import Imported, as_csv, imported
from validate.runs.table import MODES

EXAMPLE = "example: python -m validate import results/ --device h100-sxm --tp 4 --engine vllm --out rows.csv"
_HELP = {
    "device": "device id or name",
    "tp": "tensor-parallel devices",
    "pp": "pipeline stages",
    "dp": "attention data-parallel ranks",
    "ep": "expert-parallel ranks",
    "model": "model id, Hugging Face name or path",
    "weights": "weight format; the checkpoint's own unless said",
    "kv": "cache format; the engine's default unless said",
    "engine": "vllm, sglang, tensorrt-llm ...",
    "engine_version": "e.g. 0.10.0; the newest unless said",
    "mode": "how the load was kept up, against what the file suggests",
    "concurrency": "requests kept in flight, against what the file suggests",
}
_WHOLE = ("tp", "pp", "dp", "ep", "concurrency")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLE
    add_sources(parser)
    parser.add_argument("--out", metavar="ROWS.csv", help="table to write; standard output unless said")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add the result files, and an option for each fact that they may not say."""
    parser.add_argument("files", metavar="FILES", nargs="+", help="result files, or folders of them")
    missing = parser.add_argument_group("what a result file does not say")
    for name, text in _HELP.items():
        kind = _count if name in _WHOLE else str
        choices = MODES if name == "mode" else None
        missing.add_argument(option(name), dest=name, type=kind, choices=choices, help=text)


def run(args: argparse.Namespace) -> int:
    """Import result files and write their rows."""
    result = imported_by(args)
    text = as_csv(result.rows)
    if args.out is None:
        print(text, end="")
        return 0
    written(args.out, text)
    print(f"{len(result.rows)} rows -> {args.out}")
    return 0


def imported_by(args: argparse.Namespace) -> Imported:
    """Return the rows of the files named, and say on standard error what was left out."""
    given = {each.name: getattr(args, each.name) for each in fields(Context)}
    result = imported(args.files, Context(**given))
    for line in result.skipped:
        print(f"validate: {line}", file=sys.stderr)
    return result


def written(path: str, text: str) -> None:
    """Write a file.

    Raises
    ------
    SpecError
        If it cannot be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise calc.SpecError(f"--out: {path} cannot be written ({error.strerror})") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed are whole numbers from 1")
    return int(text)
