"""Exchanges between devices as operations: what one device holds, sends or receives.

``Op.comm_bytes`` is the payload on one device: the tensor that is summed (all-reduce,
reduce-scatter), the one that results (all-gather), or all that a device sends, its own share
included (all-to-all, dispatch, combine).
"""

from dataclasses import replace

from calc.work.op import Op, Precision, allreduce

#: kinds whose payload goes once round a ring; an all-reduce goes twice
ONE_ROUND = ("allgather", "reduce_scatter", "alltoall")
#: bytes per element sent to experts in 8 bits: a scale of 4 bytes for 128 elements
FP8_ROW_BYTES = 1 + 4 / 128


def collective(kind: str, name: str, elements, world, precision: Precision) -> Op:
    """Return the Op of a collective over ``world`` devices.

    Parameters
    ----------
    kind : str
        ``allreduce``, ``custom_allreduce`` (kernels of an engine, NVLink peers), ``allgather``,
        ``reduce_scatter`` or ``alltoall``.
    elements : number or array
        Elements of the payload, in the activation dtype.
    """
    op = replace(allreduce(name, elements, world, precision), kind=kind)
    return replace(op, shape={**op.shape, "rounds": 1}) if kind in ONE_ROUND else op


def expert_exchange(kind: str, name: str, tokens, copies, d_model, row_bytes, experts, world) -> Op:
    """Return the Op that sends tokens to their experts' devices or brings results back.

    Parameters
    ----------
    kind : str
        ``dispatch`` or ``combine``, with the kernels' name before it where there are several.
    tokens, copies : number or array
        Tokens of one device, and rows sent for each: one per expert (low-latency kernels),
        or one per device visited (``calc.timing.collectives.expert_ranks``).
    row_bytes : number or array
        Bytes per element: 2, or ``FP8_ROW_BYTES`` in 8 bits. [byte]
    experts, world : number or array
        Routed experts in the layer, and devices they are spread over.
    """
    return Op(
        name=name,
        kind=kind,
        dtype="bf16",
        comm_bytes=1.0 * tokens * copies * d_model * row_bytes,
        items=tokens * copies,
        shape={"world": world, "rounds": 1, "experts": experts, "tokens": tokens},
    )
