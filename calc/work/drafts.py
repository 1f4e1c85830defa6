"""What drafts tokens ahead, as an engine holds it in memory beside the model it drafts for."""

from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from calc.specs.deployment import Deployment
from calc.specs.errors import SpecError
from calc.specs.model import Layer, Model, Weight
from calc.specs.model_files import load_model
from calc.specs.speculation import Speculation
from calc.work.sharding import check_tp, tp_choices

#: what checkpoints store once more for each next-token layer, and engines share with the model
_SHARED = ("mtp.embed_tokens", "mtp.lm_head")


class Draft(NamedTuple):
    """What drafts: a model whose weights and layers are those held, and the formats it runs in."""

    model: Model
    deployment: Deployment


def draft_of(model: Model, deployment: Deployment) -> Draft | None:
    """Return what drafts for a model; None without drafts, and for an n-gram, which holds nothing.

    Parameters
    ----------
    model : Model
        The model that verifies.
    deployment : Deployment
        Its ``speculation`` says who drafts. A draft model has the formats of its own checkpoint,
        a head those of the model; both the cache format of the deployment.

    Raises
    ------
    SpecError
        If a draft model has another vocabulary, the model no next-token layer, or ``tp`` does not
        divide the heads of the draft model, which engines refuse when they start.

    Notes
    -----
    Assumed for every engine: drafts run on the ``tp`` ranks of the last pipeline stage, as in vLLM,
    which refuses another tp for a draft model (``DraftModelProposer``). Assumed: an EAGLE head is
    a layer such as the model's last one and a projection of two hidden states to one, and it
    shares embedding and lm_head with the model; EAGLE-3 heads with an lm_head of their own are a
    little larger. Next-token layers share both too. Behind several pipeline stages a head holds an
    embedding of its own (vLLM's ``_maybe_share_embeddings``).

    Examples
    --------
    >>> drafts = Speculation("draft", 3, 0.7, draft_model="llama-3.2-1b")
    >>> draft_of(load_model("llama-3.1-70b"), Deployment(speculation=drafts)).model.n_layers
    16
    """
    speculation = deployment.speculation
    if speculation is None or speculation.kind == "ngram":
        return None
    if speculation.kind == "draft":
        held, formats = draft_model(model, speculation.draft_model), replace(deployment, weight_dtype=None)
        check_tp(held, deployment.tp)
        return Draft(held, formats)
    return Draft(_head(model, speculation, deployment.pp > 1), deployment)


def draft_model(model: Model, name: str) -> Model:
    """Return the model of that name, checked to have the vocabulary of the one it drafts for."""
    draft = load_model(name)
    if draft.vocab_size != model.vocab_size:
        raise SpecError(
            f"draft_model: {draft.id} has a vocabulary of {draft.vocab_size} tokens; allowed are models "
            f"with the {model.vocab_size} of {model.id}"
        )
    return draft


def check_next_token_layer(model: Model, speculation: Speculation) -> None:
    """Raise SpecError unless a model has the next-token layer that is to draft."""
    if speculation.kind == "mtp" and not model.mtp:
        raise SpecError(f"speculation: {model.id} has no next-token layer; allowed are draft, eagle, ngram")


def next_token_layers(model: Model) -> tuple[Layer, ...]:
    """Return the layers that one pass of a next-token head runs: a head may be attention and experts apart.

    Where a checkpoint has a head for each of several tokens ahead, those of the first.

    Examples
    --------
    >>> len(next_token_layers(load_model("step-3.7-flash"))), len(load_model("step-3.7-flash").mtp)
    (1, 3)
    >>> len(next_token_layers(load_model("nemotron-3-super-120b-a12b-fp8")))
    2
    """
    heads = max((weight.copies for weight in model.mtp_outer if weight.role == "mtp"), default=1)
    return model.mtp[: max(1, len(model.mtp) // heads)]


@lru_cache(maxsize=256)
def _head(model: Model, speculation: Speculation, has_embedding: bool) -> Model:
    """Return an EAGLE head or the next-token layers as a model of what they hold for themselves."""
    check_next_token_layer(model, speculation)
    if speculation.kind == "mtp":
        layers, start = model.mtp, model.n_layers
        outer = tuple(weight for weight in model.mtp_outer if weight.name not in _SHARED)
    else:
        layers, start = model.layers[-1:], model.n_layers - 1
        outer = (Weight("eagle.fc", "mtp", model.d_model, 2 * model.d_model),)
    if has_embedding:
        outer += tuple(weight for weight in model.outer if weight.name == "embed_tokens")
    return replace(
        model, layers=layers, outer=outer, mtp=(), mtp_outer=(), encoder_layers=(), encoder_tokens=None,
        checkpoint=model.checkpoint.stage(start, len(layers)),
    )  # fmt: skip


def tp_choices_with_drafts(model: Model, deployment: Deployment, candidates) -> list[int]:
    """Return the candidates that divide the attention heads of a model and of its draft model.

    Examples
    --------
    >>> drafts = Speculation("draft", 3, 0.7, draft_model="qwen2.5-0.5b")
    >>> tp_choices_with_drafts(load_model("qwen2.5-3b"), Deployment(speculation=drafts), (1, 2, 4, 7, 8))
    [1, 2]
    """
    found, speculation = tp_choices(model, candidates), deployment.speculation
    if speculation is None or speculation.kind != "draft":
        return found
    return tp_choices(draft_model(model, speculation.draft_model), found)
