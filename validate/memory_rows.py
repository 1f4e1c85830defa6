"""Start-up logs collected as a table: one row a start, blank where the log did not say."""

import re
from collections.abc import Mapping, Sequence

import calc
from validate.names import GIB
from validate.scenario import METRICS, Logged, Setup, predicted, scenario_of
from validate.scores import Score

#: columns of logged figures: a table with one of them and a model is one of start-up logs
FIGURES = ("model_loading_gib", "kv_cache_gib", "kv_cache_tokens", "max_concurrency")


def number(row: Mapping[str, str], column: str) -> float | None:
    """Return a column's number, None where it is blank, absent or not a number.

    Examples
    --------
    >>> number({"tp": "2", "pp": ""}, "tp"), number({"tp": "2", "pp": ""}, "pp")
    (2.0, None)
    """
    try:
        return float(str(row.get(column) or "").replace(",", "").strip("~x "))
    except ValueError:
        return None


def _whole(row: Mapping[str, str], column: str) -> int | None:
    value = number(row, column)
    return None if value is None else int(value)


def _bytes(row: Mapping[str, str], column: str) -> float | None:
    value = number(row, column)
    return None if value is None else value * GIB


def _text(row: Mapping[str, str], column: str) -> str:
    return str(row.get(column) or "").strip()


def engine_of(row: Mapping[str, str]) -> str:
    """Return the engine of a row: its own column, else what version and address say, else vLLM.

    Examples
    --------
    >>> engine_of({"version": "sglang 0.5.9"}), engine_of({"version": "0.19.0"})
    ('sglang', 'vllm')
    """
    if _text(row, "engine"):
        return _text(row, "engine").lower()
    said = " ".join(_text(row, column) for column in ("version", "url")).lower()
    return "sglang" if "sglang" in said or "sgl-project" in said else "vllm"


def version_of(text: str) -> str | None:
    """Return the number in a version such as ``v0.8.5.post1`` or ``~0.10``.

    Examples
    --------
    >>> version_of("vLLM v0.8.5.post1"), version_of("nightly")
    ('0.8.5', None)
    """
    found = re.search(r"\d+\.\d+(?:\.\d+)?", text)
    return found[0] if found else None


def setup_of(row: Mapping[str, str]) -> Setup:
    """Return how the engine of a row was started."""
    total, requested = number(row, "gpu_total_gib"), number(row, "requested_gib")
    share = number(row, "gpu_memory_utilization")
    if share is None and total and requested:
        share = requested / total
    return Setup(
        engine=engine_of(row),
        version=version_of(_text(row, "version")),
        model=_text(row, "model"),
        device=_text(row, "gpu"),
        device_bytes=_bytes(row, "gpu_total_gib"),
        tp=_whole(row, "tp") or 1,
        pp=_whole(row, "pp") or 1,
        dp=_whole(row, "dp") or 1,
        ep=_whole(row, "ep") or 1,
        dtype=_text(row, "dtype"),
        quantization=_text(row, "quantization"),
        weights=_text(row, "weight_dtype") or None,
        kv_cache_dtype=_text(row, "kv_cache_dtype"),
        request_tokens=_whole(row, "max_model_len"),
        memory_utilization=share,
        block_tokens=_whole(row, "block_size"),
        max_sequences=_whole(row, "max_num_seqs"),
        max_batched_tokens=_whole(row, "max_num_batched_tokens"),
    )


def logged_of(row: Mapping[str, str]) -> Logged:
    """Return what a row says was logged."""
    return Logged(
        weights_bytes=_bytes(row, "model_loading_gib"),
        cache_pool_bytes=_bytes(row, "kv_cache_gib"),
        cache_tokens=number(row, "kv_cache_tokens"),
        max_concurrency=number(row, "max_concurrency"),
        activation_bytes=_bytes(row, "activation_gib"),
        other_bytes=_bytes(row, "non_torch_gib"),
        graph_bytes=_bytes(row, "cuda_graph_gib"),
        block_count=number(row, "num_blocks"),
    )


def scores_of(rows: Sequence[Mapping[str, str]]) -> list[Score]:
    """Return the scores of all logged figures of a table."""
    return [
        score
        for index, row in enumerate(rows)
        for score in scores_of_start(index, _id(row), setup_of(row), logged_of(row))
    ]


def scores_of_start(index: int, name: str, setup: Setup, logged: Logged) -> list[Score]:
    """Return the scores of one start; unanswered with a reason where the scenario is not known."""
    wanted = [metric for metric in METRICS if logged.measured(metric) is not None]
    try:
        values, reason = predicted(scenario_of(setup), logged), None
    except calc.SpecError as error:
        values, reason = {}, " ".join(str(error).split())
    return [
        Score(
            row=index,
            id=name,
            group=setup.engine,
            metric=metric,
            measured=logged.measured(metric),
            predicted=values.get(metric),
            reason=reason,
        )
        for metric in wanted
    ]


def _id(row: Mapping[str, str]) -> str:
    if _text(row, "id"):
        return _text(row, "id")
    devices = (_whole(row, "tp") or 1) * (_whole(row, "pp") or 1)
    parts = (
        _text(row, "model"),
        f"{devices} x {_text(row, 'gpu') or 'unnamed device'}",
        _text(row, "version"),
    )
    return ", ".join(part for part in parts if part)
