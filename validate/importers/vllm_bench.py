"""``vllm bench serve --save-result`` (also ``benchmark_serving.py``): one JSON object a run.

``--append-result`` puts several into one file. Fields as written by vllm/benchmarks/serve.py. What
``--metadata device=h100-sxm tp=4 engine=vllm`` adds is read under the names of the import's options.
"""

from collections.abc import Mapping

from validate.importers.document import Document, first, needed, number, positive
from validate.importers.load import Load, mean_in_flight
from validate.importers.measured import SAID, Measured

NAME = "vllm-bench"
#: the tool's backend -> engine; "openai" may be any
ENGINES = {"vllm": "vllm", "sglang": "sglang", "tensorrt-llm": "tensorrt-llm"}


def recognises(document: Document) -> bool:
    """Return whether a file holds results of this tool."""
    fields = {"model_id", "request_throughput", "total_input_tokens", "num_prompts"}
    return bool(document.records) and all(fields <= record.keys() for record in document.records)


def runs(document: Document) -> list[Measured]:
    """Return the runs of a file."""
    return [_run(document, record) for record in document.records]


def _run(document: Document, record: Mapping) -> Measured:
    reason = _unusable(record)
    if reason:
        return Measured(NAME, document.name, unusable=reason)
    completed = needed(document, record, "completed")
    prompt_tokens = needed(document, record, "total_input_tokens") / completed
    output_tokens = needed(document, record, "total_output_tokens") / completed
    figures, notes = figures_of(record)
    return Measured(
        group=NAME,
        source=document.name,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load=load_of(record, latency_s(record, figures, output_tokens)),
        figures={**figures, "output_tokens_per_s": needed(document, record, "output_throughput")},
        said=_said(record),
        notes=(*notes, *failures(record.get("num_prompts"), completed)),
    )


def _unusable(record: Mapping) -> str:
    if "total_output_tokens" not in record:
        return "no tokens were generated (a run of embeddings or scores)"
    if positive(record.get("spec_decode_num_drafts")):
        return "speculative decoding was on, which the schema cannot say"
    if record.get("ramp_up_strategy") and not record.get("max_concurrency"):
        return "the request rate changed during the run"
    return ""


def _said(record: Mapping) -> dict[str, object]:
    added = {name: record[name] for name in SAID if record.get(name)}
    engine = ENGINES.get(str(record.get("backend") or record.get("endpoint_type")))
    said = {"model": record["model_id"], "client": engine, "tp": record.get("tensor_parallel_size")}
    return {**{name: value for name, value in said.items() if value}, **added}


def figures_of(record: Mapping) -> tuple[dict[str, float | None], list[str]]:
    """Return TTFT and TPOT in s, the mean over requests or else the median, and which it is."""
    figures, notes = {}, []
    for metric in ("ttft", "tpot"):
        mean, median = (positive(record.get(f"{kind}_{metric}_ms"), 1e-3) for kind in ("mean", "median"))
        figures[f"{metric}_s"] = mean or median
        notes.append(
            f"{metric}: {'mean' if mean else 'median'}" if mean or median else f"{metric}: not measured"
        )
    return figures, notes


def latency_s(record: Mapping, figures: Mapping, output_tokens: float) -> float | None:
    """Return the mean latency of a request: as measured, or TTFT and the other tokens. [s]"""
    measured = positive(first(record, "mean_e2el_ms", "mean_e2e_latency_ms"), 1e-3)
    if measured or not figures["ttft_s"]:
        return measured
    return figures["ttft_s"] + (figures["tpot_s"] or 0.0) * (output_tokens - 1)


def load_of(record: Mapping, latency: float | None) -> Load:
    """Return the load of a run from the fields that this tool and SGLang's have in common."""
    rate = record.get("request_rate")
    is_infinite = rate is None or str(rate).lower() in ("inf", "infinity")
    return Load(
        limit=positive(record.get("max_concurrency")),
        requests_per_s=float("inf") if is_infinite else number(rate),
        mean_in_flight=mean_in_flight(positive(record.get("request_throughput")), latency),
        requests=positive(record.get("num_prompts")) or positive(record.get("completed")),
    )


def failures(sent: object, completed: float) -> tuple[str, ...]:
    """Return a note on requests that did not complete."""
    missing = (number(sent) or completed) - completed
    return (f"{missing:g} of {number(sent):g} requests failed",) if missing > 0 else ()
