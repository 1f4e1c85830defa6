"""Symbols of continuous batching: batches side by side, prompt chunks in steps, waits before them."""

from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import drafting, scenario
from calc.explain.trace import Trace
from calc.serving import batching
from calc.serving.steps import Steps, decode_rows
from calc.serving.waits import burst_wait_s, prefill_wait_s, scheduler_wait_s
from calc.timing.overheads import HOST, handling_s
from calc.timing.step_time import Duration, TimedOp


def output_tokens(t: Trace, e: Estimate):
    """Return the symbol of the output tokens, entered once."""
    return t.symbol("O") or scenario.output_tokens(t, e)


def batch(t: Trace, e: Estimate):
    """Return the symbol of the requests in one of the batches that run side by side."""
    count = t.symbol("N") or scenario.in_flight(t, e)
    if e.steps.ranks == 1 and e.workload.mode != "open_loop":
        return count
    return t.symbol("N_batch") or t.define(
        "N_batch", "requests in one of the batches side by side", "count",
        batching.batch_of, count, ranks(t, e) if e.steps.ranks > 1 else 1,
    )  # fmt: skip


def decoded(t: Trace, e: Estimate):
    """Return the symbol of the tokens that a decode step of a batch brings logits for."""
    count, drafts = batch(t, e), drafting.draft_tokens(t, e)
    if e.workload.sequences_per_request == 1 and not drafts:
        return count
    return t.symbol("N_rows") or t.define(
        "N_rows", "tokens that a decode step of a batch computes", "count",
        decode_rows, count, scenario.sequences(t, e), drafts,
    )  # fmt: skip


def ranks(t: Trace, e: Estimate):
    """Return the symbol of the batches that run side by side: attention-data ranks times stages."""
    given = scenario.data_ranks(t, e), stages(t, e)
    return t.symbol("n_batches") or t.define(
        "n_batches", "batches that run side by side", "count",
        lambda dp, pp: Steps.ranks.fget(SimpleNamespace(deployment=SimpleNamespace(dp=dp, pp=pp))), *given,
    )  # fmt: skip


def stages(t: Trace, e: Estimate):
    """Return the symbol of the pipeline stages, entered once."""
    return t.symbol("pp") or t.given("pp", "pipeline stages", e.deployment.pp, "count")


def computed(t: Trace, e: Estimate):
    """Return the symbol of the prompt tokens that are not in the prefix cache already."""
    prompt = t.symbol("I") or scenario.prompt_tokens(t, e)
    if not e.workload.shared_prefix_tokens:
        return prompt
    if t.symbol("I_new"):
        return t.symbol("I_new")
    words = "leading prompt tokens that all requests share"
    shared = t.given("I_shared", words, e.workload.shared_prefix_tokens, "tokens")
    return t.define(
        "I_new", "prompt tokens to compute", "tokens", batching.computed_tokens, prompt, shared,
        note="the shared prefix is cached; the last token is computed for its logits",
    )  # fmt: skip


def chunks(t: Trace, e: Estimate):
    """Return the symbol of the chunks of one prompt."""
    prompt = computed(t, e)
    return t.symbol("k") or t.define(
        "k", "chunks of one prompt", "count", batching.prefill_chunks, prompt, scenario.token_budget(t, e)
    )


def arriving(t: Trace, e: Estimate):
    """Return the symbol of the chunks of others that fall into one generation."""
    return t.symbol("A") or t.define(
        "A", "prompt chunks of the others of a batch during one generation", "count",
        batching.arriving_chunks, chunks(t, e), batch(t, e),
    )  # fmt: skip


def _decode_steps(t: Trace, e: Estimate):
    return t.symbol("D") or t.define(
        "D", "decode steps of one generation", "count",
        batching.decode_steps_of, output_tokens(t, e), drafting.tokens_per_step(t, e),
    )  # fmt: skip


def per_step(t: Trace, e: Estimate):
    """Return the symbol of the chunks in a step that carries any."""
    if t.symbol("k_step"):
        return t.symbol("k_step")
    coming, steps, size = arriving(t, e), _decode_steps(t, e), e.service.mix.chunk_tokens
    chunk = t.derived(
        "I_chunk", "tokens of one chunk", size, "tokens", "what is computed of a prompt over its chunks"
    )
    return t.define(
        "k_step", "chunks in a step that carries any", "count",
        batching.chunks_per_step, coming, steps, scenario.token_budget(t, e), chunk,
    )  # fmt: skip


def share(t: Trace, e: Estimate):
    """Return the symbol of the share of steps that carry prompt chunks, from lengths and load."""
    given = arriving(t, e), _decode_steps(t, e), per_step(t, e)
    return t.define("s", "share of steps with prompt chunks", "ratio", batching.mixed_share, *given)


def host(t: Trace, e: Estimate, symbol: str, name: str):
    """Return the symbol of a host number of the engine, a fact with its runs."""
    return t.symbol(symbol) or t.fact(symbol, HOST[name][1], e.overheads.host[name])


def wait(t: Trace, e: Estimate, symbol: str, name: str):
    """Return the symbol of a wait that the load and the engine decide, a fact with its runs."""
    return t.symbol(symbol) or t.fact(symbol, HOST[name][1], e.overheads.waits(e.workload)[name])


def request_handling(t: Trace, e: Estimate):
    """Return the symbol of the host time of a request: its handling, its launches, what is built first."""
    return t.symbol("h") or t.define(
        "h", "host time of a request", "s", _handling_s,
        host(t, e, "h_request", "request_s"), host(t, e, "h_launch", "launch_s"),
        _launches(t, e), _first(t, e),
    )  # fmt: skip


def _launches(t: Trace, e: Estimate):
    rule = "operations of a step with a prompt, several each for experts and latent attention"
    return t.derived("n_launch", "kernels that its prefill launches", e.steps.prefill_launches, "count", rule)


def _first(t: Trace, e: Estimate):
    """Symbol of the wait for what is built first; 0 where the server is warmed up."""
    if e.workload.warmed_up:
        return 0.0
    waited = e.service.mix.handling_s - e.steps.handling_s
    rule = "the engine's, where the first requests fill the token budget of a step"
    return t.derived("h_first", HOST["first_use_s"][1], waited, "s", rule)


def _handling_s(request_s, launch_s, n_launches, first_s):
    return handling_s(SimpleNamespace(request_s=request_s, launch_s=launch_s), n_launches) + first_s


def waits(t: Trace, e: Estimate, own, mixed, decode, tpot) -> tuple:
    """Return the symbols of the waits of a request before its first token, its own handling first.

    ``own``, ``mixed`` and ``decode`` are symbols of steps, as in ``batching.Mix``.
    """
    scheduler = t.define(
        "t_scheduler", "wait for the scheduler", "s", _scheduler_s, own, chunks(t, e), tpot, batch(t, e),
        wait(t, e, "w_prompt", "prompt_waits"), wait(t, e, "w_decode", "decode_waits"), _held(t, e),
        drafting.tokens_per_step(t, e),
    )  # fmt: skip
    burst = t.define(
        "t_burst", "wait for prompts of a burst", "s", burst_wait_s,
        wait(t, e, "q", "burst"), arriving(t, e), per_step(t, e), mixed, decode,
    )  # fmt: skip
    request = request_handling(t, e)
    unqueued = t.define(
        "T_unqueued", "latency before waiting for prefill", "s",
        lambda own, *rest: batching.unqueued_latency_s(seconds_of(own), *rest),
        own, chunks(t, e), request, scheduler, burst, tpot, output_tokens(t, e),
    )  # fmt: skip
    prefill = t.define(
        "t_prefill", "wait for prefill", "s", prefill_wait_s,
        batch(t, e), chunks(t, e), mixed, per_step(t, e), unqueued, note="what the rate of prefill enforces",
    )  # fmt: skip
    return request, scheduler, burst, prefill


def _held(t: Trace, e: Estimate):
    """Symbol of the steps that the scheduler's settings hold a request; 0 where they do not."""
    if not e.deployment.hold_steps:
        return 0.0
    words = "decode steps that the scheduler's settings let a new request wait"
    return t.given("w_hold", words, e.deployment.hold_steps, "count")


def _scheduler_s(own_s, n_chunks, tpot_s, count, prompt_waits, decode_waits, held, gained):
    own = seconds_of(own_s).times(n_chunks).seconds
    return scheduler_wait_s(own, tpot_s * gained, count, prompt_waits, decode_waits + held)


def seconds_of(*seconds) -> Duration:
    """Return a Duration of rows of which only the seconds matter."""
    return Duration(tuple(TimedOp("", row) for row in seconds))
