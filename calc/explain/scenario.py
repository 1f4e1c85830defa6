"""Symbols that several explanations share: lengths, load, devices, links, with their origin."""

from dataclasses import replace

from calc.estimate import Estimate
from calc.explain.trace import Trace, origin
from calc.timing.collectives import (
    ASSUMED_HOST_LINK_BYTES_PER_S,
    ASSUMED_NETWORK_BYTES_PER_S,
    link_bytes_per_s,
)
from calc.work.budget import Memory, StageMemory
from calc.work.sharding import stages


def prompt_tokens(t: Trace, e: Estimate):
    """Return the symbol of the prompt's length."""
    return t.given("I", "prompt tokens of a request", e.workload.prompt_tokens, "tokens")


def output_tokens(t: Trace, e: Estimate):
    """Return the symbol of the answer's length."""
    return t.given("O", "output tokens of a request", e.workload.output_tokens, "tokens")


def sequences(t: Trace, e: Estimate):
    """Return the symbol of the sequences of a request, entered once; 1 where it is one."""
    if e.workload.sequences_per_request == 1:
        return 1
    words = "sequences of a request: beams, or n of best-of-n"
    return t.symbol("b_seq") or t.given("b_seq", words, e.workload.sequences_per_request, "count")


def in_flight(t: Trace, e: Estimate, value=None):
    """Return the symbol of the requests that run at once."""
    value = e.service.concurrency if value is None else value
    if value == e.workload.concurrency:
        return t.given("N", "requests in flight", value, "count")
    if e.workload.mode == "open_loop" and value == e.service.concurrency:
        note = "mean over the chain of steps, those that wait for a place left out"
        return t.derived("N", "requests in flight on average, all batches", value, "count", note)
    wanted = "as many as possible" if e.workload.concurrency is None else f"{e.workload.concurrency} wanted"
    return t.derived(
        "N", "requests in flight", value, "count", f"{wanted}; at most what memory and engine hold"
    )


def devices(t: Trace, e: Estimate):
    """Return the symbol of the number of devices."""
    return t.given("n", "devices of the deployment", e.n_devices, "count", note="tp * pp * dp")


def tensor_ranks(t: Trace, e: Estimate):
    """Return the symbol of the tensor-parallel ranks, entered once."""
    return t.symbol("tp") or t.given("tp", "tensor-parallel ranks", e.deployment.tp, "count")


def token_budget(t: Trace, e: Estimate):
    """Return the symbol of the tokens that a step may bring, entered once."""
    return t.symbol("B") or engine_setting(
        t, e, "B", "token budget of a step", "max_batched_tokens", e.deployment.max_batched_tokens
    )


def memory_with(e: Estimate, stage: dict, others=(), **fields) -> Memory:
    """Return the memory of the estimate with other values, numbers or symbols, in some fields.

    ``stage`` are those of one device of the tightest pipeline stage, ``others`` those of one
    device of each other stage.
    """
    part = replace(e.memory.tightest, **stage)
    rest = zip(other_stages(e).values(), others, strict=True) if others else ()
    parts = (part, *(replace(row, **values) for row, values in rest))
    return replace(e.memory, stages=parts, tightest=part, **fields)


def other_stages(e: Estimate) -> dict[int, StageMemory]:
    """Return the pipeline stages beside the tightest, by number from 1."""
    return {i: stage for i, stage in enumerate(e.memory.stages, 1) if stage is not e.memory.tightest}


def one_stage(e: Estimate) -> Estimate:
    """Return the estimate with the model of the tightest pipeline stage, which memory is explained for."""
    parts = stages(e.model, e.deployment.pp)
    return e if len(parts) == 1 else replace(e, model=parts[_tightest(e)])


def stage_notes(e: Estimate) -> list[str]:
    """Return a sentence on the pipeline stage that figures of one device are of."""
    pp = e.deployment.pp
    return [f"One device is of stage {_tightest(e) + 1} of {pp}, the tightest."] if pp > 1 else []


def _tightest(e: Estimate) -> int:
    return next(i for i, stage in enumerate(e.memory.stages) if stage is e.memory.tightest)


def stage_devices(t: Trace, e: Estimate):
    """Return the symbol of the devices of one pipeline stage."""
    if e.deployment.pp == 1:
        return devices(t, e)
    words, count = "devices of one pipeline stage", e.memory.ranks
    return t.given("n_stage", words, count, "count", note="tp * dp")


def data_ranks(t: Trace, e: Estimate):
    """Return the symbol of the attention-data ranks, entered once; 1 where there is one."""
    if e.deployment.dp == 1:
        return 1
    return t.symbol("dp") or t.given("dp", "attention-data-parallel ranks", e.deployment.dp, "count")


def context_ranks(t: Trace, e: Estimate):
    """Return the symbol of the ranks that share a sequence's tokens, entered once; 1 where there is one."""
    if e.deployment.cp == 1:
        return 1
    return t.symbol("cp") or t.given("cp", "decode context parallel ranks", e.deployment.cp, "count")


def engine_setting(t: Trace, e: Estimate, symbol: str, words: str, name: str, chosen):
    """Return the symbol of a number that the scenario may set and the engine else does."""
    if chosen is not None:
        return t.given(symbol, words, chosen, e.engine.facts[name].unit)
    return t.fact(symbol, words, e.engine.facts[name], note=f"default of {e.engine.name}")


def engine_number(t: Trace, e: Estimate, symbol: str, words: str, value, unit="ratio"):
    """Return the symbol of a number of the engine's overheads, with the runs it was fitted on."""
    host = e.overheads.host["step_s"]
    return t.given(symbol, words, value, unit, kind=host.kind, **origin(host.sources), note=host.note)


def model_size(t: Trace, e: Estimate, symbol: str, words: str, value, unit="count", note=""):
    """Return the symbol of a number in the model's configuration."""
    sources = origin(e.model.config_sources)
    return t.given(symbol, words, value, unit, kind=e.model.config_kind, **sources, note=note)


def link_bandwidth(t: Trace, e: Estimate, world):
    """Return the symbol of the bandwidth one device has towards the others."""
    device, words = e.device, "link bandwidth of one device, one direction"
    value = link_bytes_per_s(device, world)
    known = [
        fact
        for fact in (device.link.bandwidth, device.host_link, device.network, device.link.per_peer)
        if fact
    ]
    for fact in known:
        if fact.value == value:
            return t.fact("W_link", words, fact)
    if value in (ASSUMED_HOST_LINK_BYTES_PER_S, ASSUMED_NETWORK_BYTES_PER_S):
        note = "no figure for this device is known"
        return t.given("W_link", words, value, "byte/s", kind="assumed", source="", note=note)
    return t.derived("W_link", words, value, "byte/s", f"{device.link.topology} of {world} devices")
