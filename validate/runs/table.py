"""Rows of measured end-to-end runs in one schema, read from CSV and checked."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import calc

#: columns that every table has
COLUMNS = (
    "id", "group", "engine", "engine_version", "mode", "device", "n_devices", "tp", "pp", "ep", "dp",
    "model", "weight_dtype", "kv_dtype", "concurrency", "prompt_tokens", "output_tokens", "metric", "value",
)  # fmt: skip
METRICS = (
    "e2e_latency_s", "output_tokens_per_s", "ttft_s", "tpot_s", "decode_tokens_per_s", "prefill_tokens_per_s",
)  # fmt: skip
MODES = ("static", "closed_loop", "max_load")
_COUNTS = ("n_devices", "tp", "pp", "ep", "dp", "prompt_tokens", "output_tokens")


@dataclass(frozen=True)
class Run:
    """One measured figure of one run; ``concurrency`` is None where no limit was given."""

    row: int
    id: str
    group: str
    engine: str
    engine_version: str
    mode: str
    device: str
    n_devices: int
    tp: int
    pp: int
    ep: int
    dp: int
    model: str
    weight_dtype: str
    kv_dtype: str
    concurrency: int | None
    prompt_tokens: int
    output_tokens: int
    metric: str
    value: float
    trust: str = ""
    notes: str = ""


def read_runs(path: str) -> list[Run]:
    """Return the rows of a table.

    Raises
    ------
    SpecError
        If the file cannot be read, a column is missing or a value not allowed, with the row.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise calc.SpecError(f"{path}: {error}") from None
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise calc.SpecError(f"{path}: column {missing[0]!r} is missing; allowed are tables with {COLUMNS}")
    if not rows:
        raise calc.SpecError(f"{path}: no rows")
    return [run_of(index, row) for index, row in enumerate(rows)]


def run_of(index: int, row: dict[str, str]) -> Run:
    """Return one row as a Run."""
    text = {name: (row.get(name) or "").strip() for name in (*COLUMNS, "trust", "notes")}
    for name, allowed in (("mode", MODES), ("metric", METRICS)):
        if text[name] not in allowed:
            raise calc.SpecError(
                f"row {index}: {name}: {text[name]!r} is not allowed; allowed are {', '.join(allowed)}"
            )
    counts = {name: _count(index, name, text[name] or "1") for name in _COUNTS}
    concurrency = _count(index, "concurrency", text["concurrency"]) if text["concurrency"] else None
    if concurrency is None and text["mode"] != "max_load":
        raise calc.SpecError(
            f"row {index}: concurrency: '' is not allowed; allowed is blank for max_load only"
        )
    numbers = {**counts, "concurrency": concurrency, "value": _positive(index, text["value"])}
    return Run(**{**text, **numbers, "row": index})


def _count(index: int, name: str, text: str) -> int:
    number = _number(text)
    if number is None or number < 1 or number != int(number):
        raise calc.SpecError(
            f"row {index}: {name}: {text!r} is not allowed; allowed are whole numbers from 1"
        )
    return int(number)


def _positive(index: int, text: str) -> float:
    number = _number(text)
    if number is None or not 0 < number < 1e18:
        raise calc.SpecError(f"row {index}: value: {text!r} is not allowed; allowed are numbers above 0")
    return number


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


#: engine and part of the model's name -> last day and version of the images in InferenceX's configurations of
#: 2025 (https://github.com/SemiAnalysisAI/InferenceX), for its rows that say none
_IMAGES = (
    ("sglang", "", "2025-11-07", "0.5.3"),
    ("sglang", "", "2025-12-30", "0.5.5"),
    ("tensorrt-llm", "gpt-oss", "2025-12-31", "1.2.0"),
    ("tensorrt-llm", "", "2025-12-31", "1.1.0"),
    ("vllm", "", "2025-11-30", "0.10.2"),
    ("vllm", "", "2025-12-31", "0.11.2"),
)

#: engine -> version of a year, for rows that say no more
_OF_YEAR = {("vllm", "2024"): "0.6", ("vllm", "2025"): "0.10", ("tensorrt-llm", "2024"): "0.12"}


def measured_on(run: Run) -> str:
    """Return the day that a row's notes name; empty where they name none."""
    found = re.search(r"measured (\d{4}-\d{2}-\d{2})", run.notes)
    return found[1] if found else ""


def version_of(run: Run) -> str | None:
    """Return the engine's version as numbers, None where it is not known (the newest then).

    Examples
    --------
    >>> import dataclasses
    >>> names, sizes = "a b vllm x static d".split(), (1, 1, 1, 1, 1)
    >>> run = Run(0, *names, *sizes, "m", "bf16", "bf16", 1, 1, 1, "ttft_s", 1.0)
    >>> version_of(dataclasses.replace(run, engine_version="vLLM 0.10.0 ROCm 6.4.1"))
    '0.10.0'
    >>> version_of(dataclasses.replace(run, engine_version="2024 (paper)"))
    '0.6'
    """
    found = re.search(r"\d+(\.\d+)*", run.engine_version)
    if not found:
        return _of_image(run)
    if run.engine_version.startswith("nightly"):
        return None
    version = found[0]
    if len(version) == 4 and version.startswith("20"):
        return _OF_YEAR.get((run.engine, version))
    return version


def _of_image(run: Run) -> str | None:
    """Version of the image that InferenceX ran on the day of a row; None where it is not known."""
    day = measured_on(run)
    if run.group != "inferencex" or not day:
        return None
    of_engine = (each for each in _IMAGES if each[0] == run.engine and each[1] in run.model)
    return next((version for _, _, last, version in of_engine if day <= last), None)
