"""genai-perf and aiperf: profile_export_genai_perf.json, profile_export_aiperf.json, or the CSV beside.

Both name the same metrics, each with its unit and ``avg``. The CSV says neither model nor load.
"""

import csv
import io
import re
from collections.abc import Mapping

from validate.importers.document import Document, anywhere, first, needed, number, positive
from validate.importers.load import Load, mean_in_flight
from validate.importers.measured import Measured

NAME = "genai-perf"
_METRICS = {"request_latency", "request_throughput", "output_token_throughput", "input_sequence_length"}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
#: backend of Triton -> engine
ENGINES = {"tensorrtllm": "tensorrt-llm", "vllm": "vllm"}


def recognises(document: Document) -> bool:
    """Return whether a file holds results of these tools."""
    return _metrics(document).keys() >= _METRICS


def runs(document: Document) -> list[Measured]:
    """Return the run of a file."""
    metrics = _metrics(document)
    config = metrics.get("input_config") or {}
    if metrics.get("was_cancelled"):
        return [Measured(NAME, document.name, unusable="the run was cancelled")]
    latency, requests_per_s = (
        _seconds(metrics, "request_latency"),
        positive(_average(metrics, "request_throughput")),
    )
    figures = {
        "ttft_s": _seconds(metrics, "time_to_first_token"),
        "tpot_s": _seconds(metrics, "inter_token_latency"),
        "output_tokens_per_s": needed(document, metrics, "output_token_throughput.avg"),
    }
    missing = [
        f"{name[:-2]}: not measured (no --streaming)" for name in ("ttft_s", "tpot_s") if not figures[name]
    ]
    phase = _profiling_phase(config)
    load = Load(
        limit=positive(phase.get("concurrency") or anywhere(config, "concurrency")),
        requests_per_s=number(phase.get("rate") or anywhere(config, "request_rate")),
        mean_in_flight=mean_in_flight(requests_per_s, latency),
        requests=positive(_average(metrics, "request_count")),
    )
    return [
        Measured(
            group=NAME,
            source=document.name,
            prompt_tokens=needed(document, metrics, "input_sequence_length.avg"),
            output_tokens=needed(document, metrics, "output_sequence_length.avg"),
            load=load,
            figures=figures,
            said=_said(config),
            notes=("ttft, tpot: mean", *missing),
        )
    ]


def _metrics(document: Document) -> Mapping:
    """Metrics by name with ``unit`` and ``avg``, from JSON or CSV."""
    if document.records:
        return document.records[0] if len(document.records) == 1 else {}
    return _table(document.text) if document.text.lstrip().startswith("Metric,") else {}


def _table(text: str) -> dict[str, dict]:
    """Metrics of the CSV: rows of ``Metric (unit), avg, ...``, then rows of ``Metric (unit), Value``.

    Examples
    --------
    >>> _table("Metric,avg,min\\nTime To First Token (ms),12.5,9\\n\\nMetric,Value\\nRequest Count,10")
    {'time_to_first_token': {'unit': 'ms', 'avg': 12.5}, 'request_count': {'unit': '', 'avg': 10.0}}
    """
    rows = [row for row in csv.reader(io.StringIO(text)) if len(row) > 1 and row[0] != "Metric"]
    found = {}
    for name, value, *_ in rows:
        words = re.fullmatch(r"([^(]*?)\s*(?:\((.*)\))?", name.strip())
        if words and number(value) is not None:
            key = words[1].lower().replace(" ", "_")
            found[key] = {"unit": words[2] or "", "avg": number(value)}
    return found


def _average(metrics: Mapping, name: str) -> float | None:
    return number(first(metrics, f"{name}.avg"))


def _seconds(metrics: Mapping, name: str) -> float | None:
    unit = str(first(metrics, f"{name}.unit") or "ms").lower()
    return positive(_average(metrics, name), _SECONDS.get(unit, 1e-3))


def _profiling_phase(config: Mapping) -> Mapping:
    """The measured one of the phases that newer versions of aiperf list."""
    phases = config.get("phases")
    listed = [each for each in phases if isinstance(each, Mapping)] if isinstance(phases, list) else []
    return next((each for each in listed if "profiling" in (each.get("name"), each.get("kind"))), {})


def _model(config: Mapping) -> object:
    """Name of the (first) model: ``model_names``, older ``model``, newer ``models`` or its ``items``."""
    names = (
        anywhere(config, "model_names")
        or anywhere(config, "model")
        or first(config, "models.items", "models")
    )
    found = names[0] if isinstance(names, list) and names else names
    return found.get("name") if isinstance(found, Mapping) else found


def _said(config: Mapping) -> dict[str, object]:
    model, engine = _model(config), None
    if str(anywhere(config, "service_kind")).startswith(("triton", "tensorrtllm")):
        engine = ENGINES.get(str(anywhere(config, "backend")).lower())
    said = {"model": model if isinstance(model, str) else None, "engine": engine}
    return {name: value for name, value in said.items() if value}
