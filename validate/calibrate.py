"""``python -m validate calibrate``: an engine's overheads fitted to one's own result files."""

import argparse
import datetime

import calc
from validate.importers.registry import Imported
from validate.importing import add_sources, imported_by, written
from validate.overheads import LEAST_RUNS, overheads_text, refitted
from validate.runs.recorded import recorded
from validate.runs.table import Run, run_of

EXAMPLE = "example: ullage calibrate results/ --engine vllm --device h100-sxm --tp 4 --out my-overheads.yaml"


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
    result = imported_by(args)
    engine = args.engine or _only_engine(result)
    runs = [run for run in runs_of(result) if run.engine == engine]
    if len(runs) < LEAST_RUNS:
        raise calc.SpecError(
            f"{len(runs)} rows of {engine} are too few to fit; allowed are {LEAST_RUNS} or more"
        )
    profile = refitted(engine, {"versions": "any"}, [recorded(run) for run in runs])
    today = datetime.date.today().isoformat()
    written(args.out, overheads_text(engine, [profile], args.title, args.url, today))
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
