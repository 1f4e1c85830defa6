"""Cache that a request holds on one device: its sequences, the prefix it shares, and its drafts."""

from dataclasses import dataclass, replace
from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.beside import Beside
from calc.explain.cache import Request, cache_of_request
from calc.explain.trace import Trace
from calc.explain.weights import weights_per_device
from calc.work.budget import held_by_role
from calc.work.drafts import Draft, draft_of
from calc.work.memory import precision_of
from calc.work.request_cache import RequestCache, reserved_bytes

#: what symbols and words of drafts end in
_DRAFTS = ("draft", "of what drafts")


@dataclass(frozen=True, eq=False)
class Held:
    """Symbols of what a request holds on one device of the tightest stage.

    ``sequence`` is the cache of one whole sequence, ``own`` what is reserved for a request,
    ``draft`` the same for its drafts, ``total`` both; ``shared`` what all requests share, drafts
    included. ``draft`` and ``shared`` are 0 where there is none.
    """

    sequence: Request
    own: object
    draft: object
    total: object
    shared: object

    @property
    def is_plain(self) -> bool:
        """Whether a request is one sequence that shares nothing and has no drafts."""
        return self.total is self.sequence.size


def held_by_request(t: Trace, e: Estimate) -> Held:
    """Return the symbols of what a request holds."""
    load, draft = e.workload, draft_on_tightest(e)
    is_alone = load.sequences_per_request == 1 and not load.shared_prefix_tokens
    sequence = cache_of_request(t, e, "C_request" if is_alone else "C_sequence")
    one = scenario.one_stage(e)
    own = sequence.size if is_alone else _reserved(t, one, sequence)
    total, drafts = own, 0.0
    if draft is not None:
        drafts = _draft_request(t, e, draft, is_alone)
        total = t.define(
            "C_held", "cache of one request and of its drafts on one device", "byte",
            lambda *each: sum(each), own, drafts,
        )  # fmt: skip
    return Held(sequence, own, drafts, total, _shared(t, e))


def _shared(t: Trace, e: Estimate):
    """Symbol of what all requests share on one device, 0 where they share nothing."""
    size = float(e.memory.shared_cache_bytes_per_device)
    if not size:
        return 0.0
    also = ", for drafts too" if e.memory.tightest.draft_shared_bytes else ""
    note = f"whole blocks of the {e.workload.shared_prefix_tokens:,} shared tokens{also}, kept once"
    return t.derived("C_prefix", "cache of the shared prefix on one device", size, "byte", note)


def _reserved(t: Trace, e: Estimate, sequence: Request):
    """Symbol of the cache of a request that branches or shares a prefix."""
    pages = RequestCache(e.model, e.deployment, e.workload, e.engine, precision_of(e.model, e.deployment))
    sequences = scenario.sequences(t, e)
    prompt = shared = 0.0
    if e.workload.sequences_per_request > 1:
        note = "full blocks of the prompt, counted as those of a sequence; its continuations share them"
        prompt = t.derived("C_prompt", "cache of the prompt on one device", pages.prompt_bytes, "byte", note)
    if e.workload.shared_prefix_tokens:
        note = "whole blocks, counted as those of a sequence; kept once for all requests"
        words = "cache of a sequence's part of the shared prefix on one device"
        shared = t.derived("C_shared", words, pages.shared_bytes, "byte", note)
    return t.define(
        "C_request", "cache of one request on one device", "byte",
        reserved_bytes, sequence.size, prompt, shared, sequences,
    )  # fmt: skip


def draft_on_tightest(e: Estimate) -> Draft | None:
    """Return what drafts on the tightest stage; it is on the last one only."""
    draft = draft_of(e.model, e.deployment)
    return draft if e.memory.tightest is e.memory.stages[-1] else None


def _draft_estimate(e: Estimate, draft: Draft) -> Estimate:
    """Return the estimate with what drafts in place of the model, on one stage."""
    roles = held_by_role(draft.model, draft.deployment, e.engine)
    held = SimpleNamespace(weights_bytes_by_role=roles, ranks=e.memory.ranks)
    return replace(e, model=draft.model, deployment=replace(draft.deployment, pp=1), memory=held)


def _draft_request(t: Trace, e: Estimate, draft: Draft, is_alone: bool):
    """Symbol of the cache of the drafts of one request."""
    beside, one = Beside(t, *_DRAFTS), _draft_estimate(e, draft)
    sequence = cache_of_request(beside, one, "C_request" if is_alone else "C_sequence")
    return sequence.size if is_alone else _reserved(beside, one, sequence)


def draft_weights(t: Trace, e: Estimate):
    """Return the symbol of the weights of what drafts on one device, 0 where there are none."""
    draft = draft_on_tightest(e)
    if draft is None:
        return 0.0
    return weights_per_device(Beside(t, *_DRAFTS), _draft_estimate(e, draft))[0]
