"""What one device of a deployment holds: weights and heads under tensor parallelism."""

import numpy as np

from calc.specs.errors import SpecError
from calc.specs.model import Model, Weight
from calc.specs.numeric import maximum


def parameters_per_device(weight: Weight, tp):
    """Return how many of a weight's parameters one of ``tp`` ranks holds.

    ``split`` says how: by outputs or inputs (1/tp), by KV heads (1/tp until a rank holds
    one head, then copies), or not at all. Padding of uneven cuts is ignored.

    Examples
    --------
    >>> parameters_per_device(Weight("k_proj", "attention", 1024, 4096, split="kv", kv_heads=8), tp=16)
    524288.0
    """
    if weight.split == "none":
        return 1.0 * weight.parameters
    if weight.split == "kv":
        return weight.parameters * maximum(1, weight.kv_heads / tp) / weight.kv_heads
    return weight.parameters / tp


def head_counts(model: Model) -> list[int]:
    """Numbers of attention heads that occur in a model's layers."""
    heads = {dict(layer.attention.sizes).get("n_heads") for layer in model.layers if layer.attention}
    return sorted(heads - {None})


def tp_choices(model: Model, candidates) -> list[int]:
    """Return the candidates that divide the attention heads of every layer."""
    return [tp for tp in candidates if all(n_heads % tp == 0 for n_heads in head_counts(model))]


def check_tp(model: Model, tp) -> None:
    """Raise SpecError unless ``tp`` divides the attention heads of every layer.

    Engines refuse such a split when they start.
    """
    for n_heads in head_counts(model):
        if np.any(n_heads % np.asarray(tp)):
            allowed = ", ".join(str(size) for size in tp_choices(model, range(1, 65)))
            raise SpecError(
                f"tp: {tp} does not divide the {n_heads} attention heads of {model.id}; allowed are {allowed}"
            )
