"""Explanations of the cache pool: tokens and requests that it holds at once."""

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.cache import Request
from calc.explain.memory import fixed_parts, of_stage, usable_memory
from calc.explain.metrics import Answer
from calc.explain.requests import Held, held_by_request
from calc.explain.trace import Trace
from calc.specs.errors import SpecError
from calc.work.budget import over_ranks
from calc.work.paging import tokens_of_pages, whole_pages
from calc.work.request_cache import beside_drafts, requests_held, tokens_held


def max_concurrency(t: Trace, e: Estimate) -> Answer:
    """Explain how many requests of the scenario's length the pool holds at once."""
    held, pool = _held(t, e), _pool(t, e)
    request, words = held.sequence, "requests of this length that the pool holds at once"
    ranks = scenario.data_ranks(t, e)
    if request.page is None:
        total = t.define(
            "N_most", words, "count",
            lambda ranks, pool, shared, size: over_ranks(ranks, requests_held(pool, shared, size)),
            ranks, pool, held.shared, held.total,
        )  # fmt: skip
    else:
        pages = _pages(t, pool, request)
        total = t.define(
            "N_most", words, "count",
            lambda ranks, pages, page, *size: over_ranks(ranks, requests_held(pages * page, *size)),
            ranks, pages, request.page, held.shared, held.total,
        )  # fmt: skip
    limit, each = int(e.steps.most_sequences), e.workload.sequences_per_request
    beams = f", {each} for every request," if each > 1 else ""
    return Answer([total], (), [
        f"The fraction is room for part of one more. At most {limit} sequences{beams} run at once in "
        f"{e.engine.name}, by {'your' if e.deployment.max_sequences else 'its'} limit max_sequences.",
        *_pool_notes(e),
    ])  # fmt: skip


def cache_tokens(t: Trace, e: Estimate) -> Answer:
    """Explain how many tokens the pool holds, as the engine's log counts them."""
    held = _held(t, e)
    request, pool = held.sequence, _own_pool(t, held, _pool(t, e))
    words, ranks = "tokens that the pool holds", scenario.data_ranks(t, e)
    if request.page is None:
        total = t.define(
            "T_pool", words, "tokens", lambda ranks, *held: over_ranks(ranks, tokens_held(*held)),
            ranks, pool, request.size, _length(t, request),
        )  # fmt: skip
        how = "The pool counted in tokens of requests of this length, blocks in part empty included."
    else:
        pages = _pages(t, pool, request)
        total = t.define(
            "T_pool", words, "tokens",
            lambda ranks, shares, *held: over_ranks(ranks, tokens_of_pages(*held) * shares),
            ranks, scenario.context_ranks(t, e), pages, request.groups, request.page_tokens,
        )  # fmt: skip
        how = f"Counted as {e.engine.name} does: a token takes its share of a page in every group of layers."
    return Answer([total], (), [how, *_pool_notes(e)])


def _length(t: Trace, request: Request):
    prompt, output = t.symbol("I"), t.symbol("O")
    return t.define("T_request", "tokens of a request", "tokens", lambda *each: sum(each), prompt, output)


def _held(t: Trace, e: Estimate) -> Held:
    held = held_by_request(t, e)
    if not t.values[held.sequence.size]:
        raise SpecError(f"{e.model.id}: it keeps no cache; allowed are models that do")
    return held


def _own_pool(t: Trace, held: Held, pool):
    """Symbol of the part of the pool that drafts leave to the model."""
    if not held.draft:
        return pool
    words = "memory left to the model's own cache on one device"
    return t.define("M_own", words, "byte", beside_drafts, pool, held.own, held.draft)


def _pool(t: Trace, e: Estimate):
    """Symbol of the pool on one device: what weights, activations and the rest leave."""
    fixed = fixed_parts(t, e)
    usable = usable_memory(t, e, fixed)
    fields = ("usable_bytes", *fixed)
    return t.define(
        "M_pool", "memory left to the cache on one device", "byte",
        of_stage(e, lambda stage: stage.cache_pool_bytes, *fields), usable, *fixed.values(),
    )  # fmt: skip


def _pages(t: Trace, pool, request: Request):
    return t.define("k_pool", "whole pages in the pool", "count", whole_pages, pool, request.page)


def _pool_notes(e: Estimate) -> list[str]:
    same, dp = e.deployment.tp * e.deployment.pp, e.deployment.dp
    notes = [f"The {same} devices of a replica hold the same requests."] if same > 1 else []
    notes += [f"Each of {dp} attention-data ranks holds requests of its own."] if dp > 1 else []
    notes += scenario.stage_notes(e)
    if not e.memory.fits:
        notes.append(f"It {e.fit_sentence()}.")
    return [*notes, "Fragmentation beyond whole cache blocks and groups is ignored."]
