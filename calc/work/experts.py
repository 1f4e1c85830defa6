"""The routed experts of one layer on one device: the work of the busiest rank."""

from typing import NamedTuple

from calc.work.expert_load import Load
from calc.work.op import Op, Precision


class ExpertSizes(NamedTuple):
    """Sizes of a layer of experts on one device; ``d_expert`` is what tensor parallelism leaves.

    ``matrices`` is 3 for gated experts (SwiGLU), 2 for plain ones.
    """

    d_model: object
    d_expert: object
    n_experts: object
    top_k: object
    matrices: object = 3


def routed_experts(tokens, sizes: ExpertSizes, load: Load, precision: Precision) -> Op:
    """Return the Op of the experts that ``tokens`` visit, on the rank with the given load.

    Weights of every expert hit are read once; a row (token-expert pair) is read, passes the
    inner width and is written.

    Parameters
    ----------
    tokens : number or array
        Tokens of all ranks that share the experts. [tokens]
    sizes : ExpertSizes
    load : Load
        Experts hit and rows on this rank, from ``calc.work.expert_load``.
    precision : Precision
    """
    hit, rows = load
    d_model, width, matrices = sizes.d_model, sizes.d_expert, sizes.matrices
    weight_bytes = precision.weight_bytes("expert", hit * matrices * d_model * width)
    return Op(
        name="moe.experts",
        kind="moe",
        dtype=precision.math_dtype("expert"),
        flops=2.0 * rows * matrices * d_model * width,
        weight_bytes=weight_bytes,
        activation_bytes=precision.activation_bytes * rows * (2 * d_model + (matrices + 1) * width),
        items=hit,
        format=precision.format_of("expert"),
        shape={
            "tokens": tokens, "top_k": sizes.top_k, "experts": sizes.n_experts, "hit": hit, "rows": rows,
            "d_model": d_model, "d_expert": width, "matrices": matrices, "weight_bytes": weight_bytes,
        },
    )  # fmt: skip
