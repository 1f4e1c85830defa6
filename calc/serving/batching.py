"""From steps to service: static batches and a fixed number of requests in flight."""

from dataclasses import dataclass

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.engine import Engine
from calc.specs.model import Model
from calc.specs.numeric import ceil, maximum, minimum, where
from calc.specs.workload import Workload
from calc.timing.calibration import Calibration
from calc.timing.step_time import Duration, step_time, waiting
from calc.work.memory import precision_of
from calc.work.op import Sequences
from calc.work.step import step_ops


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
    #: distributions at each arrival rate, open loop only (``calc.serving.arrivals``)
    open_loop: tuple = ()


@dataclass(frozen=True, eq=False)
class Mix:
    """Intermediate values of continuous batching: how prompts share steps with decodes.

    A prompt comes in ``chunks``; ``arriving`` chunks of others fall into the
    ``decode_steps`` of one generation, ``per_step`` of them into each of the ``share`` of
    steps that carry any. ``mixed``, ``decode`` and ``own`` are the times of a step with
    chunks, without, and with the first chunk of a request; the waits precede its first token.
    """

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
    residual_s: object
    prefill_wait_s: object
    queue_wait_s: object


@dataclass(frozen=True, eq=False)
class Steps:
    """Step times of one deployment: the same calibrated work for every question."""

    model: Model
    device: Device
    deployment: Deployment
    engine: Engine
    calibration: Calibration

    def time(self, *groups: Sequences) -> Duration:
        """Return the time of one step on these sequences."""
        ops = step_ops(self.model, groups, precision_of(self.model, self.deployment), self.deployment.tp)
        sequences = sum(group.logit_rows for group in groups)
        return step_time(ops, self.device, self.calibration, self.engine, sequences)


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


def prefill_chunks(prompt_tokens, budget_tokens):
    """Chunks that a prompt is cut into by the token budget of a step.

    Examples
    --------
    >>> prefill_chunks(10_000, 8192)
    2
    """
    return ceil(prompt_tokens / budget_tokens)


def decode_steps_of(output_tokens):
    """Decode steps of one generation: the first token comes from prefill.

    Examples
    --------
    >>> decode_steps_of(256), decode_steps_of(1)
    (255, 1)
    """
    return maximum(output_tokens - 1, 1)


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


def residual_wait_s(tpot_s, in_flight):
    """Mean wait for the running step: half of it, if somebody else's runs. [s]

    Examples
    --------
    >>> residual_wait_s(0.02, 2)
    0.005
    """
    return tpot_s * (in_flight - 1) / in_flight / 2


def prefill_wait_s(in_flight, chunks, mixed_s, per_step, unqueued_latency_s):
    """Wait that the prefill rate enforces: N in flight cannot turn over faster than it. [s]

    Examples
    --------
    >>> prefill_wait_s(100, 1, 0.05, 1.0, 4.0)
    1.0
    """
    least_latency = in_flight * chunks * mixed_s / per_step
    return maximum(0.0, least_latency - unqueued_latency_s)


def queue_wait_s(queued, requests_per_s):
    """Wait of those that find no room in memory (Little's law). [s]

    Examples
    --------
    >>> queue_wait_s(10, 4.0)
    2.5
    """
    return queued / requests_per_s


def served_first_token(own: Duration, chunks, residual_s, prefill_wait) -> Duration:
    """Return the time to first token of a request that has its place: own chunks and waits."""
    waits = waiting("wait for the running step", residual_s) + waiting("wait for prefill", prefill_wait)
    return own.times(chunks) + waits


def queued_first_token(served: Duration, queue_wait) -> Duration:
    """Return the time to first token with the wait for a place in memory before it."""
    return served + waiting("queue for memory", queue_wait)


def static_service(steps: Steps, load: Workload) -> Service:
    """Return the service of one batch: prefilled together, decoded to the end.

    The decode step is taken at the mean context of the generation; its time is nearly
    linear in the context, so the mean step is the step at the mean.
    """
    batch, prompt, output = load.concurrency, load.prompt_tokens, load.output_tokens
    ttft = steps.time(Sequences("prefill", batch, prompt, 0))
    tpot = steps.time(Sequences("decode", batch, 1, prompt + (output - 1) / 2))
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
    While a request decodes ``output - 1`` tokens the others prefill once each, in chunks of
    at most ``max_batched_tokens`` that share steps with the decodes. TPOT is the mean over
    steps with and without such a chunk; TTFT waits half a step, then for its own chunks.
    When prompts arrive faster than the token budget lets them in, requests wait for
    prefill: Little's law gives that wait.
    """
    prompt, output = load.prompt_tokens, load.output_tokens
    budget = steps.deployment.max_batched_tokens or steps.engine.max_batched_tokens or prompt
    chunks = prefill_chunks(prompt, budget)
    chunk = prompt / chunks
    decode_steps = decode_steps_of(output)
    decodes = Sequences("decode", in_flight, 1, prompt + (output - 1) / 2)

    arriving = arriving_chunks(chunks, in_flight)
    per_step = chunks_per_step(arriving, decode_steps, budget, chunk)
    share = mixed_share(arriving, decode_steps, per_step)
    mixed, decode = steps.time(decodes, _chunks(per_step, chunk, prompt, chunks)), steps.time(decodes)
    tpot = mean_step(share, mixed, decode).merged()

    others = Sequences("decode", in_flight - 1, 1, prompt + (output - 1) / 2)
    own = steps.time(others, _chunks(1.0, chunk, prompt, chunks))
    residual = residual_wait_s(tpot.seconds, in_flight)
    unqueued = e2e_latency_s(own.times(chunks).seconds + residual, tpot.seconds, output)
    prefill_wait = prefill_wait_s(in_flight, chunks, mixed.seconds, per_step, unqueued)
    served = served_first_token(own, chunks, residual, prefill_wait)
    rate = request_rate(in_flight, e2e_latency_s(served.seconds, tpot.seconds, output))
    queued = maximum(0, wanted - in_flight)
    queue_wait = queue_wait_s(queued, rate)
    ttft = queued_first_token(served, queue_wait).merged()
    latency = e2e_latency_s(ttft.seconds, tpot.seconds, output)
    mix = Mix(
        chunks, chunk, budget, decode_steps, arriving, per_step, share,
        mixed, decode, own, residual, prefill_wait, queue_wait,
    )  # fmt: skip
    return Service(ttft, tpot, latency, rate, token_rate(rate, output), in_flight, queued, mix)


def _chunks(n_chunks, chunk, prompt, chunks) -> Sequences:
    """Prompt chunks in one step; on average half of the rest of the prompt is cached."""
    return Sequences("prefill", n_chunks, chunk, (prompt - chunk) / 2, sampled=n_chunks / chunks)


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
