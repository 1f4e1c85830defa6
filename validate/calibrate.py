"""``python -m validate calibrate``: an engine's overheads fitted to one's own result files."""

import argparse
import datetime
from importlib import import_module
from types import ModuleType

import calc
from validate.importers.registry import Imported
from validate.importing import add_sources, imported_by, written
from validate.runs.table import Run, run_of

EXAMPLE = "example: ullage calibrate results/ --engine vllm --device h100-sxm --tp 4 --out my-overheads.yaml"
#: module that fits: ``fit_profile(runs, engine)`` and ``overheads_text(engine, profiles, title, url, date)``
FIT = "validate.runs.fit"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = EXAMPLE
    add_sources(parser)
    parser.add_argument(
        "--out", metavar="FILE", default="my-overheads.yaml", help="file to write (my-overheads.yaml)"
    )
    parser.add_argument("--title", default="own measurements", help="title of the source in the file")
    parser.add_argument("--url", default="", help="address of the source in the file")


def run(args: argparse.Namespace) -> int:
    """Fit the overheads of an engine to the runs of result files."""
    fit = _fit_module()
    result = imported_by(args)
    engine = args.engine or _only_engine(result)
    runs = [run for run in runs_of(result) if run.engine == engine]
    profile = fit.fit_profile(runs, engine)
    today = datetime.date.today().isoformat()
    written(args.out, fit.overheads_text(engine, [profile], args.title, args.url, today))
    print(f"overheads of {engine} from {len(runs)} rows -> {args.out}")
    return 0


def runs_of(result: Imported) -> list[Run]:
    """Return imported rows as measured runs."""
    return [
        run_of(index, {name: str(value) for name, value in row.items()})
        for index, row in enumerate(result.rows)
    ]


def _only_engine(result: Imported) -> str:
    engines = sorted({row["engine"] for row in result.rows})
    if len(engines) != 1:
        raise calc.SpecError(f"--engine: the files hold {', '.join(engines)}; say which to fit")
    return engines[0]


def _fit_module() -> ModuleType:
    try:
        return import_module(FIT)
    except ModuleNotFoundError as error:
        if error.name != FIT:
            raise
        raise calc.SpecError("calibrate is not part of this release yet") from None
