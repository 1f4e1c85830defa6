"""``trtllm-bench throughput | latency``: ``--report_json FILE``, or the table it prints.

The report says model, version, device and ranks, but not whether ``--concurrency`` was given: the
number in flight is the average, and where that is half of all requests or more they were sent at once.
"""

import re
from collections.abc import Mapping

from validate.importers.document import Document, at, first, needed, positive
from validate.importers.load import Load
from validate.importers.measured import Measured

NAME = "trtllm-bench"
#: line of the printed table -> place in the report
_LINES = {
    "Model": "engine.model",
    "TensorRT[ -]LLM Version": "engine.version",
    "KV Cache Dtype": "engine.kv_cache_dtype",
    "Quantization": "engine.quantization",
    "TP Size": "world_info.tp_size",
    "PP Size": "world_info.pp_size",
    "EP Size": "world_info.ep_size",
    "Number of requests": "request_info.num_requests",
    "Number of concurrent requests": "request_info.avg_num_concurrent_requests",
    r"Average Input Length \(tokens\)": "request_info.avg_input_length",
    r"Average Output Length \(tokens\)": "request_info.avg_output_length",
    r"Total Output Throughput \(tokens/sec\)": "performance.system_output_throughput_tok_s",
    r"Average time-to-first-token \[TTFT\] \(ms\)": "streaming_metrics.avg_ttft_ms",
    r"Average time-per-output-token \[TPOT\] \(ms\)": "streaming_metrics.avg_tpot_ms",
}
_OVERVIEW = "= PERFORMANCE OVERVIEW"
_DEVICE = re.compile(r"^= MACHINE DETAILS *\n=+\n(.+?), memory", re.MULTILINE)
_TABLE = re.compile(r"^=+\n= (?:ENGINE DETAILS|PYTORCH BACKEND)", re.MULTILINE)


def recognises(document: Document) -> bool:
    """Return whether a file holds results of this tool."""
    if document.records:
        parts = {"engine", "world_info", "request_info", "performance"}
        return all(parts <= record.keys() for record in document.records)
    return _OVERVIEW in document.text


def runs(document: Document) -> list[Measured]:
    """Return the runs of a file."""
    reports = document.records or [_report(text) for text in _tables(document.text)]
    return [_run(document, report) for report in reports]


def _tables(text: str) -> list[str]:
    """Printed tables of a log, one a run."""
    starts = [match.start() for match in _TABLE.finditer(text)] or [0]
    parts = [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [part for part in parts if _OVERVIEW in part]


def _report(text: str) -> dict:
    """Return a printed table in the layout of the JSON report.

    Examples
    --------
    >>> _report("TP Size:    4\\nEP Size:    None")
    {'world_info': {'tp_size': '4'}}
    """
    report: dict[str, dict] = {}
    found = [(path, re.search(rf"^{line}:\s*(\S+)", text, re.MULTILINE)) for line, path in _LINES.items()]
    for path, match in [*found, ("machine.name", _DEVICE.search(text))]:
        if match and match[1] != "None":
            part, name = path.split(".")
            report.setdefault(part, {})[name] = match[1]
    if "= DECODING STATISTICS" in text:
        report["decoding_stats"] = {"mode": "printed"}
    return report


def _run(document: Document, report: Mapping) -> Measured:
    if report.get("decoding_stats"):
        return Measured(
            NAME, document.name, unusable="speculative decoding was on, which the schema cannot say"
        )
    figures = {
        "ttft_s": positive(at(report, "streaming_metrics.avg_ttft_ms"), 1e-3),
        "tpot_s": positive(at(report, "streaming_metrics.avg_tpot_ms"), 1e-3),
        "output_tokens_per_s": needed(document, report, "performance.system_output_throughput_tok_s"),
    }
    return Measured(
        group=NAME,
        source=document.name,
        prompt_tokens=needed(document, report, "request_info.avg_input_length"),
        output_tokens=needed(document, report, "request_info.avg_output_length"),
        load=_load(report),
        figures=figures,
        said=_said(report),
        notes=("ttft, tpot: mean",) if figures["tpot_s"] else ("ttft, tpot: not measured (no --streaming)",),
    )


def _load(report: Mapping) -> Load:
    """Load: requests sent at once finish evenly over the run, so half of them or more are in flight."""
    requests = positive(at(report, "request_info.num_requests"))
    mean = positive(at(report, "request_info.avg_num_concurrent_requests"))
    at_once = bool(requests and mean and requests > 1 and mean > requests / 2)
    return Load(None, float("inf") if at_once else None, mean, requests)


def _said(report: Mapping) -> dict[str, object]:
    said = {
        "engine": "tensorrt-llm",
        "engine_version": at(report, "engine.version"),
        "model": first(report, "engine.model", "engine.model_path"),
        "device": at(report, "machine.name"),
        "weights": at(report, "engine.quantization"),
        "kv": at(report, "engine.kv_cache_dtype"),
        "ranks": at(report, "world_info.tp_size"),
        "pp": at(report, "world_info.pp_size"),
        "ep": at(report, "world_info.ep_size"),
    }
    return {name: value for name, value in said.items() if value and str(value) != "None"}
