"""Explanation of the KV cache that is reserved for all requests in flight."""

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.cache import kind_parts
from calc.explain.explanation import Part
from calc.explain.layers import CacheKind
from calc.explain.metrics import Answer
from calc.explain.quantities import shown
from calc.explain.requests import Held, held_by_request
from calc.explain.trace import Trace


def cache_bytes(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of KV cache that are reserved for the requests in flight."""
    held = held_by_request(t, e)
    count = scenario.in_flight(t, e, e.memory.held_concurrency)
    others = {number: _stage_fields(t, number, stage) for number, stage in scenario.other_stages(e).items()}
    names = [name for fields in others.values() for name in fields]
    symbols = [symbol for fields in others.values() for symbol in fields.values()]
    sizes = [len(fields) for fields in others.values()]
    total = t.define(
        "C", "cache on all devices", "byte",
        lambda ranks, count, dp, shared, size, *rest: _all_devices(
            e, (ranks, count, dp), (shared, size), _grouped(names, rest, sizes)
        ).cache_bytes,
        scenario.stage_devices(t, e), count, scenario.data_ranks(t, e), held.shared, held.total, *symbols,
    )  # fmt: skip
    return Answer([total], _parts(t, e, held), [*_reserved_notes(e, held), *scenario.stage_notes(e)])


def _stage_fields(t: Trace, number: int, stage) -> dict[str, object]:
    """Symbols of what a request and the shared prefix hold on a device of another stage."""
    words = f"cache of one request on a device of stage {number}"
    size = t.derived(f"C_stage_{number}", words, stage.request_bytes, "byte", "by its own layers")
    if not stage.shared_bytes:
        return {"request_bytes": size}
    words = f"cache of the shared prefix on a device of stage {number}"
    shared = t.derived(f"C_prefix_{number}", words, stage.shared_bytes, "byte", "by its own layers")
    return {"request_bytes": size, "shared_bytes": shared}


def _grouped(names, values, sizes) -> list[dict]:
    """Fields of each stage from a flat list of them."""
    pairs, stages = iter(zip(names, values, strict=True)), []
    for size in sizes:
        stages.append(dict(next(pairs) for _ in range(size)))
    return stages


def _all_devices(e: Estimate, counts, held, others):
    (ranks, count, dp), (shared, size) = counts, held
    stage = {"request_bytes": size, "shared_bytes": shared}
    return scenario.memory_with(e, stage, others, ranks=ranks, held_concurrency=count, dp=dp)


def _parts(t: Trace, e: Estimate, held: Held) -> list[Part]:
    """Rows by kind of layers; by what holds it where requests branch, share or have drafts."""
    ranks, count = e.memory.ranks, e.memory.held_concurrency / e.deployment.dp
    request, stage = held.sequence, scenario.one_stage(e)
    if not held.is_plain or held.shared:
        rows = {
            "shared prefix": float(t.values[held.shared]) if held.shared else 0.0,
            "requests": float(count * t.values[held.own]),
            "drafts of requests": float(count * t.values[held.draft]) if held.draft else 0.0,
        }
        parts = [Part(name, ranks * size, "byte", shown(ranks * size, "byte")) for name, size in rows.items()
                 if size]  # fmt: skip
    elif request.page is None:
        tokens, tp = t.values[request.tokens], e.deployment.tp
        parts = kind_parts(stage, lambda kind, width: ranks * count * kind.cache_bytes(tokens, width, tp))
    else:
        parts = [_charged(*row, ranks * count) for row in request.rows]
    others = scenario.other_stages(e).items()
    sizes = ((number, each.shared_bytes + count * each.request_bytes) for number, each in others)
    return parts + [_stage_part(number, float(ranks * size)) for number, size in sizes]


def _stage_part(number: int, size: float) -> Part:
    return Part(f"stage {number}", size, "byte", shown(size, "byte"), "all its layers")


def _charged(kind: CacheKind, size: float, layers: float, factor) -> Part:
    value, count = float(factor * size), kind.numbers.count
    note = f"{count} layers" + (f", charged as {layers:g}" if layers != count else "")
    details = {"layers": count, "charged_layers": layers}
    return Part(kind.name, value, "byte", shown(value, "byte"), note, details)


def _reserved_notes(e: Estimate, held: Held) -> list[str]:
    """Sentences on what is reserved against what is used, and on the pool."""
    m, request = e.memory, held.sequence
    kinds = [kind.numbers.kind for kind, *_ in request.rows]
    reserved, used = float(m.cache_bytes), float(m.cache_used_bytes)
    why = ["whole blocks"]
    if {"sliding", "chunked"} & set(kinds):
        why.append("room for the tokens of one step beside each window")
    if any(layers != kind.numbers.count for kind, _, layers in request.rows):
        why.append("groups of layers padded to one size")
    if "state" in kinds:
        why.append("pages of equal size for states and tokens")
    reasons = ", ".join(why[:-1]) + " and " + why[-1] if len(why) > 1 else why[0]
    notes = [
        "Every request is charged for its whole length, prompt and output.",
        *_sharing_notes(e),
        f"This is what {e.engine.name} reserves. The tokens themselves fill {shown(used, 'byte')} of it; "
        f"the rest is {reasons}."
        if reserved > used * (1 + 1e-9)
        else f"This is what {e.engine.name} reserves; the tokens fill all of it.",
        f"The engine's pool on all devices is {shown(float(m.cache_pool_bytes), 'byte')}.",
    ]
    if not m.fits:
        notes.append(f"It {e.fit_sentence()}.")
    return notes


def _sharing_notes(e: Estimate) -> list[str]:
    notes = []
    if e.workload.sequences_per_request > 1:
        notes.append("Full blocks of the prompt are kept once for all sequences of a request.")
    if e.memory.draft_cache_bytes:
        size = shown(float(e.memory.draft_cache_bytes), "byte")
        notes.append(f"What drafts keeps a cache of its own of the same tokens: {size} of it.")
    return notes
