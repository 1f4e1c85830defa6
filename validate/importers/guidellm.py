"""GuideLLM's benchmarks.json: a list of benchmarks, one per rate or number of streams.

Read are the layouts of 0.1 to 0.3 (``args.strategy``, ``worker``) and from 0.4 on
(``config.strategy``, ``config.backend``); the distributions under ``metrics`` are the same.
"""

from collections.abc import Mapping

from validate.importers.document import Document, first, needed, number, positive
from validate.importers.load import Load
from validate.importers.measured import Measured

NAME = "guidellm"
_STRATEGY = ("config.strategy", "scheduler.strategy", "args.strategy")
_MODEL = ("config.backend.model", "benchmarker.backend.model", "worker.backend_model")
_MODEL_OF_ALL = ("config.spec.backend.model", "args.model")


def recognises(document: Document) -> bool:
    """Return whether a file holds results of this tool."""
    return len(document.records) == 1 and all(
        isinstance(each, Mapping) and {"metrics"} <= each.keys() and first(each, *_STRATEGY) is not None
        for each in _benchmarks(document) or [None]
    )


def runs(document: Document) -> list[Measured]:
    """Return the runs of a file."""
    return [_run(document, each) for each in _benchmarks(document)]


def _benchmarks(document: Document) -> list:
    found = document.records[0].get("benchmarks")
    return found if isinstance(found, list) else []


def _run(document: Document, benchmark: Mapping) -> Measured:
    metrics = benchmark["metrics"]

    def mean(name: str, scale: float = 1.0, status: str = "successful") -> float | None:
        return positive(first(metrics, f"{name}.{status}.mean"), scale)

    if mean("request_latency") is None:
        return Measured(NAME, document.name, unusable="no request completed")
    figures = {
        "ttft_s": mean("time_to_first_token_ms", 1e-3),
        "tpot_s": mean("inter_token_latency_ms", 1e-3),  # theirs called "per output token" counts the first
        "output_tokens_per_s": mean("output_tokens_per_second", status="total")
        or mean("output_tokens_per_second"),
    }
    missing = [f"{name[:-2]}: not measured" for name in ("ttft_s", "tpot_s") if not figures[name]]
    return Measured(
        group=NAME,
        source=document.name,
        prompt_tokens=needed(document, metrics, "prompt_token_count.successful.mean"),
        output_tokens=needed(document, metrics, "output_token_count.successful.mean"),
        load=_load(first(benchmark, *_STRATEGY), mean("request_concurrency")),
        figures=figures,
        said=_said(document, benchmark),
        notes=("ttft, tpot: mean", *missing),
    )


def _load(strategy: object, mean_in_flight: float | None) -> Load:
    """Load of a strategy: streams kept in flight, requests at a rate, or as many as go."""
    kind = first(strategy, "type_")
    if kind == "synchronous":
        return Load(limit=1)
    if kind == "concurrent":
        return Load(limit=positive(first(strategy, "streams")))
    rate = number(first(strategy, "rate")) if kind in ("constant", "poisson") else 0.0
    return Load(positive(first(strategy, "max_concurrency")), rate, mean_in_flight)


def _said(document: Document, benchmark: Mapping) -> dict[str, object]:
    model = first(benchmark, *_MODEL) or first(document.records[0], *_MODEL_OF_ALL)
    return {"model": model} if isinstance(model, str) else {}
