"""``python -m sglang.bench_serving``: one JSON object a line, as bench_serving.py writes them.

Newer versions add ``server_info``: the server's arguments and version.
"""

from collections.abc import Mapping

from validate.importers.document import Document, at, needed, positive
from validate.importers.load import Load
from validate.importers.measured import Measured
from validate.importers.vllm_bench import figures_of, latency_s, load_of

NAME = "sglang-bench"
#: start of the tool's backend -> engine
ENGINES = {"sglang": "sglang", "vllm": "vllm", "trt": "tensorrt-llm"}


def recognises(document: Document) -> bool:
    """Return whether a file holds results of this tool."""
    fields = {"backend", "dataset_name", "request_throughput", "total_output_tokens_retokenized"}
    return bool(document.records) and all(fields <= record.keys() for record in document.records)


def runs(document: Document) -> list[Measured]:
    """Return the runs of a file."""
    return [_run(document, record) for record in document.records]


def _run(document: Document, record: Mapping) -> Measured:
    reason = _unusable(record)
    if reason:
        return Measured(NAME, document.name, unusable=reason)
    completed = needed(document, record, "completed")
    output_tokens = needed(document, record, "total_output_tokens") / completed
    figures, notes = figures_of(record)
    return Measured(
        group=NAME,
        source=document.name,
        prompt_tokens=needed(document, record, "total_input_tokens") / completed,
        output_tokens=output_tokens,
        load=_load(record, latency_s(record, figures, output_tokens)),
        figures={**figures, "output_tokens_per_s": needed(document, record, "output_throughput")},
        said=_said(record),
        notes=(*notes, *_lengths(record)),
    )


def _unusable(record: Mapping) -> str:
    if (positive(record.get("accept_length")) or 1.0) > 1.0:
        return "speculative decoding was on, which the schema cannot say"
    if at(record, "server_info.decode"):
        return "prefill and decode ran on separate servers, which the schema cannot say"
    if record.get("request_rate") == "trace" and not record.get("max_concurrency"):
        return "requests were sent as in a trace, at no one rate"
    return ""


def _load(record: Mapping, latency: float | None) -> Load:
    load = load_of(record, latency)
    return Load(load.limit, load.requests_per_s, positive(record.get("concurrency")), load.requests)


def _lengths(record: Mapping) -> tuple[str, ...]:
    """Note on lengths that vary: the random data set draws from ``random_range_ratio`` times to once."""
    if not str(record["dataset_name"]).startswith("random"):
        return (f"data set {record['dataset_name']}: lengths are means",)
    ratio = record.get("random_range_ratio")
    return () if ratio == 1 else (f"lengths vary (random_range_ratio {ratio}): means",)


def _said(record: Mapping) -> dict[str, object]:
    backend = str(record["backend"])
    engine = next((ENGINES[word] for word in ENGINES if backend.startswith(word)), None)
    info = record.get("server_info") or {}
    said = {
        "engine": "sglang" if info else None,
        "client": engine,
        "engine_version": info.get("version"),
        "model": info.get("model_path"),
        "weights": info.get("quantization"),
        "kv": info.get("kv_cache_dtype"),
        "pp": info.get("pp_size"),
        "ep": info.get("ep_size"),
        "dp": info.get("dp_size"),
        "ranks" if info.get("enable_dp_attention") else "tp": info.get("tp_size"),
    }
    return {name: value for name, value in said.items() if value}
