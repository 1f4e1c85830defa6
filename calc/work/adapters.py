"""LoRA adapters: two thin matrices beside each projection."""

from calc.specs.model import Model, Weight
from calc.work.parameters import weights

ADAPTER_BYTES = 2  # LoRA matrices are kept in 16 bits
_ADAPTED_ROLES = ("attention", "feedforward", "shared_expert")


def adapter_parameters_per_device(model: Model, rank, tp=1):
    """Return parameters of one adapter on all attention and feed-forward matrices, per device.

    ``A`` is rank x inputs and ``B`` outputs x rank. As vLLM does, the side that touches a
    split dimension is cut with it and the other one is kept whole on every rank. Routed
    experts get none.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> adapter_parameters_per_device(load_model("llama-2-7b"), 16)
    39976960.0
    """
    return sum(count * _pair(weight, rank, tp) for weight, count in weights(model) if is_adapted(weight))


def adapters_bytes(slots, parameters):
    """Bytes of so many adapters of so many parameters each. [byte]

    Examples
    --------
    >>> adapters_bytes(4, 39_976_960)
    319815680
    """
    return ADAPTER_BYTES * slots * parameters


def is_adapted(weight: Weight) -> bool:
    """Whether a weight is a matrix that an adapter sits beside."""
    return weight.role in _ADAPTED_ROLES and weight.in_features > 1 and ".experts." not in weight.name


def _pair(weight: Weight, rank, tp):
    inputs = weight.in_features / (tp if weight.split == "in" else 1.0)
    outputs = weight.out_features / (tp if weight.split in ("out", "kv") else 1.0)
    return rank * (inputs + outputs) * weight.copies
