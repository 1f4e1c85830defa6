"""What one device of a deployment holds: layers of its stage, weights and heads of its rank."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from calc.specs.deployment import Deployment
from calc.specs.errors import SpecError
from calc.specs.model import Model, Weight
from calc.specs.numeric import ceil, maximum

#: weights of these module classes belong to the first pipeline stage
_FIRST_STAGE_ROLES = ("embedding", "vision")


@dataclass(frozen=True, eq=False)
class Split:
    """Ranks among which the work of a step is shared out; numbers or arrays that broadcast.

    ``tp`` tensor-parallel ranks in each of ``pp`` stages (one whole number) and ``dp``
    attention-data ranks; ``ep`` ranks within ``tp * dp`` hold whole experts, ``cp`` ranks
    within ``tp`` a share of each sequence's cache.
    """

    tp: object = 1
    pp: int = 1
    ep: object = 1
    dp: object = 1
    cp: object = 1

    @property
    def expert_devices(self):
        """Devices of a stage over which routed experts are spread."""
        return self.tp * self.dp

    @property
    def expert_cut(self):
        """Devices that share one expert, each a part of its width."""
        return self.tp * self.dp / self.ep


def split_of(deployment: Deployment) -> Split:
    """Return the parallelism of a deployment."""
    return Split(deployment.tp, deployment.pp, deployment.ep, deployment.dp, deployment.cp)


def parameters_per_device(weight: Weight, tp, dp=1, ep=1):
    """Return how many of a weight's parameters one device of a stage holds.

    ``split`` says how tensor parallelism cuts it: by outputs or inputs (1/tp), by KV heads
    (1/tp until a rank holds one head, then copies), or not at all. Attention data parallel
    ranks hold copies of everything but routed experts; those are shared out over all
    ``tp * dp`` devices: whole experts to ``ep`` ranks, each cut over the rest. Padding of
    uneven cuts is ignored.

    Examples
    --------
    >>> parameters_per_device(Weight("k_proj", "attention", 1024, 4096, split="kv", kv_heads=8), tp=16)
    524288.0
    >>> experts = Weight("moe.experts.up_proj", "expert", 64, 32, copies=256, split="out")
    >>> parameters_per_device(experts, tp=4, dp=8, ep=32) / (64 * 32)
    8.0
    """
    if is_routed(weight):
        held = ceil(weight.copies / ep)
        cut = 1.0 if weight.split == "none" else tp * dp / ep
        return weight.parameters / weight.copies * held / cut
    if weight.name.startswith("vision.blocks."):  # a tower's blocks are cut too (vLLM's default)
        return weight.parameters / tp
    if weight.split == "none":
        return 1.0 * weight.parameters
    if weight.split == "kv":
        return weight.parameters * maximum(1, weight.kv_heads / tp) / weight.kv_heads
    return weight.parameters / tp


def is_routed(weight: Weight) -> bool:
    """Whether a weight belongs to routed experts."""
    return weight.role == "expert" or ".experts." in weight.name


def stage_layers(n_layers: int, pp: int) -> list[int]:
    """Return how many layers each pipeline stage holds, as vLLM shares them out.

    An even share; what is left over goes one each to the stages before the last, which
    holds the lm_head.

    Examples
    --------
    >>> stage_layers(32, 4), stage_layers(61, 4)
    ([8, 8, 8, 8], [15, 15, 16, 15])
    """
    if pp > n_layers:
        raise SpecError(f"pp: {pp} is more than the {n_layers} layers; allowed are 1 to {n_layers}")
    counts = [n_layers // pp] * pp
    for i in range(n_layers % pp):
        counts[-(i + 2) % pp] += 1
    return counts


@lru_cache(maxsize=256)
def stages(model: Model, pp: int) -> tuple[Model, ...]:
    """Return each pipeline stage as a model of its own: its layers, and what is around them.

    The first stage holds embedding, towers and encoder, the last the final norm and the lm_head (its
    own copy where the embedding is tied).
    """
    if pp == 1:
        return (model,)
    first = tuple(w for w in model.outer if w.role in _FIRST_STAGE_ROLES)
    last = tuple(w for w in model.outer if w.role not in _FIRST_STAGE_ROLES)
    if model.tied_embeddings:
        last += tuple(w for w in first if w.role == "embedding")
    parts, start = [], 0
    for index, count in enumerate(stage_layers(model.n_layers, pp)):
        outer = (first if index == 0 else ()) + (last if index == pp - 1 else ())
        encoder = model.encoder_layers if index == 0 else ()
        layers, stored = model.layers[start : start + count], model.checkpoint.stage(start, count)
        parts.append(replace(model, layers=layers, outer=outer, encoder_layers=encoder, checkpoint=stored))
        start += count
    return tuple(parts)


def head_counts(model: Model) -> list[int]:
    """Numbers of attention heads that occur in a model's layers."""
    layers = (*model.layers, *model.encoder_layers)
    heads = {dict(layer.attention.sizes).get("n_heads") for layer in layers if layer.attention}
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


def check_cp(model: Model, tp, cp) -> None:
    """Raise SpecError unless ``cp`` ranks would hold copies of the same keys and values.

    Tokens can be shared out only among ranks that tensor parallelism gives the same heads;
    engines refuse more when they start.
    """
    if type(cp) is int and cp == 1:
        return
    layers = [dict(layer.attention.sizes) for layer in model.layers if layer.attention]
    widest = max((sizes.get("n_kv_heads", 1) for sizes in layers), default=1)
    copies = maximum(1, np.asarray(tp) / widest)
    if np.any(np.asarray(cp) > copies):
        raise SpecError(
            f"cp: {cp} is more than the ranks that hold the same KV head of {model.id} at tp {tp}; "
            f"allowed are 1 to tp / {widest}"
        )
