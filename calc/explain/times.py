"""Explanations of times and rates: the formula of serving, then the rows of its steps."""

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.explanation import Part
from calc.explain.metrics import Answer
from calc.explain.operation import largest_operation
from calc.explain.quantities import counted, shown
from calc.explain.trace import Trace
from calc.serving import batching
from calc.timing.step_time import Duration, TimedOp, longest, step_time

_STEP_LIMITS = (
    "Operations run one after the other; arithmetic and memory traffic inside one overlap perfectly.",
    "Means over requests: jitter, preemption and the spread of lengths are ignored.",
)


def ttft_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time to first token."""
    mix, ttft = e.service.mix, e.service.ttft
    if mix is None:
        total = _step(t, "TTFT", "prefill", "time to first token", ttft)
        notes = ["The whole batch is prefilled in one step.", *_STEP_LIMITS]
        return Answer([total], _rows(ttft, [(1, ttft)]), notes, [largest_operation(t, e, ttft)])
    own = _step(
        t, "t_own", "own", "step with one prompt chunk of the request and the others' decodes", mix.own
    )
    chunks = t.define(
        "k",
        "chunks of one prompt",
        "count",
        batching.prefill_chunks,
        scenario.prompt_tokens(t, e),
        scenario.token_budget(t, e),
    )
    queue = _queue_wait(t, e)
    count = scenario.in_flight(t, e)
    tpot = t.derived("TPOT", "time per output token", e.tpot_s, "s", "explained as tpot_s")
    residual = t.define(
        "t_running",
        "wait for the running step",
        "s",
        batching.residual_wait_s,
        tpot,
        count,
        note="half a step",
    )
    prefill = _prefill_wait(t, e, own, chunks, count, tpot, residual)
    total = t.define("TTFT", "time to first token", "s", _first_token, own, chunks, residual, prefill, queue)
    notes = ["Prompt chunks share steps with the decodes of the other requests.", *_STEP_LIMITS]
    return Answer([total], _rows(ttft, [(mix.chunks, mix.own)]), notes, [largest_operation(t, e, mix.own)])


def tpot_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time per output token after the first."""
    mix, tpot = e.service.mix, e.service.tpot
    notes = ["The decode step is taken at the mean context of the generation.", *_STEP_LIMITS]
    if mix is None:
        total = _step(t, "TPOT", "decode", "time per output token", tpot, host=(e, e.service.concurrency))
        return Answer([total], _rows(tpot, [(1, tpot)]), notes, [largest_operation(t, e, tpot)])
    share = _share(t, e)
    mixed = _step(t, "t_mixed", "mixed", "step with prompt chunks and decodes", mix.mixed)
    decode = _step(
        t, "t_decode", "decode", "step with decodes only", mix.decode, host=(e, e.service.concurrency)
    )
    total = t.define("TPOT", "time per output token", "s", _mean_step, share, mixed, decode)
    parts = _rows(tpot, [(mix.share, mix.mixed), (1 - mix.share, mix.decode)])
    return Answer([total], parts, notes, [largest_operation(t, e, mix.decode)])


def e2e_latency_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time from request to last token."""
    first = t.derived("TTFT", "time to first token", e.ttft_s, "s", "explained as ttft_s")
    total, rows = _latency(t, e, "T", "request to last token", first, e.ttft_s)
    return Answer([total], rows, ["Network, tokenisation and the client are ignored."])


def requests_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the requests finished per second."""
    return Answer([request_rate(t, e)], (), ["Little's law: requests in flight over the time each takes."])


def output_tokens_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the output tokens per second of the whole deployment."""
    rate, output = request_rate(t, e), t_output(t, e)
    total = t.define("R", "output tokens per second", "tokens/s", batching.token_rate, rate, output)
    notes = ["Little's law: requests in flight over the time each takes.", "Prompt tokens are not counted."]
    return Answer([total], (), notes)


def t_output(t: Trace, e: Estimate):
    """Return the symbol of the output tokens, entered once."""
    return t.symbol("O") or scenario.output_tokens(t, e)


def request_rate(t: Trace, e: Estimate):
    """Return the symbol of the requests finished per second."""
    mix, count = e.service.mix, scenario.in_flight(t, e)
    if mix is None:
        first = t.derived("TTFT", "time to first token", e.ttft_s, "s", "explained as ttft_s")
        latency, _ = _latency(t, e, "T", "request to last token", first, e.ttft_s)
    else:
        served = batching.served_first_token(mix.own, mix.chunks, mix.residual_s, mix.prefill_wait_s).seconds
        note = "time to first token without the queue for memory; explained as ttft_s"
        first = t.derived("TTFT_served", "time to first token in service", served, "s", note)
        latency, _ = _latency(t, e, "T_served", "time in service, from place to last token", first, served)
    return t.define("X", "requests finished per second", "requests/s", batching.request_rate, count, latency)


def _latency(t: Trace, e: Estimate, symbol, words, first, first_s):
    """Symbol of a latency from its time to first token, and its two rows."""
    tpot = t.derived("TPOT", "time per output token", e.tpot_s, "s", "explained as tpot_s")
    total = t.define(symbol, words, "s", batching.e2e_latency_s, first, tpot, t_output(t, e))
    rest = float(t.values[total] - first_s)
    rows = [
        Part("first token", float(first_s), "s", shown(float(first_s), "s")),
        Part("tokens after it", rest, "s", shown(rest, "s"), f"{e.workload.output_tokens - 1} tokens"),
    ]
    return total, rows


def _first_token(own_s, chunks, residual_s, prefill_wait_s, queue_wait_s):
    served = batching.served_first_token(_of(own_s), chunks, residual_s, prefill_wait_s)
    return batching.queued_first_token(served, queue_wait_s).seconds


def _mean_step(share, mixed_s, decode_s):
    return batching.mean_step(share, _of(mixed_s), _of(decode_s)).seconds


def _unqueued(own_s, chunks, residual_s, tpot_s, output):
    return batching.e2e_latency_s(_of(own_s).times(chunks).seconds + residual_s, tpot_s, output)


def _of(*seconds) -> Duration:
    """A Duration of rows of which only the seconds matter."""
    return Duration(tuple(TimedOp("", row) for row in seconds))


def _share(t: Trace, e: Estimate):
    """Symbol of the share of steps that carry prompt chunks, from lengths and load."""
    budget, prompt = scenario.token_budget(t, e), scenario.prompt_tokens(t, e)
    chunks = t.define("k", "chunks of one prompt", "count", batching.prefill_chunks, prompt, budget)
    arriving = t.define(
        "A", "prompt chunks of the others during one generation", "count",
        batching.arriving_chunks, chunks, scenario.in_flight(t, e),
    )  # fmt: skip
    steps = t.define("D", "decode steps of one generation", "count", batching.decode_steps_of, t_output(t, e))
    size = t.derived(
        "I_chunk", "tokens of one chunk", e.service.mix.chunk_tokens, "tokens", "prompt over chunks"
    )
    per_step = t.define(
        "k_step",
        "chunks in a step that carries any",
        "count",
        batching.chunks_per_step,
        arriving,
        steps,
        budget,
        size,
    )
    return t.define(
        "s", "share of steps with prompt chunks", "ratio", batching.mixed_share, arriving, steps, per_step
    )


def _prefill_wait(t: Trace, e: Estimate, own, chunks, count, tpot, residual):
    mix, output = e.service.mix, t_output(t, e)
    unqueued = t.define(
        "T_unqueued",
        "latency before waiting for prefill",
        "s",
        _unqueued,
        own,
        chunks,
        residual,
        tpot,
        output,
    )
    mixed = t.derived(
        "t_mixed", "step with prompt chunks and decodes", mix.mixed.seconds, "s", "explained as tpot_s"
    )
    per_step = t.derived(
        "k_step", "chunks in a step that carries any", mix.per_step, "count", "explained as tpot_s"
    )
    return t.define(
        "t_prefill", "wait for prefill", "s", batching.prefill_wait_s,
        count, chunks, mixed, per_step, unqueued, note="what the rate of prefill enforces",
    )  # fmt: skip


def _queue_wait(t: Trace, e: Estimate):
    queued = t.derived(
        "N_queued", "requests that find no room", e.service.queued, "count", "wanted less in flight"
    )
    rate = t.derived(
        "X", "requests per second", e.requests_per_s, "requests/s", "explained as requests_per_s"
    )
    return t.define("t_queue", "queue for memory", "s", batching.queue_wait_s, queued, rate)


def _step(t: Trace, symbol, label, words, duration: Duration, host=None):
    """Symbol of a step: the sum over kinds of operations; ``host`` traces its overhead too."""
    kinds: dict[str, list[TimedOp]] = {}
    for row in duration.rows:
        kinds.setdefault(row.op.kind if row.op else row.name.replace(" ", "_"), []).append(row)
    symbols = []
    for kind, rows in kinds.items():
        name, seconds = f"t_{label}_{kind}", sum(row.seconds for row in rows)
        if host and kind == "engine_overhead":
            symbols.append(_overhead(t, name, *host))
        elif seconds > 0:
            calls = sum(row.op.count for row in rows if row.op)
            note = f"{counted(calls, 'call')}, see the parts" if calls else "per step and per sequence in it"
            symbols.append(t.derived(name, f"{kind.replace('_', ' ')}, {label} step", seconds, "s", note))
    return t.define(symbol, words, "s", lambda *seconds: _of(*seconds).seconds, *symbols)


def _overhead(t: Trace, name: str, e: Estimate, count):
    """Symbol of the engine's host time in a step of so many decodes."""
    each = t.fact("h_sequence", "host time per sequence in the step", e.engine.facts["sequence_overhead"])
    fixed = t.fact("h_step", "host time per step", e.engine.facts["step_overhead"])
    number = t.symbol("N") or scenario.in_flight(t, e, count)
    return t.define(name, "engine overhead, decode step", "s", _host_s, fixed, each, number)


class _Host:
    def __init__(self, step_overhead, sequence_overhead):
        self.step_overhead, self.sequence_overhead = step_overhead, sequence_overhead


def _host_s(fixed_s, each_s, n_sequences):
    return step_time([], None, None, _Host(fixed_s, each_s), n_sequences).seconds


def _rows(total: Duration, steps) -> list[Part]:
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
