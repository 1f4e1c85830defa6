"""All importers, the search for result files, and the rows of many of them."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import calc
from validate.importers import genai_perf, guidellm, sglang_bench, trtllm_bench, vllm_bench
from validate.importers.document import SUFFIXES, Document, read_document
from validate.importers.measured import SCHEMA, Context, Measured, rows_of
from validate.runs.table import COLUMNS

#: one module per tool, each with ``recognises(document)`` and ``runs(document)``
IMPORTERS = (vllm_bench, sglang_bench, guidellm, genai_perf, trtllm_bench)


@dataclass
class Imported:
    """Rows of result files, and a line for each file or run that was left out."""

    rows: list[dict] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def imported(paths: Iterable[str], context: Context) -> Imported:
    """Return the rows of result files; of folders, those of every file that is one.

    Raises
    ------
    SpecError
        If a named file is no result file, or something is missing that an option says.
    """
    result, names = Imported(), Counter()
    for path in map(Path, paths):
        for document in _found(path, result) if path.is_dir() else [_named(path)]:
            _add(document, context, result, names)
    if not result.rows:
        raise calc.SpecError("; ".join(result.skipped) or f"no result files; allowed are those of {_tools()}")
    return result


def importer_of(document: Document):
    """Return the importer that recognises a file, None without one."""
    return next((each for each in IMPORTERS if each.recognises(document)), None)


def as_csv(rows: Iterable[dict]) -> str:
    """Return rows as CSV text in the schema."""
    text = io.StringIO()
    writer = csv.DictWriter(text, SCHEMA, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _tools() -> str:
    return ", ".join(each.NAME for each in IMPORTERS)


def _named(path: Path) -> Document:
    document = read_document(path)
    if importer_of(document) is None and not is_table(document):
        raise calc.SpecError(f"{path}: is not a known result file; allowed are those of {_tools()}")
    return document


def _found(folder: Path, result: Imported) -> Iterator[Document]:
    """Result files in a folder and below; the CSV beside a JSON of the same name says the same less fully."""
    for path in sorted(each for each in folder.rglob("*") if each.suffix in SUFFIXES and each.is_file()):
        if path.suffix == ".csv" and path.with_suffix(".json").exists():
            continue
        try:
            document = read_document(path)
        except calc.SpecError as error:
            result.skipped.append(str(error))
            continue
        if importer_of(document) is not None:
            yield document


def _add(document: Document, context: Context, result: Imported, names: Counter) -> None:
    if is_table(document):
        result.rows += csv.DictReader(io.StringIO(document.text))
        return
    for run in _runs(document):
        stem = document.path.stem
        names[stem] += 1
        if run.unusable:
            result.skipped.append(f"{document.path}: run {names[stem]} left out: {run.unusable}")
            continue
        result.rows += rows_of(run, context, f"{stem}-{names[stem]}")


def _runs(document: Document) -> list[Measured]:
    importer = importer_of(document)
    try:
        return importer.runs(document)
    except (AttributeError, KeyError, TypeError) as error:
        raise calc.SpecError(
            f"{document.path}: is not laid out as results of {importer.NAME} ({error!r})"
        ) from None


def is_table(document: Document) -> bool:
    """Return whether a file holds rows of the schema already."""
    first_line = next(csv.reader([document.text.partition("\n")[0]]), [])
    return set(COLUMNS) <= set(first_line)
