"""Explanations of an open loop: what requests see that arrive at a rate, read from the chain of steps."""

import numpy as np

from calc.estimate import Estimate
from calc.explain import batches, scenario
from calc.explain.metrics import Answer
from calc.explain.operation import largest_operation
from calc.explain.times import latency_symbol, step_symbol, time_parts
from calc.explain.trace import Trace
from calc.serving import batching
from calc.serving.open_loop.answer import OpenLoop, Spread
from calc.serving.open_loop.points import POINTS
from calc.serving.waits import queue_wait_s
from calc.specs.errors import SpecError
from calc.specs.numeric import minimum
from calc.timing.step_time import Duration
from calc.work.op import Sequences

#: time -> symbol, words
_TIMES = {
    "ttft": ("TTFT", "time to first token"),
    "tpot": ("TPOT", "time per output token"),
    "queue": ("t_queue", "time until the first token of the prompt is computed"),
}
_CHAIN = (
    "A chain goes from step to step: how many sequences decode, how many prompt tokens wait. Its shares of "
    "time are what arrivals meet."
)
_READ = (
    f"A percentile over requests is read from the times at {POINTS:,} points, spread evenly over what they "
    "meet."
)


def ttft_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time to first token."""
    found, alone = _steady(e, "ttft_s"), prompt_alone(e)
    queue = t.derived(
        "t_queue", _TIMES["queue"][1], found.queue.mean, "s", "mean over arrivals; explained as queue_s"
    )
    rest = found.ttft.mean - found.queue.mean - e.steps.handling_s
    own = t.derived(
        "t_prompt", "steps that compute the prompt, decodes and prompts of others in them", rest, "s",
        "mean over arrivals, from what they meet in the chain; alone it takes t_alone",
    )  # fmt: skip
    total = t.define(
        "TTFT",
        "time to first token",
        "s",
        lambda *each: sum(each),
        queue,
        own,
        batches.request_handling(t, e),
    )
    single = step_symbol(t, "t_alone", "alone", "step with one prompt alone", alone)
    details = [*_state(t, e), single, largest_operation(t, e, alone)]
    return Answer(
        [total], time_parts(e.service.ttft, _shares(e.ttft_s, alone)), [_CHAIN, *_notes(e)], details
    )


def tpot_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time per output token after the first."""
    found, decode, alone = _steady(e, "tpot_s"), mean_decode(e), prompt_alone(e)
    steps = _decode_steps(t, e)
    running, rate = _running(t, e), _rate_of_batch(t, e)
    little = float(t.values[running]) / (float(t.values[rate]) * float(t.values[steps]))
    after = t.derived(
        "c_early", "mean over requests over the mean over tokens", found.tpot.mean / little, "ratio",
        "short outputs see more of the long steps after their prompt; the rounding of the chain is in it",
    )  # fmt: skip
    total = t.define(
        "TPOT", "time per output token", "s",
        lambda after, running, rate, steps: after * running / (rate * steps), after, running, rate, steps,
        note="Little's law: sequences that decode, over the rate of tokens",
    )  # fmt: skip
    words = "decode step at the mean number of requests in flight"
    mean = step_symbol(t, "t_mean", "decode", words, decode, host=e)
    details = [*_state(t, e), mean, *_other_steps(t, e), largest_operation(t, e, decode)]
    weights = _shares(e.tpot_s, decode, alone)
    return Answer([total], time_parts(e.service.tpot, weights), [_CHAIN, *_notes(e)], details)


def queue_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time until the first token of a prompt is computed."""
    found, rate = _steady(e, "queue_s"), _rate(t, e)
    count = found.queue.mean * e.workload.requests_per_s
    waiting = t.derived(
        "N_wait", "requests whose prompt is not begun, on average", count, "count",
        "from what arrivals meet: the rest of the running step, prompts ahead, places that are taken",
    )  # fmt: skip
    words = f"{_TIMES['queue'][1]}, mean"
    total = t.define("t_queue", words, "s", queue_wait_s, waiting, rate, note="Little's law")
    return Answer([total], (), [_CHAIN, *_notes(e)], _state(t, e))


def percentile(t: Trace, e: Estimate, metric: str) -> Answer:
    """Explain a percentile over requests, named as in ``METRICS``: the mean, and how far from it."""
    name, share, _ = metric.split("_")
    found: Spread = getattr(_steady(e, metric), name)
    symbol, words = _TIMES[name]
    mean = t.derived(symbol, f"{words}, mean", found.mean, "s", f"explained as {name}_s")
    value, of = getattr(found, share), share.removeprefix("p")
    ratio = t.derived(
        f"r_{share}", f"{of}th percentile over the mean", value / found.mean if found.mean else 1.0, "ratio",
        f"{of} % of requests take no longer; from the distribution over arrivals",
    )  # fmt: skip
    total = t.define(
        f"{symbol}_{share}", f"{words}, {of}th percentile", "s", lambda ratio, mean: ratio * mean, ratio, mean
    )
    return Answer([total], (), [_READ, _CHAIN, *_notes(e)], [*_state(t, e), *_other_steps(t, e)])


def e2e_latency_s(t: Trace, e: Estimate) -> Answer:
    """Explain the mean time from request to last token."""
    _steady(e, "e2e_latency_s")
    first = t.derived("TTFT", "time to first token", e.ttft_s, "s", "explained as ttft_s")
    total, rows = latency_symbol(t, e, "T", "request to last token", first, e.ttft_s, _output(t, e))
    return Answer([total], rows, ["Network, tokenisation and the client are ignored."])


def requests_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the requests finished per second."""
    return Answer([request_rate(t, e)], (), _notes(e), _state(t, e))


def output_tokens_per_s(t: Trace, e: Estimate) -> Answer:
    """Explain the output tokens per second of the whole deployment."""
    rate, output = request_rate(t, e), _output(t, e)
    total = t.define("R", "output tokens per second", "tokens/s", batching.token_rate, rate, output)
    return Answer([total], (), ["Prompt tokens are not counted.", *_notes(e)], _state(t, e))


def request_rate(t: Trace, e: Estimate):
    """Return the symbol of the requests finished per second: those that arrive, up to the highest rate."""
    words = "requests finished per second"
    return t.define("X", words, "requests/s", lambda *rates: minimum(*rates), _rate(t, e), _highest(t, e))


def prompt_alone(e: Estimate) -> Duration:
    """Return the step of one prompt of mean length with nothing beside it."""
    return e.steps.time(Sequences("prefill", 1, e.workload.prompt_tokens, 0))


def mean_decode(e: Estimate, *beside: Sequences) -> Duration:
    """Return the decode step at the mean number of requests in flight and their mean context."""
    return _decode(e, batching.batch_of(e.service.concurrency, e.steps.ranks), *beside)


def _decode(e: Estimate, requests, *beside: Sequences) -> Duration:
    context = e.workload.prompt_tokens + (e.workload.output_tokens - 1) / 2
    return e.steps.time(Sequences("decode", requests, 1, context), *beside)


def _shares(seconds, base: Duration, other: Duration | None = None) -> list:
    """Weights of the steps in a time, as the rows of the service have them."""
    share, more = min(1.0, seconds / base.seconds), max(0.0, seconds - base.seconds)
    return [(share, base), *([(more / other.seconds, other)] if other else [])]


def _steady(e: Estimate, metric: str) -> OpenLoop:
    """Return what requests see; SpecError where there is nothing finite to explain."""
    found = e.open_loop
    if not found.steady:
        raise SpecError(f"explain: {metric}: {found.statement()}; allowed are lower rates")
    if not found.requests_per_s:
        raise SpecError(f"explain: {metric} at a rate of 0 is not explained; allowed are rates above 0")
    if metric.startswith("tpot") and e.workload.output_lengths.table(e.workload.output_tokens).max() <= 1:
        raise SpecError(f"explain: {metric}: one output token has none; allowed are longer outputs")
    return found


def _rate(t: Trace, e: Estimate):
    words = "requests that arrive per second"
    return t.symbol("X_in") or t.given("X_in", words, e.workload.requests_per_s, "requests/s")


def _rate_of_batch(t: Trace, e: Estimate):
    """Symbol of the rate at one of the batches side by side."""
    if e.steps.ranks == 1:
        return _rate(t, e)
    words = "requests that arrive per second at one of the batches side by side"
    return t.define(
        "X_batch", words, "requests/s", lambda rate, ranks: rate / ranks, _rate(t, e), batches.ranks(t, e)
    )


def _highest(t: Trace, e: Estimate):
    found = e.open_loop
    why = {
        "places": f"where all {found.cap:,} places for requests are taken (cache or max_sequences)",
        "prefill": "where prompts fill the steps",
    }[found.bottleneck]
    words = "highest rate with a steady state"
    return t.symbol("X_max") or t.derived("X_max", words, found.max_requests_per_s, "requests/s", why)


def _state(t: Trace, e: Estimate) -> list:
    """Symbols of the load and of the stationary means, which every explanation shows."""
    found = e.open_loop
    rate, most = _rate(t, e), _highest(t, e)
    load = t.define("rho", "load", "ratio", lambda rate, most: rate / most, rate, most)
    if not found.steady:
        return [load]
    where = ", in one of the batches side by side" if e.steps.ranks > 1 else ""
    busy, note = 1 - float(found.in_flight[0]), "from the chain's shares of time"
    words = "share of arrivals that meet others past their prefill"
    return [
        load,
        _running(t, e),
        t.derived("N_cap", f"places for requests{where}", found.cap, "count", "what cache and engine hold"),
        t.derived("P_busy", words, busy, "ratio", note),
        t.derived("P_full", "share that finds all places taken", found.queue_probability, "ratio", note),
    ]


def _running(t: Trace, e: Estimate):
    """Symbol of the mean number of requests that decode in one batch."""
    shares, where = e.open_loop.in_flight, ", in one of the batches side by side" if e.steps.ranks > 1 else ""
    running = float((shares * np.minimum(np.arange(len(shares)), e.open_loop.cap)).sum())
    note = "mean over the chain's shares of 0, 1, 2, ... requests"
    return t.symbol("N_run") or t.derived("N_run", f"requests that decode{where}", running, "count", note)


def _other_steps(t: Trace, e: Estimate) -> list:
    """Symbols of steps at other sizes: of one request, of all places, of the mean with a prompt beside it."""
    cap, prompt = e.open_loop.cap, Sequences("prefill", 1, e.workload.prompt_tokens, 0)
    sizes = {
        "t_one": ("decode step of one request", _decode(e, 1.0)),
        "t_beside": ("step of the mean number of requests with a whole prompt in it", mean_decode(e, prompt)),
        "t_cap": (f"decode step of {cap:,} requests", _decode(e, float(cap))),
    }
    return [
        t.derived(symbol, words, duration.seconds, "s", "at the mean context of a generation")
        for symbol, (words, duration) in sizes.items()
    ]


def _decode_steps(t: Trace, e: Estimate):
    output = _output(t, e)
    return t.define(
        "D", "decode steps of a request", "count", lambda output: output - 1, output,
        note="the first token comes from prefill",
    )  # fmt: skip


def _output(t: Trace, e: Estimate):
    """Symbol of the mean output tokens."""
    load = e.workload
    mean = float(load.output_lengths.table(load.output_tokens).mean())
    if mean == load.output_tokens:
        return t.symbol("O") or scenario.output_tokens(t, e)
    note = f"mean of {load.output_lengths.kind} lengths"
    return t.symbol("O") or t.derived("O", "output tokens of a request", mean, "tokens", note)


def _notes(e: Estimate) -> list[str]:
    statement, load = e.open_loop.statement(), e.workload
    return [
        f"{statement[0].upper()}{statement[1:]}.",
        f"Lengths: prompts {load.prompt_lengths.kind}, {load.prompt_tokens:,} tokens on average; outputs "
        f"{load.output_lengths.kind}, {load.output_tokens:,}. Requests arrive at random.",
        "Recomputing after preemption is ignored, but for long prompts in the highest rate.",
    ]
