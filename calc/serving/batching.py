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
    """

    ttft: Duration
    tpot: Duration
    e2e_latency_s: object
    requests_per_s: object
    output_tokens_per_s: object
    concurrency: object
    queued: object


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
    return Service(ttft, tpot, latency, rate, rate * output, batch, 0)


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
    budget = steps.deployment.max_batched_tokens or steps.engine.max_batched_tokens
    chunks = ceil(prompt / budget)
    chunk = prompt / chunks
    decode_steps = maximum(output - 1, 1)
    decodes = Sequences("decode", in_flight, 1, prompt + (output - 1) / 2)

    arriving = chunks * (in_flight - 1)  # prompt chunks of the others during one generation
    per_step = maximum(1.0, arriving / decode_steps)
    per_step = minimum(per_step, maximum(1.0, budget / chunk))
    share = minimum(1.0, arriving / decode_steps / per_step)
    mixed = steps.time(decodes, _chunks(per_step, chunk, prompt, chunks))
    tpot = (mixed.times(share) + steps.time(decodes).times(1 - share)).merged()

    others = Sequences("decode", in_flight - 1, 1, prompt + (output - 1) / 2)
    own = steps.time(others, _chunks(1.0, chunk, prompt, chunks)).times(chunks)
    residual = tpot.seconds * (in_flight - 1) / in_flight / 2
    prefill_wait = _prefill_wait(per_step, chunks, mixed.seconds, in_flight, own.seconds + residual, tpot, output)
    served = own + waiting("wait for the running step", residual) + waiting("wait for prefill", prefill_wait)
    latency_in_service = e2e_latency_s(served.seconds, tpot.seconds, output)
    rate = request_rate(in_flight, latency_in_service)
    queued = maximum(0, wanted - in_flight)
    ttft = (served + waiting("queue for memory", queued / rate)).merged()
    latency = e2e_latency_s(ttft.seconds, tpot.seconds, output)
    return Service(ttft, tpot, latency, rate, rate * output, in_flight, queued)


def _chunks(n_chunks, chunk, prompt, chunks) -> Sequences:
    """Prompt chunks in one step; on average half of the rest of the prompt is cached."""
    return Sequences("prefill", n_chunks, chunk, (prompt - chunk) / 2, sampled=n_chunks / chunks)


def _prefill_wait(per_step, chunks, mixed_s, in_flight, unqueued_s, tpot: Duration, output):
    """Wait that the prefill rate enforces: N in flight cannot turn over faster than it."""
    least_latency = in_flight * chunks * mixed_s / per_step
    return maximum(0.0, least_latency - e2e_latency_s(unqueued_s, tpot.seconds, output))


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
