"""Explanations of times and rates: the formula of serving, then the rows of its steps."""

from importlib import import_module
from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import batches, drafting, scenario
from calc.explain.batches import output_tokens, seconds_of
from calc.explain.explanation import Part
from calc.explain.metrics import Answer
from calc.explain.operation import largest_operation
from calc.explain.quantities import counted, shown
from calc.explain.trace import Trace
from calc.serving import batching
from calc.serving.speculation import is_draft, with_drafts
from calc.serving.waits import queue_wait_s
from calc.timing.overheads import host_time_s
from calc.timing.step_time import Duration, TimedOp, longest, n_exchanges

_STEP_LIMITS = (
    "Operations run one after the other; how arithmetic and traffic overlap inside one is its form's matter.",
    "Means over requests: jitter, preemption and the spread of lengths are ignored.",
)
_SIDE_BY_SIDE = "Batches side by side are equal and take their prompt chunks in the same steps."


def ttft_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time to first token."""
    mix, ttft = e.service.mix, e.service.ttft
    if mix is None:
        return _static_ttft(t, e)
    words = "step with one prompt chunk of the request and the others' decodes"
    own = step_symbol(t, "t_own", "own", words, mix.own)
    mixed, decode = (
        t.derived(f"t_{name}", words, step.seconds, "s", "explained as tpot_s")
        for name, words, step in (
            ("mixed", "step with prompt chunks and decodes", mix.mixed),
            ("decode", "step with decodes only", mix.decode),
        )
    )
    queue, tpot = _queue_wait(t, e), _tpot(t, e)
    waits = batches.waits(t, e, own, mixed, decode, tpot)
    chunks = batches.chunks(t, e)
    total = t.define("TTFT", "time to first token", "s", _first_token, own, chunks, *waits, queue)
    notes = ["Prompt chunks share steps with the decodes of the other requests.", *_limits(e)]
    return Answer(
        [total], time_parts(ttft, [(mix.chunks, mix.own)]), notes, [largest_operation(t, e, mix.own)]
    )


def _static_ttft(t: Trace, e: Estimate) -> Answer:
    """The prefill of a static batch: its passes through the pipeline, and the handling of a request."""
    ttft = e.service.ttft
    one_pass = prefill_pass(e)
    symbol = step_symbol(t, "t_pass", "prefill", "one pass of prefill through all stages", one_pass)
    total = t.define(
        "TTFT", "time to first token", "s",
        lambda each, stages, request: batching.filled_pipeline(seconds_of(each), stages, request).seconds,
        symbol, batches.stages(t, e), batches.request_handling(t, e),
    )  # fmt: skip
    notes = ["The whole batch is prefilled in one step, one micro-batch for each stage.", *_limits(e)]
    rows = time_parts(ttft, [(batching.pipeline_fill(e.deployment.pp), one_pass)])
    return Answer([total], rows, notes, [largest_operation(t, e, one_pass)])


def prefill_pass(e: Estimate) -> Duration:
    """Return one pass of a static batch's prefill through the stages."""
    rows = [row for row in e.service.ttft.rows if row.op or row.name == "engine overhead"]
    return Duration(tuple(rows)).times(1 / batching.pipeline_fill(e.deployment.pp))


def tpot_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time per output token after the first."""
    mix, tpot = e.service.mix, e.service.tpot
    notes = ["The decode step is taken at the mean context of the generation.", *_limits(e)]
    gain = with_drafts(e.steps).tokens_per_step
    if mix is None:
        step, total = tpot.times(gain), _static_tpot(t, e)
        return Answer([total], time_parts(tpot, [(1 / gain, step)]), notes, [largest_operation(t, e, step)])
    share = batches.share(t, e)
    mixed = step_symbol(t, "t_mixed", "mixed", "step with prompt chunks and decodes", mix.mixed)
    decode = step_symbol(t, "t_decode", "decode", "step with decodes only", mix.decode, host=e)
    name, words = ("TPOT", "time per output token") if gain == 1 else ("t_step", "mean step")
    total = t.define(name, words, "s", _mean_step, share, mixed, decode)
    total = total if gain == 1 else _per_token(t, e, total)
    parts = time_parts(tpot, [(mix.share / gain, mix.mixed), ((1 - mix.share) / gain, mix.decode)])
    return Answer([total], parts, notes, [largest_operation(t, e, mix.decode)])


def _static_tpot(t: Trace, e: Estimate):
    """Symbol of the time per token of a static batch: a step, over what it gains with drafts."""
    tpot, words = e.service.tpot, "time per output token"
    if e.deployment.speculation is None:
        return step_symbol(t, "TPOT", "decode", words, tpot, host=e)
    step = step_symbol(
        t, "t_decode", "decode", "decode step", tpot.times(with_drafts(e.steps).tokens_per_step), host=e
    )
    return _per_token(t, e, step)


def _per_token(t: Trace, e: Estimate, step):
    """Symbol of the time per token of a step that gains several."""
    return t.define(
        "TPOT", "time per output token", "s",
        lambda step, gain: batching.time_per_token(seconds_of(step), gain).seconds,
        step, drafting.tokens_per_step(t, e),
    )  # fmt: skip


def _limits(e: Estimate) -> list[str]:
    side = [_SIDE_BY_SIDE] if e.steps.ranks > 1 else []
    return [*side, *drafting.notes(e), *_prefix_notes(e), *_STEP_LIMITS]


def _prefix_notes(e: Estimate) -> list[str]:
    shared = e.workload.shared_prefix_tokens
    return (
        [f"The {shared:,} shared tokens are cached: attention reads them, nothing computes them."]
        if shared
        else []
    )


def _tpot(t: Trace, e: Estimate):
    return t.symbol("TPOT") or t.derived(
        "TPOT", "time per output token", e.tpot_s, "s", "explained as tpot_s"
    )


def e2e_latency_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time from request to last token."""
    first = t.derived("TTFT", "time to first token", e.ttft_s, "s", "explained as ttft_s")
    total, rows = latency_symbol(t, e, "T", "request to last token", first, e.ttft_s)
    return Answer([total], rows, ["Network, tokenisation and the client are ignored."])


def requests_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the requests finished per second."""
    return Answer([request_rate(t, e)], (), ["Little's law: requests in flight over the time each takes."])


def output_tokens_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the output tokens per second of the whole deployment."""
    rate, output = request_rate(t, e), output_tokens(t, e)
    total = t.define("R", "output tokens per second", "tokens/s", batching.token_rate, rate, output)
    notes = ["Little's law: requests in flight over the time each takes.", "Prompt tokens are not counted."]
    return Answer([total], (), notes)


def request_rate(t: Trace, e: Estimate):
    """Return the symbol of the requests finished per second."""
    if e.workload.mode == "open_loop":
        return import_module("calc.explain.open_loop").request_rate(t, e)
    mix, count = e.service.mix, scenario.in_flight(t, e)
    if mix is None:
        first = t.derived("TTFT", "time to first token", e.ttft_s, "s", "explained as ttft_s")
        latency, _ = latency_symbol(t, e, "T", "request to last token", first, e.ttft_s)
    else:
        waits = mix.scheduler_wait_s, mix.burst_wait_s, mix.prefill_wait_s
        served = batching.served_first_token(mix.own, mix.chunks, mix.handling_s, *waits).seconds
        note = "time to first token without the queue for memory; explained as ttft_s"
        first = t.derived("TTFT_served", "time to first token in service", served, "s", note)
        latency, _ = latency_symbol(
            t, e, "T_served", "time in service, from place to last token", first, served
        )
    return t.define("X", "requests finished per second", "requests/s", batching.request_rate, count, latency)


def latency_symbol(t: Trace, e: Estimate, symbol, words, first, first_s, output=None):
    """Symbol of a latency from its time to first token, and its two rows."""
    tpot, output = _tpot(t, e), output or output_tokens(t, e)
    total = t.define(symbol, words, "s", batching.e2e_latency_s, first, tpot, output)
    rest = float(t.values[total] - first_s)
    rows = [
        Part("first token", float(first_s), "s", shown(float(first_s), "s")),
        Part("tokens after it", rest, "s", shown(rest, "s"), f"{t.values[output] - 1:g} tokens"),
    ]
    return total, rows


def _first_token(own_s, chunks, request_s, scheduler_s, burst_s, prefill_s, queue_s):
    served = batching.served_first_token(
        seconds_of(own_s), chunks, request_s, scheduler_s, burst_s, prefill_s
    )
    return batching.queued_first_token(served, queue_s).seconds


def _mean_step(share, mixed_s, decode_s):
    return batching.mean_step(share, seconds_of(mixed_s), seconds_of(decode_s)).seconds


def _queue_wait(t: Trace, e: Estimate):
    queued = t.derived(
        "N_queued", "requests that find no room", e.service.queued, "count", "wanted less in flight"
    )
    rate = t.derived(
        "X", "requests per second", e.requests_per_s, "requests/s", "explained as requests_per_s"
    )
    return t.define("t_queue", "queue for memory", "s", queue_wait_s, queued, rate)


def step_symbol(t: Trace, symbol, label, words, duration: Duration, host: Estimate | None = None):
    """Symbol of a step: the sum over kinds of operations.

    With ``host`` its overhead is traced too, and its drafting passes are.
    """
    kinds: dict[str, list[TimedOp]] = {}
    for row in duration.rows:
        kind = row.op.kind if row.op else row.name.replace(" ", "_")
        kinds.setdefault("drafts" if is_draft(row) else kind, []).append(row)
    own = [row for kind, rows in kinds.items() if kind != "drafts" for row in rows]
    symbols = []
    for kind, rows in kinds.items():
        name, seconds = f"t_{label}_{kind}", sum(row.seconds for row in rows)
        if host and kind == "engine_overhead":
            symbols.append(_overhead(t, name, host, n_exchanges(own)))
        elif host and kind == "drafts":
            symbols.append(drafting.passes(t, host, name, rows))
        elif seconds > 0:
            calls = sum(row.calls or row.op.count for row in rows if row.op)
            note = f"{counted(calls, 'call')}, see the parts" if calls else "host time, see tpot_s"
            symbols.append(t.derived(name, f"{kind.replace('_', ' ')}, {label} step", seconds, "s", note))
    return t.define(symbol, words, "s", lambda *seconds: seconds_of(*seconds).seconds, *symbols)


def _overhead(t: Trace, name: str, e: Estimate, exchanges):
    """Symbol of the engine's host time in a decode step of one batch."""
    names = ("step_s", "sequence_s", "layer_s", "exchange_s", "together_s")
    facts = [batches.host(t, e, f"h_{name.removesuffix('_s')}", name) for name in names]
    layers = scenario.model_size(t, e, "L_model", "layers of the model", e.model.n_layers)
    crossed = t.derived("n_exchanges", "exchanges between devices in a decode step", exchanges, "count",
                        "from the list of operations") if exchanges else 0  # fmt: skip
    return t.define(
        name, "engine overhead, decode step", "s",
        lambda *v: host_time_s(SimpleNamespace(**dict(zip(names, v[:5], strict=True))), *v[5:]),
        *facts, batches.decoded(t, e), layers, crossed,
    )  # fmt: skip


def time_parts(total: Duration, steps) -> list[Part]:
    """Rows of a duration; ``steps`` are (weight, Duration) whose work they stand for."""
    work: dict[str, dict[str, float]] = {}
    for weight, duration in steps:
        for row in duration.rows:
            if row.op is not None and row.seconds > 0:
                sums = work.setdefault(
                    row.name, {"calls": 0.0, "flops": 0.0, "bytes": 0.0, "link_bytes": 0.0}
                )
                calls = float(weight * row.op.count)
                sums["calls"] += calls
                sums["flops"] += calls * float(row.op.flops)
                sums["bytes"] += calls * float(row.op.bytes)
                sums["link_bytes"] += calls * float(row.op.comm_bytes)
    return [_row(row, work.get(row.name)) for row in total.merged().rows if row.seconds > 0]


def _row(row: TimedOp, sums) -> Part:
    seconds, bound = float(row.seconds), longest(row.by_bound())
    if not sums:
        return Part(row.name, seconds, "s", shown(seconds, "s"), "", {"bound": bound})
    known = [counted(sums["calls"], "call")]
    known += [shown(sums[key], unit) for key, unit in (("flops", "flop"), ("bytes", "byte")) if sums[key]]
    known += [f"{shown(sums['link_bytes'], 'byte')} summed"] if sums["link_bytes"] else []
    return Part(
        row.name, seconds, "s", shown(seconds, "s"), ", ".join([*known, bound]), {**sums, "bound": bound}
    )
