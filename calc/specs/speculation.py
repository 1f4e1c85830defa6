"""Speculative decoding: who drafts, how many tokens, and how many of them are kept."""

from dataclasses import dataclass

from calc.specs.errors import SpecError
from calc.specs.workload import whole_number

#: who drafts tokens
KINDS = {
    "draft": "a smaller model, one pass a token",
    "eagle": "a head of one decoder layer with an lm_head, one pass a token",
    "mtp": "the checkpoint's own next-token layer, one pass a token",
    "ngram": "matches in the text so far; costs nothing",
}


@dataclass(frozen=True)
class Speculation:
    """Drafting before verifying, each step.

    Attributes
    ----------
    kind : str
        ``"draft"``, ``"eagle"``, ``"mtp"`` or ``"ngram"``.
    draft_tokens : int
        Tokens drafted per sequence and step.
    acceptance : float
        Probability that a drafted token is kept, given that those before it were. Depends on
        model, draft and text: it has to be given, nothing is assumed.
    draft_model : str, optional
        Model that drafts, ``kind="draft"`` only.

    Examples
    --------
    >>> Speculation("eagle", draft_tokens=3, acceptance=0.7).draft_tokens
    3
    """

    kind: str
    draft_tokens: int = 3
    acceptance: float = 0.0
    draft_model: str | None = None

    def __post_init__(self):
        if self.kind not in KINDS:
            raise SpecError(f"speculation: {self.kind!r} is not known; allowed are {', '.join(KINDS)}")
        object.__setattr__(self, "draft_tokens", whole_number("draft_tokens", self.draft_tokens, 1, 64))
        if not 0 < self.acceptance <= 1:
            raise SpecError(
                f"acceptance: {self.acceptance!r} is not allowed; allowed are 0 < acceptance <= 1"
            )
        if (self.kind == "draft") != (self.draft_model is not None):
            raise SpecError(
                f"draft_model: {self.draft_model!r} with {self.kind!r}; allowed is a model with 'draft' only"
            )
