"""Speculative decoding: tokens per step, and what a step with drafts takes."""

from dataclasses import dataclass, replace

from calc.serving.steps import Steps, decode_rows
from calc.specs.model import Model
from calc.specs.numeric import where
from calc.specs.speculation import Speculation
from calc.timing.step_time import Duration, TimedOp
from calc.work.drafts import check_next_token_layer, draft_model, next_token_layers
from calc.work.op import Sequences

#: what the rows of drafting passes begin with
DRAFT_ROW = "draft."


def accepted_tokens_per_step(acceptance, draft_tokens):
    r"""Tokens that one verified step yields: the accepted drafts and one more of the model's own.

    .. math::  \frac{1 - a^{g+1}}{1 - a}

    Leviathan et al., Fast Inference from Transformers via Speculative Decoding, ICML 2023, eq. 1.

    Parameters
    ----------
    acceptance : number or array
        Probability ``a`` that a draft is kept, given that those before it were.
    draft_tokens : number or array
        Drafts ``g`` per step.

    Examples
    --------
    >>> accepted_tokens_per_step(0.5, 3), accepted_tokens_per_step(1.0, 3)
    (1.875, 4.0)
    """
    sure = acceptance >= 1
    safe = where(sure, 0.5, acceptance)
    return where(sure, tokens_if_all_kept(draft_tokens), tokens_if_some_kept(safe, draft_tokens))


def tokens_if_all_kept(draft_tokens):
    """Tokens of a step whose drafts are all accepted: they and one more.

    Examples
    --------
    >>> tokens_if_all_kept(3)
    4.0
    """
    return draft_tokens + 1.0


def tokens_if_some_kept(acceptance, draft_tokens):
    """Mean tokens of a step whose drafts are each accepted with a probability below 1.

    Examples
    --------
    >>> tokens_if_some_kept(0.5, 3)
    1.875
    """
    return (1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance)


@dataclass(frozen=True, eq=False)
class Speculated:
    """Decoding with drafts.

    ``verify`` is the step of the model on all drafts, ``draft`` all drafting passes before it;
    ``tpot`` their sum per token gained, ``plain`` a step without drafts; ``speedup`` is plain
    over tpot: below 1 drafting costs more than it gains.
    """

    tokens_per_step: object
    verify: Duration
    draft: Duration
    plain: Duration

    @property
    def tpot(self) -> Duration:
        """Mean time per output token."""
        return (self.verify + self.draft).times(1 / self.tokens_per_step)

    @property
    def speedup(self):
        """How many times as fast as without drafts."""
        return self.plain.seconds / self.tpot.seconds


def speculate(steps: Steps, speculation: Speculation, n_sequences, context_tokens) -> Speculated:
    """Return decoding with drafts of so many sequences at a mean context.

    Parameters
    ----------
    steps : Steps
        Of the model that verifies; the draft model runs on the same devices.
    speculation : Speculation
    n_sequences : number or array
        Sequences that decode together.
    context_tokens : number or array
        Cached tokens of each. [tokens]

    Notes
    -----
    Drafting passes take no host time of their own (one engine step holds them all); drafts of a
    step are equally long for all sequences. ``calc.memory`` counts the weights and the cache of
    what drafts.

    Examples
    --------
    >>> from calc.serving.scenario import steps_of
    >>> steps = steps_of("llama-3.1-8b", "h100-sxm")
    >>> drafted = speculate(steps, Speculation("ngram", draft_tokens=3, acceptance=0.5), 1, 1000)
    >>> print(f"{drafted.tokens_per_step} tokens a step, {drafted.speedup:.1f} times as fast")
    1.875 tokens a step, 1.8 times as fast
    """
    drafts = speculation.draft_tokens
    decodes = Sequences("decode", n_sequences, 1, context_tokens)
    verify, plain = steps.time(_verified(decodes, drafts)), steps.time(decodes)
    drafting = _drafting(steps, speculation)
    draft = Duration() if drafting is None else _passes(drafting.time(decodes), drafts)
    tokens = accepted_tokens_per_step(speculation.acceptance, drafts)
    return Speculated(tokens, verify, draft, plain)


@dataclass(frozen=True, eq=False)
class DraftedSteps(Steps):
    """Steps of a deployment that drafts: decode steps verify drafts, after the passes that make them.

    ``time`` takes decode groups of one new token each, as ``Steps`` does; a step gains
    ``tokens_per_step`` of them.
    """

    @property
    def tokens_per_step(self):
        """Tokens that a sequence gains in a decode step."""
        drafts = self.deployment.speculation
        return accepted_tokens_per_step(drafts.acceptance, drafts.draft_tokens)

    def time(self, *groups: Sequences) -> Duration:
        """Return the time of one step: drafting for the decodes in it, then all groups."""
        plain, speculation = Steps(**vars(self)), self.deployment.speculation
        drafting, drafts = _drafting(plain, speculation), speculation.draft_tokens
        total = plain.time(
            *(_verified(group, drafts) if group.phase == "decode" else group for group in groups)
        )
        decodes = [group for group in groups if group.phase == "decode"]
        if drafting is not None and decodes:
            total = total + _passes(drafting.time(*decodes), drafts)
        return total


def with_drafts(steps: Steps) -> Steps:
    """Return the steps of a deployment, those with drafts where it speculates."""
    if steps.deployment.speculation is None:
        return steps
    return DraftedSteps(**vars(steps))


def _verified(group: Sequences, drafts) -> Sequences:
    """Decodes whose drafts are verified: each brings the drafts and one token, all with logits."""
    return replace(group, new_tokens=drafts + 1, sampled=decode_rows(group.n_sequences, 1, drafts))


def _passes(once: Duration, drafts) -> Duration:
    """So many drafting passes; one engine step holds them all, so they take no host time of their own."""
    rows = (row.times(drafts) for row in once.rows if row.op is not None)
    named = (replace(row, name=DRAFT_ROW + row.name, op=row.op.times(drafts)) for row in rows)
    return Duration(tuple(named))


def is_draft(row: TimedOp) -> bool:
    """Whether a row of a step is one of its drafting passes."""
    return row.name.startswith(DRAFT_ROW)


def _drafting(steps: Steps, speculation: Speculation) -> Steps | None:
    """Steps of what drafts; None where it costs nothing."""
    if speculation.kind == "ngram":
        return None
    if speculation.kind == "draft":
        draft = draft_model(steps.model, speculation.draft_model)
        deployment = replace(steps.deployment, weight_dtype=None)
        return replace(steps, model=draft, deployment=deployment)
    return replace(steps, model=one_layer(steps.model, speculation))


def one_layer(model: Model, speculation: Speculation) -> Model:
    """Return a model cut down to what a pass of an EAGLE or MTP head runs: layer, embedding, lm_head."""
    check_next_token_layer(model, speculation)
    layers = next_token_layers(model) if speculation.kind == "mtp" else model.layers[-1:]
    return replace(model, layers=layers, mtp=(), mtp_outer=(), encoder_layers=(), encoder_tokens=None)
