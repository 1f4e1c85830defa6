"""From steps to service: static batches and a fixed number of requests in flight."""

from dataclasses import dataclass, replace

from calc.serving.steps import Steps
from calc.serving.waits import burst_wait_s, prefill_wait_s, queue_wait_s, scheduler_wait_s
from calc.specs.numeric import ceil, maximum, minimum, where
from calc.specs.workload import Workload
from calc.timing.step_time import Duration, waiting
from calc.work.op import Sequences


@dataclass(frozen=True, eq=False)
class Service:
    """What users see: times as Durations, and the rate of the whole deployment.

    ``concurrency`` is how many requests are in flight, ``queued`` how many wait for memory.
    ``mix`` keeps what continuous batching is made of; static batches have none.
    """

    ttft: Duration
    tpot: Duration
    e2e_latency_s: object
    requests_per_s: object
    output_tokens_per_s: object
    concurrency: object
    queued: object
    mix: "Mix | None" = None
    #: distributions at each arrival rate, open loop only (``calc.serving.open_loop.arrivals``)
    open_loop: tuple = ()


@dataclass(frozen=True, eq=False)
class Mix:
    """Intermediate values of continuous batching: how prompts share steps with decodes.

    All for one of the batches that run side by side: ``batch`` requests of ``ranks`` times as
    many in flight. A prompt comes in ``chunks``; ``arriving`` chunks of others fall into the
    ``decode_steps`` of one generation, ``per_step`` of them into each of the ``share`` of
    steps that carry any. ``mixed``, ``decode`` and ``own`` are the times of a step with
    chunks, without, and with the first chunk of a request; the waits precede its first token.
    """

    batch: object
    chunks: object
    chunk_tokens: object
    budget_tokens: object
    decode_steps: object
    arriving: object
    per_step: object
    share: object
    mixed: Duration
    decode: Duration
    own: Duration
    handling_s: object
    scheduler_wait_s: object
    burst_wait_s: object
    prefill_wait_s: object
    queue_wait_s: object


def e2e_latency_s(ttft_s, tpot_s, output_tokens):
    r"""Time from request to last token: first token, then the others one by one.

    .. math::  T = \mathrm{TTFT} + \mathrm{TPOT} \, (O - 1)

    Parameters
    ----------
    ttft_s, tpot_s : number or array
        Time to first token, and per token after it. [s]
    output_tokens : number or array
        Tokens generated. [tokens]

    Examples
    --------
    >>> print(f"{e2e_latency_s(0.2, 0.01, 101):.1f} s")
    1.2 s
    """
    return ttft_s + tpot_s * (output_tokens - 1)


def request_rate(concurrency, latency_s):
    r"""Requests finished per second when so many are in flight (Little's law). [1/s]

    .. math::  X = N / T

    Examples
    --------
    >>> request_rate(64, 4.0)
    16.0
    """
    return concurrency / latency_s


def token_rate(requests_per_s, tokens_per_request):
    """Tokens per second of so many requests per second. [tokens/s]

    Examples
    --------
    >>> token_rate(4.0, 256)
    1024.0
    """
    return requests_per_s * tokens_per_request


def computed_tokens(prompt_tokens, shared_prefix_tokens):
    """Prompt tokens that a prefix cache leaves to compute: at least the last one, for its logits.

    Examples
    --------
    >>> computed_tokens(1024, 1000), computed_tokens(1024, 1024)
    (24, 1)
    """
    return maximum(prompt_tokens - shared_prefix_tokens, 1)


def prefill_chunks(prompt_tokens, budget_tokens):
    """Chunks that a prompt is cut into by the token budget of a step.

    Examples
    --------
    >>> prefill_chunks(10_000, 8192)
    2
    """
    return ceil(prompt_tokens / budget_tokens)


def decode_steps_of(output_tokens, tokens_per_step=1):
    """Decode steps of one generation: the first token comes from prefill.

    ``tokens_per_step`` are those that a step with drafts gains.

    Examples
    --------
    >>> decode_steps_of(256), decode_steps_of(1), decode_steps_of(256, 2.5)
    (255, 1, 102.0)
    """
    steps = output_tokens - 1
    return maximum(steps if _is_one(tokens_per_step) else steps / tokens_per_step, 1)


def arriving_chunks(chunks, in_flight):
    """Prompt chunks of the other requests during one generation.

    Examples
    --------
    >>> arriving_chunks(2, 64)
    126
    """
    return chunks * (in_flight - 1)


def chunks_per_step(arriving, decode_steps, budget_tokens, chunk_tokens):
    """Chunks in a step that carries any: one, or more where one does not keep up.

    Examples
    --------
    >>> chunks_per_step(126, 255, 8192, 1024), chunks_per_step(510, 255, 8192, 1024)
    (1.0, 2.0)
    """
    per_step = maximum(1.0, arriving / decode_steps)
    return minimum(per_step, maximum(1.0, budget_tokens / chunk_tokens))


def mixed_share(arriving, decode_steps, per_step):
    """Share of the steps that carry prompt chunks. [1]

    Examples
    --------
    >>> mixed_share(126, 252, 1.0)
    0.5
    """
    return minimum(1.0, arriving / decode_steps / per_step)


def mean_step(share, mixed: Duration, decode: Duration) -> Duration:
    """Return the mean of steps with prompt chunks (a share of them) and without."""
    return mixed.times(share) + decode.times(1 - share)


def time_per_token(step: Duration, tokens_per_step) -> Duration:
    """Return the time per token of a step that gains a sequence so many."""
    return step if _is_one(tokens_per_step) else step.times(1 / tokens_per_step)


def _is_one(tokens_per_step) -> bool:
    """Whether no step gains more than a token: then nothing is divided, and whole numbers stay whole."""
    return not getattr(tokens_per_step, "ndim", 0) and tokens_per_step == 1


def batch_of(in_flight, ranks):
    """Requests in each of the batches that run side by side: the busiest has at least one.

    Examples
    --------
    >>> batch_of(64, 8), batch_of(4, 8)
    (8.0, 1.0)
    """
    return maximum(1.0, in_flight / ranks)


def served_first_token(own: Duration, chunks, request_s, scheduler_s, burst_s, prefill_s) -> Duration:
    """Return the time to first token of a request that has its place: own chunks and waits."""
    waits = (
        ("request handling", request_s),
        ("wait for the scheduler", scheduler_s),
        ("wait for prompts of a burst", burst_s),
        ("wait for prefill", prefill_s),
    )
    return sum((waiting(*each) for each in waits), own.times(chunks))


def unqueued_latency_s(own: Duration, chunks, request_s, scheduler_s, burst_s, tpot_s, output_tokens):
    """Latency of a request that never waits for prefill. [s]"""
    first = served_first_token(own, chunks, request_s, scheduler_s, burst_s, 0.0)
    return e2e_latency_s(first.seconds, tpot_s, output_tokens)


def filled_pipeline(one_pass: Duration, stages, request_s) -> Duration:
    """Return the time to first token of a static batch: its passes and the handling of a request."""
    return one_pass.times(pipeline_fill(stages)) + waiting("request handling", request_s)


def queued_first_token(served: Duration, queue_wait) -> Duration:
    """Return the time to first token with the wait for a place in memory before it."""
    return served + waiting("queue for memory", queue_wait)


def pipeline_fill(pp):
    """Passes that a batch of one micro-batch per stage takes: one, and the others behind it.

    Examples
    --------
    >>> pipeline_fill(1), pipeline_fill(4)
    (1.0, 1.75)
    """
    return 2 - 1 / pp


def static_service(steps: Steps, load: Workload) -> Service:
    """Return the service of one batch: prefilled together, decoded to the end.

    The decode step is taken at the mean context of the generation; its time is nearly
    linear in the context, so the mean step is the step at the mean. A pipeline works on as
    many micro-batches as it has stages.
    """
    batch, prompt, output = load.concurrency, load.prompt_tokens, load.output_tokens
    part = batch_of(batch, steps.ranks)
    computed = computed_tokens(prompt, load.shared_prefix_tokens)
    one_pass = steps.time(Sequences("prefill", part, computed, prompt - computed))
    ttft = filled_pipeline(one_pass, steps.stages, steps.handling_s)
    decode = steps.time(Sequences("decode", part, 1, prompt + (output - 1) / 2))
    tpot = time_per_token(decode, steps.tokens_per_step)
    latency = e2e_latency_s(ttft.seconds, tpot.seconds, output)
    rate = request_rate(batch, latency)
    return Service(ttft, tpot, latency, rate, token_rate(rate, output), batch, 0)


def loop_service(steps: Steps, load: Workload, in_flight, wanted) -> Service:
    """Return the service of continuous batching with a fixed number of requests.

    Parameters
    ----------
    steps : Steps
    load : Workload
    in_flight : number or array
        Requests that run at once: what users ask for, at most what memory holds.
    wanted : number or array
        Requests that users keep open; those beyond ``in_flight`` queue.

    Notes
    -----
    While a request decodes ``output - 1`` tokens the others of its batch prefill once each,
    in chunks of at most ``max_batched_tokens`` that share steps with the decodes. TPOT is the
    mean over steps with and without such a chunk; batches side by side take theirs in the same
    steps, as engines see to it where ranks share experts. TTFT is the own chunks and the waits before
    them. When prompts arrive faster than the token budget lets them in, requests wait for
    prefill: Little's law gives that wait.
    """
    mix = _mix(steps, load, in_flight)
    handling = steps.handling_s + first_use_s(steps, load, mix)
    step = mean_step(mix.share, mix.mixed, mix.decode).merged()
    tpot = time_per_token(step, steps.tokens_per_step)
    own, host = mix.own.times(mix.chunks).seconds, steps.overheads
    prompt_waits, decode_waits, share = (fact.value for fact in host.waits(load).values())
    held = decode_waits + steps.hold_steps
    scheduler = scheduler_wait_s(own, step.seconds, mix.batch, prompt_waits, held)
    burst = burst_wait_s(share, mix.arriving, mix.per_step, mix.mixed.seconds, mix.decode.seconds)
    unqueued = unqueued_latency_s(
        mix.own, mix.chunks, handling, scheduler, burst, tpot.seconds, load.output_tokens
    )
    prefill = prefill_wait_s(mix.batch, mix.chunks, mix.mixed.seconds, mix.per_step, unqueued)
    served = served_first_token(mix.own, mix.chunks, handling, scheduler, burst, prefill)
    rate = request_rate(in_flight, e2e_latency_s(served.seconds, tpot.seconds, load.output_tokens))
    queued = maximum(0, wanted - in_flight)
    queue = queue_wait_s(queued, rate)
    ttft = queued_first_token(served, queue).merged()
    latency = e2e_latency_s(ttft.seconds, tpot.seconds, load.output_tokens)
    mix = replace(
        mix, handling_s=handling, scheduler_wait_s=scheduler, burst_wait_s=burst,
        prefill_wait_s=prefill, queue_wait_s=queue,
    )  # fmt: skip
    tokens = token_rate(rate, load.output_tokens)
    return Service(ttft, tpot, latency, rate, tokens, in_flight, queued, mix)


def first_use_s(steps: Steps, load: Workload, mix: Mix):
    """Mean wait for kernels that a server builds when a step is full for the first time. [s]

    Only a benchmark that sends nothing ahead meets it: the first requests fill the token budget
    of a step and wait, one in ten of them all.
    """
    if load.warmed_up:
        return 0.0
    fills = mix.batch * mix.chunks * mix.chunk_tokens >= mix.budget_tokens
    return where(fills, steps.overheads.first_use_s, 0.0)


def _mix(steps: Steps, load: Workload, in_flight) -> Mix:
    """How prompts share steps with decodes, before any wait."""
    prompt, output = load.prompt_tokens, load.output_tokens
    batch = batch_of(in_flight, steps.ranks)
    budget = steps.token_budget(prompt)
    computed = computed_tokens(prompt, load.shared_prefix_tokens)
    chunks = prefill_chunks(computed, budget)
    chunk, decode_steps = computed / chunks, decode_steps_of(output, steps.tokens_per_step)
    arriving = arriving_chunks(chunks, batch)
    per_step = chunks_per_step(arriving, decode_steps, budget, chunk)
    share = mixed_share(arriving, decode_steps, per_step)
    context = prompt + (output - 1) / 2
    decodes, others = (Sequences("decode", count, 1, context) for count in (batch, batch - 1))
    together, alone = (_chunks(n, chunk, prompt, computed, chunks) for n in (per_step, 1.0))
    decode, mixed, own = _steps_of(steps, decodes, others, together, alone)
    return Mix(
        batch=batch, chunks=chunks, chunk_tokens=chunk, budget_tokens=budget,
        decode_steps=decode_steps, arriving=arriving, per_step=per_step, share=share,
        mixed=mixed, decode=decode, own=own,
        handling_s=0.0, scheduler_wait_s=0.0, burst_wait_s=0.0, prefill_wait_s=0.0, queue_wait_s=0.0,
    )  # fmt: skip


def _steps_of(steps: Steps, decodes, others, together, alone) -> tuple[Duration, Duration, Duration]:
    """Times of a step without chunks, of one with them, and of one with a request's own first chunk.

    Where prompts run alone, a step with chunks is two: the decodes wait for the prompts.
    """
    decode = steps.time(decodes)
    if steps.policy == "prefill_first":
        return decode, decode + steps.time(together), steps.time(alone)
    return decode, steps.time(decodes, together), steps.time(others, alone)


def _chunks(n_chunks, chunk, prompt, computed, chunks) -> Sequences:
    """Prompt chunks in one step; the shared prefix is cached, and on average half of the rest."""
    cached = prompt - computed + (computed - chunk) / 2
    return Sequences("prefill", n_chunks, chunk, cached, sampled=n_chunks / chunks)


def service_of(steps: Steps, load: Workload, limit) -> Service:
    """Return the service of a scenario, whatever its mode.

    Parameters
    ----------
    limit : number or array
        Requests that memory and the engine's limit hold at once.
    """
    if load.mode == "static":
        return static_service(steps, load)
    if load.mode == "max_load":
        most = maximum(1, limit)
        return loop_service(steps, load, most, most)
    # what does not fit at all is timed as if it did: the memory says by how much it does not
    held = where(limit >= 1, minimum(load.concurrency, limit), load.concurrency)
    return loop_service(steps, load, held, load.concurrency)
