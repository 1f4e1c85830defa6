"""Symbols of speculative decoding: drafts of a step, what it gains, and the passes that make them."""

from calc.estimate import Estimate
from calc.explain.quantities import counted
from calc.explain.trace import Trace
from calc.serving.speculation import tokens_if_all_kept, tokens_if_some_kept
from calc.specs.speculation import KINDS
from calc.timing.step_time import TimedOp


def draft_tokens(t: Trace, e: Estimate):
    """Return the symbol of the drafts of a step, entered once; 0 without drafts."""
    drafts = e.deployment.speculation
    if drafts is None:
        return 0
    words = "tokens drafted for each sequence of a step"
    return t.symbol("g_drafts") or t.given("g_drafts", words, drafts.draft_tokens, "count")


def tokens_per_step(t: Trace, e: Estimate):
    """Return the symbol of the tokens that a step gains each sequence, entered once; 1 without drafts."""
    drafts = e.deployment.speculation
    if drafts is None:
        return 1
    if t.symbol("G"):
        return t.symbol("G")
    count, words = draft_tokens(t, e), "tokens that a step gains each sequence"
    if drafts.acceptance >= 1:
        return t.define("G", words, "count", tokens_if_all_kept, count)
    kept = t.given(
        "a_kept", "probability that a draft is kept after those before it", drafts.acceptance, "ratio"
    )
    note = "the drafts that are kept, and one more of the model's own"
    return t.define("G", words, "count", tokens_if_some_kept, kept, count, note=note)


def passes(t: Trace, e: Estimate, name: str, rows: list[TimedOp]):
    """Return the symbol of all drafting passes of a step, from the kinds of operations in one pass."""
    drafts = e.deployment.speculation
    kinds: dict[str, list[TimedOp]] = {}
    for row in rows:
        kinds.setdefault(row.op.kind, []).append(row)
    symbols = []
    for kind, each in kinds.items():
        seconds = sum(row.seconds for row in each) / drafts.draft_tokens
        if seconds > 0:
            calls = sum(row.calls or row.op.count for row in each) / drafts.draft_tokens
            words, note = (
                f"{kind.replace('_', ' ')}, drafting pass",
                f"{counted(calls, 'call')}, see the parts",
            )
            symbols.append(t.derived(f"t_pass_{kind}", words, seconds, "s", note))
    one = t.define("t_pass", f"one drafting pass: {KINDS[drafts.kind].partition(',')[0]}", "s",
                   lambda *seconds: sum(seconds), *symbols)  # fmt: skip
    return t.define(
        name, "drafting passes of a step", "s", lambda count, each: count * each, draft_tokens(t, e), one
    )


def notes(e: Estimate) -> list[str]:
    """Return sentences on drafts, none without."""
    drafts = e.deployment.speculation
    if drafts is None:
        return []
    return [
        f"A decode step verifies {counted(drafts.draft_tokens, 'draft')} of each sequence, all with logits; "
        "the drafting passes before it take no host time of their own.",
        "The probability that a draft is kept is given: it depends on model, draft and text.",
    ]
