"""Model states: what ZeRO partitions, and the adapters of LoRA."""

from dataclasses import replace

from calc.specs.errors import unknown_name
from calc.specs.model import Layer, Model, Weight
from calc.work.adapters import is_adapted
from calc.work.feedforward import feedforward
from calc.work.parameters import layer_weights
from calc.work.sharding import is_routed


def zero_partitions(zero_stage: int, dp) -> dict[str, object]:
    """Return over how many ranks ZeRO cuts each model state.

    Examples
    --------
    7.5 billion parameters on 64 ranks, figure 1 of the ZeRO paper: 120, 31.4, 16.6, 1.9 GB.

    >>> kept = {"optimizer": 12, "gradients": 2, "weights": 2}
    >>> for stage in range(4):
    ...     cut = zero_partitions(stage, 64)
    ...     print(f"{sum(state_bytes(7.5e9, kept[name], cut[name]) for name in kept) / 1e9:.1f}")
    120.0
    31.4
    16.6
    1.9
    """
    first_stage = {"optimizer": 1, "gradients": 2, "weights": 3}
    return {name: dp if zero_stage >= first else 1 for name, first in first_stage.items()}


def state_bytes(parameters, bytes_per_parameter, partition):
    """Bytes of one model state on one of ``partition`` ranks. [byte]"""
    return parameters * bytes_per_parameter / partition


def adapters(model: Model, rank: int, targets="all-linear") -> list[tuple[Weight, int]]:
    """Return the LoRA matrices of a model: ``rank x in`` and ``out x rank`` beside each target.

    ``"all-linear"`` adapts every matrix of attention, feed-forward and experts, not router and lm_head.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> rows = adapters(load_model("llama-2-7b"), 16, "q_proj,v_proj")
    >>> print(f"{sum(weight.parameters * count for weight, count in rows):,}")
    8,388,608
    """
    names = target_names(model, targets)
    return [
        (matrix, count)
        for layer, count in model.distinct_layers
        for weight in linear_weights(layer)
        if weight.name in names
        for matrix in low_rank(weight, rank)
    ]


def target_names(model: Model, targets) -> set[str]:
    """Names of the weights that get adapters."""
    linears = {weight.name for layer, _ in model.distinct_layers for weight in linear_weights(layer)}
    wanted = [name.strip() for name in targets.split(",")] if isinstance(targets, str) else list(targets)
    if wanted == ["all-linear"]:
        return linears
    short = {name.rpartition(".")[2] for name in linears}
    for name in wanted or [""]:
        if name not in linears | short:
            raise unknown_name("lora target", str(name), [*short, "all-linear"])
    return {name for name in linears if name in wanted or name.rpartition(".")[2] in wanted}


def linear_weights(layer: Layer) -> list[Weight]:
    """Matrices of a layer that LoRA can adapt; gate and up of experts one by one."""
    found = []
    for weight in layer_weights(layer):
        if weight.in_features == 1 or not (is_adapted(weight) or is_routed(weight)):
            continue
        if weight.name == "moe.experts.up_proj" and feedforward(layer.feedforward).gated:
            half = replace(weight, out_features=weight.out_features // 2)
            found += [replace(half, name="moe.experts.gate_proj"), half]
        else:
            found.append(weight)
    return found


def low_rank(weight: Weight, rank: int) -> tuple[Weight, Weight]:
    """The two matrices beside a weight; tensor parallelism cuts the side that it cuts of the weight."""
    cut = ("in", "none") if weight.split == "in" else ("none", weight.split)
    down = replace(weight, name=f"{weight.name}.lora_a", out_features=rank, split=cut[0])
    return down, replace(weight, name=f"{weight.name}.lora_b", in_features=rank, split=cut[1])
