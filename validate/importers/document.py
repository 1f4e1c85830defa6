"""A result file as importers see it: its text, and the JSON objects in it."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import calc

#: files that a folder is searched for
SUFFIXES = (".json", ".jsonl", ".csv", ".txt", ".log")


@dataclass(frozen=True)
class Document:
    """One result file. ``records`` are its JSON objects, none where it holds other text."""

    path: Path
    text: str
    records: tuple[dict, ...] = ()

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.name


def read_document(path: Path) -> Document:
    """Return a file with its JSON objects: one, one a line, or several in a row.

    Raises
    ------
    SpecError
        If the file cannot be read, or its JSON is not whole.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise calc.SpecError(f"{path}: cannot be read ({error.strerror})") from None
    if path.suffix not in (".json", ".jsonl") and not text.lstrip().startswith("{"):
        return Document(path, text)
    try:
        return Document(path, text, tuple(json_objects(text)))
    except (ValueError, RecursionError) as error:
        raise calc.SpecError(f"{path}: is not whole JSON ({error}); was it cut off?") from None


def json_objects(text: str) -> Iterator[dict]:
    """Yield the JSON objects of a text that holds one, a list of them, or several in a row.

    Examples
    --------
    >>> list(json_objects('{"a": 1}\\n{"a": 2}')), list(json_objects('[{"a": 1}]'))
    ([{'a': 1}, {'a': 2}], [{'a': 1}])
    """
    decoder, position = json.JSONDecoder(), 0
    while text[position:].strip():
        position += len(text[position:]) - len(text[position:].lstrip())
        value, position = decoder.raw_decode(text, position)
        yield from (
            each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)
        )


def at(record: object, path: str) -> object:
    """Return what lies at a path of names with dots, None where one of them is missing.

    Examples
    --------
    >>> at({"a": {"b": 1}}, "a.b"), at({"a": None}, "a.b")
    (1, None)
    """
    for name in path.split("."):
        record = record.get(name) if isinstance(record, Mapping) else None
    return record


def first(record: object, *paths: str) -> object:
    """Return what lies at the first of several paths that leads anywhere."""
    return next((value for path in paths if (value := at(record, path)) not in (None, "")), None)


def anywhere(record: object, name: str) -> object:
    """Return the value of a name at any depth, the outermost one first; None without any.

    Examples
    --------
    >>> anywhere({"a": {"n": 1}, "b": {"c": {"n": 2}}}, "n")
    1
    """
    layer = [record]
    while layer:
        for each in layer:
            if isinstance(each, Mapping) and each.get(name) not in (None, ""):
                return each[name]
        layer = [value for each in layer if isinstance(each, Mapping) for value in each.values()]
    return None


def number(value: object) -> float | None:
    """Return a number, also one printed as text, None for what is not one or not finite.

    Examples
    --------
    >>> number("1,203.5"), number(None), number("inf"), number(True)
    (1203.5, None, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        found = float(str(value).replace(",", ""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def positive(value: object, scale: float = 1.0) -> float | None:
    """Return a number above 0 times ``scale``, None otherwise: tools print 0 for what they did not measure.

    Examples
    --------
    >>> positive(250, 1e-3), positive(0.0)
    (0.25, None)
    """
    found = number(value)
    return found * scale if found and found > 0 else None


def needed(document: Document, record: object, *paths: str) -> float:
    """Return a number above 0 that a result file must hold.

    Raises
    ------
    SpecError
        If it is missing.
    """
    value = positive(first(record, *paths))
    if value is None:
        raise calc.SpecError(f"{document.path}: no {paths[0]!r} above 0 in it; was the run cut off?")
    return value
