"""Open loop: requests that arrive at a rate, without simulation.

The chain of ``step_chain`` over the requests in flight and the prompts that wait gives the time
per token by Little's law; what an arrival meets in it, plus its own prompt, is its time to
first token.
"""

import numpy as np

from calc.serving.batching import Service, e2e_latency_s, token_rate
from calc.serving.open_loop.answer import OpenLoop
from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.demand import demand_of
from calc.serving.open_loop.rate_chain import at_rate
from calc.serving.scenario import check_scalar
from calc.serving.scheduler import Scheduler, scheduler_of
from calc.serving.step_table import StepTable, step_table
from calc.serving.steps import Steps
from calc.specs.errors import SpecError
from calc.specs.numeric import maximum, minimum
from calc.specs.workload import Workload
from calc.timing.step_time import Duration, TimedOp, waiting
from calc.work.budget import Memory
from calc.work.op import Sequences


def open_loop(
    table: StepTable, rules: Scheduler, prompts: np.ndarray, outputs: np.ndarray, requests_per_s
) -> list[OpenLoop]:
    """Return what requests see at each of some arrival rates.

    Parameters
    ----------
    table : StepTable
    rules : Scheduler
    prompts, outputs : array
        Equally likely lengths (``Lengths.table``); independent of each other. [tokens]
    requests_per_s : number or array
        Poisson arrival rates; 0 is an idle deployment. [1/s]

    Notes
    -----
    Ignored: dependence of prompt and output length, that the number of decodes moves while a prompt
    waits, and recomputing after preemption, but for the highest rate where prompts are longer than a step.
    """
    demand = demand_of(np.asarray(prompts, float), np.asarray(outputs, float), rules)
    capacity = Capacity(table, rules, demand)
    rates = np.atleast_1d(requests_per_s) / rules.ranks
    return [at_rate(capacity, float(rate)).of_ranks(rules.ranks) for rate in rates]


def open_loop_service(steps: Steps, load: Workload, memory: Memory) -> Service:
    """Return the service of requests that arrive at a rate, or at several.

    Times are means over requests; percentiles are in ``Service.open_loop``. Without a steady
    state they are infinite and the rate of finished requests is the highest that can be had.
    """
    for name in ("prompt_tokens", "output_tokens", "shared_prefix_tokens", "sequences_per_request"):
        if np.ndim(getattr(load, name)):
            raise SpecError(f"{name}: an array is not allowed in an open loop; allowed is one number")
    check_scalar(steps.deployment)
    prompts = load.prompt_lengths.table(load.prompt_tokens)
    outputs = load.output_lengths.table(load.output_tokens)
    rules = scheduler_of(steps, memory, load.prompt_tokens + load.output_tokens)
    longest = int(min(prompts.max() + outputs.max(), 2**20))
    table = step_table(steps, rules.max_sequences, rules.budget_tokens, longest)
    found = open_loop(table, rules, prompts, outputs, load.requests_per_s)
    return _service(steps, load, found, float(outputs.mean()), rules)


def _service(steps: Steps, load: Workload, found: list[OpenLoop], output_tokens, rules: Scheduler) -> Service:
    is_array = np.ndim(load.requests_per_s) > 0

    def column(values):
        values = np.array(list(values), dtype=float)
        return values if is_array else float(values[0])

    ttft_s, tpot_s = column(each.ttft.mean for each in found), column(each.tpot.mean for each in found)
    tpot_s = np.where(np.isnan(tpot_s), 0.0, tpot_s)[()]
    running = column(min(each.mean_in_flight, each.cap * rules.ranks) for each in found)
    alone = steps.time(Sequences("prefill", 1, load.prompt_tokens, 0))
    context = load.prompt_tokens + (load.output_tokens - 1) / 2
    decode = steps.time(Sequences("decode", maximum(running / rules.ranks, 1.0), 1, context))
    rate = column(min(each.requests_per_s, each.max_requests_per_s) for each in found)
    return Service(
        ttft=_stretched(alone, waiting("queue, running step, prompts of others", 1.0), ttft_s),
        tpot=_stretched(decode, alone, tpot_s),
        e2e_latency_s=e2e_latency_s(ttft_s, tpot_s, output_tokens),
        requests_per_s=rate,
        output_tokens_per_s=token_rate(rate, output_tokens),
        concurrency=running,
        queued=column(each.mean_in_flight for each in found) - running,
        open_loop=tuple(found),
    )


def _stretched(base: Duration, other: Duration, seconds) -> Duration:
    """Return a step's rows and as much of another that both take so long; the first alone if it is longer."""
    is_finite = np.isfinite(seconds)
    known = np.where(is_finite, seconds, base.seconds)[()]
    share, more = minimum(1.0, known / base.seconds), maximum(0.0, known - base.seconds)
    rows = base.times(share) + other.times(more / other.seconds)
    if np.all(is_finite):
        return rows.merged()
    never = np.where(is_finite, 0.0, np.inf)[()]
    return (rows + Duration((TimedOp("no steady state", never),))).merged()
