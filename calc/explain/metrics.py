"""The metrics that can be explained, and ``explain`` itself."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from calc.explain.explanation import Explanation, Part
from calc.explain.quantities import counted, shown
from calc.specs.errors import SpecError, unknown_name

if TYPE_CHECKING:
    from calc.estimate import Estimate
    from calc.explain.trace import Trace

#: metric -> (title, unit, module of calc.explain that explains it)
METRICS = {
    "memory": ("Memory needed on one device", "byte", "memory"),
    "weights_bytes": ("Weights on all devices", "byte", "weights"),
    "cache_bytes": ("KV cache reserved for the requests in flight, all devices", "byte", "reserved"),
    "cache_bytes_per_token": ("KV cache of one more token, one device", "byte", "cache"),
    "cache_tokens": ("Tokens that the cache pool holds", "tokens", "pool"),
    "max_concurrency": ("Requests of this length that the cache pool holds at once", "count", "pool"),
    "n_devices": ("Number of devices", "count", "memory"),
    "ttft_s": ("Mean time to first token (TTFT)", "s", "times"),
    "tpot_s": ("Mean time per output token after the first (TPOT)", "s", "times"),
    "e2e_latency_s": ("Mean time from request to last token", "s", "times"),
    "requests_per_s": ("Requests finished per second", "requests/s", "times"),
    "output_tokens_per_s": ("Output tokens per second of the whole deployment", "tokens/s", "times"),
    "usd_per_hour": ("Rent of the deployment per hour", "USD/h", "costs"),
    "usd_per_mtok_output": ("Cost of a million output tokens", "USD/Mtok", "costs"),
    "usd_per_mtok_input": ("Cost of a million input tokens", "USD/Mtok", "costs"),
    "usd_per_mtok": ("Cost of a million tokens, input and output together", "USD/Mtok", "costs"),
}  # fmt: skip
#: percentiles over requests, and queueing: of an open loop only
OPEN_LOOP_METRICS = {
    "queue_s": ("Mean time until the first prompt token is computed", "s"),
    **{
        f"{name}_p{share}_s": (f"{words}, {share}th percentile over requests", "s")
        for name, words in (
            ("ttft", "Time to first token (TTFT)"), ("tpot", "Time per output token after the first (TPOT)"),
            ("queue", "Time until the first prompt token is computed"),
        )
        for share in (50, 90, 99)
    },
}  # fmt: skip
_ALIASES = {"required_bytes_per_device": "memory", "fits": "memory"}
#: metrics with a trust label and a range
_TIMED = ("ttft_s", "tpot_s", "e2e_latency_s", "requests_per_s", "output_tokens_per_s")


@dataclass(frozen=True)
class Answer:
    """What a module explains.

    ``heads`` are the symbols of the formulas to show, the metric's first, ``details`` those
    shown after everything that the heads use; ``parts`` the rows, ``notes`` the limits.
    """

    heads: Sequence
    parts: Sequence[Part] = ()
    notes: Sequence[str] = ()
    details: Sequence = ()


def explain(estimate: "Estimate", metric: str) -> Explanation:
    """Return why a number of an estimate is what it is.

    Parameters
    ----------
    estimate : Estimate
        One scenario; fields that are arrays are refused.
    metric : str
        One of ``METRICS``, also written as on the estimate: ``cost.usd_per_hour``,
        ``memory.weights_bytes``.

    Returns
    -------
    Explanation
        Formula, formula with numbers, inputs with sources, rows that sum to the value.

    Raises
    ------
    SpecError
        If the metric is not known, has no value or has many.

    Examples
    --------
    >>> import calc
    >>> e = calc.estimate("llama-3.1-8b", "h100-sxm")
    >>> why = explain(e, "memory.cache_bytes")
    >>> print(why.formula)
    C = n * N * C_request
    >>> [equation.symbol for equation in why.equations]
    ['C', 'C_request', 'k_request', 'M_page', 'T', 'c']
    """
    name = metric_name(metric)
    trace, answer = traced(estimate, name)
    title, unit, *_ = METRICS.get(name) or OPEN_LOOP_METRICS[name]
    symbols = trace.reached(answer.heads, answer.details)
    value = float(trace.values[answer.heads[0]])
    return Explanation(
        metric=name,
        title=title,
        value=value,
        unit=unit,
        shown=shown(value, unit),
        equations=tuple(trace.equation(symbol) for symbol in symbols if symbol in trace.definitions),
        terms=tuple(trace.term(symbol) for symbol in symbols),
        parts=tuple(answer.parts),
        notes=(*_trust(estimate, name), *answer.notes),
    )


def traced(e: "Estimate", metric: str) -> tuple["Trace", Answer]:
    """Return the trace of a metric, named as in ``METRICS`` or ``OPEN_LOOP_METRICS``, and what to show."""
    from calc.explain.trace import Trace

    _require_one_scenario(e, metric)
    is_open = e.workload.mode == "open_loop"
    if metric in OPEN_LOOP_METRICS and not is_open:
        raise SpecError(f"explain: {metric} is of open loops; allowed is a scenario with requests_per_s")
    module = METRICS[metric][2] if metric in METRICS else "open_loop"
    module = "open_loop" if is_open and module == "times" else module
    if module == "costs" and e.cost is None:
        raise SpecError(
            f"{metric}: no price of {e.device.id} is known; allowed is your own usd_per_device_hour"
        )
    trace, answers = Trace(), import_module(f"calc.explain.{module}")
    if metric in OPEN_LOOP_METRICS and "_p" in metric:
        return trace, answers.percentile(trace, e, metric)
    return trace, getattr(answers, metric)(trace, e)


def metric_name(metric: str) -> str:
    """Return the metric that a name means.

    Examples
    --------
    >>> metric_name("cost.usd_per_hour"), metric_name("ttft_s")
    ('usd_per_hour', 'ttft_s')
    """
    bare = str(metric).removeprefix("cost.").removeprefix("memory.")
    bare = _ALIASES.get(bare, bare)
    known = {**METRICS, **OPEN_LOOP_METRICS}
    if bare not in known:
        raise unknown_name("metric", str(metric), known)
    return bare


def _require_one_scenario(e: "Estimate", metric: str) -> None:
    for spec in (e.workload, e.deployment, e.memory, e.service, e.cost):
        for field in fields(spec) if spec is not None else ():
            value = getattr(spec, field.name)
            if isinstance(value, np.ndarray) and value.ndim:
                raise SpecError(
                    f"{metric}: {field.name} is an array of {value.size}; explain takes one scenario"
                )


def _interval(e: "Estimate", metric: str) -> str:
    """Where an interval comes from: measured runs of the engine, or the spread of kernels."""
    error, label = e.run_error(metric), e.trust(metric)
    if error is None:
        return "from the spread of kernels and an assumed one of host time: no measured run to go by"
    runs = f"from {counted(error.n, 'measured figure')} of {e.engine.name} {e.overheads.versions}"
    left = f"{runs} on devices or models left out of the fit (median error {error.median_pct:.3g} %)"
    return f"{left}, wider for kernels of trust {label}" if e.widening(metric) > 1 else left


def _trust(e: "Estimate", metric: str) -> list[str]:
    """Sentences on range and trust, for what depends on the calibration."""
    if metric in _TIMED:
        (low, high), unit = e.range(metric), METRICS[metric][1]
    elif metric.startswith("usd_per_mtok"):
        value, (slow, fast) = getattr(e.cost, metric), e.range("output_tokens_per_s")
        rate, unit = e.output_tokens_per_s, METRICS[metric][1]
        low, high = value * rate / fast, value * rate / slow
    else:
        return []
    source = metric if metric in _TIMED else "output_tokens_per_s"
    sentences = [
        f"80 % range: {shown(float(low), unit)} to {shown(float(high), unit)}; {_interval(e, source)}.",
        f"Trust: {e.trust(source)} ({e.calibration.name}). {e.calibration.note}".strip(),
    ]
    if not e.fits:
        sentences.append(f"It {e.fit_sentence()}; this is the figure of devices that had the memory.")
    return sentences
