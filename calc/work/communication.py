"""Exchanges between devices as operations: what one device holds, sends or receives.

``Op.comm_bytes`` is the payload on one device: the tensor that is summed (all-reduce,
reduce-scatter), the one that results (all-gather), or all that a device sends, its own share
included (all-to-all, dispatch, combine). ``shape["stride"]`` is how many devices lie between
neighbours of the group, as engines number ranks: tensor parallel next to each other, then
stages, then data parallel.
"""

from dataclasses import replace

from calc.specs.numeric import where
from calc.work.expert_load import expert_ranks
from calc.work.experts import ExpertSizes
from calc.work.op import Op, Precision, allreduce
from calc.work.sharding import Split

#: kinds whose payload goes once round a ring; an all-reduce goes twice
ONE_ROUND = ("allgather", "reduce_scatter", "alltoall")
#: bytes per element sent to experts in 8 bits: a scale of 4 bytes for 128 elements
FP8_ROW_BYTES = 1 + 4 / 128


def collective(kind: str, name: str, elements, world, precision: Precision, stride=1) -> Op:
    """Return the Op of a collective over ``world`` devices.

    Parameters
    ----------
    kind : str
        ``allreduce``, ``custom_allreduce`` (kernels of an engine, NVLink peers), ``allgather``,
        ``reduce_scatter`` or ``alltoall``.
    elements : number or array
        Elements of the payload, in the activation dtype.
    """
    rounds = 1 if kind in ONE_ROUND else 2
    shape = {"world": world, "rounds": rounds, "stride": stride}
    return replace(allreduce(name, elements, world, precision), kind=kind, shape=shape)


def stage_hops(elements, split: Split, precision: Precision) -> Op:
    """Return the Op of passing activations from each pipeline stage to the next.

    Between two devices the payload crosses the link once, whole: ``rounds`` makes a ring of
    two of it. Ignored: the residual sent beside it, and cutting it over tensor-parallel ranks.
    """
    return Op(
        name="stage_hop",
        kind="p2p",
        dtype=precision.activation,
        comm_bytes=precision.activation_bytes * elements,
        count=split.pp - 1,
        shape={"world": 2, "rounds": 2, "stages": split.pp, "stride": split.tp},
    )


def expert_exchange(kind: str, name: str, tokens, copies, d_model, row_bytes, experts, world) -> Op:
    """Return the Op that sends tokens to their experts' devices or brings results back.

    Parameters
    ----------
    kind : str
        ``dispatch`` or ``combine``, with the kernels' name before it where there are several.
    tokens, copies : number or array
        Tokens of one device, and rows sent for each: one per expert (low-latency kernels),
        or one per device visited (``calc.work.expert_load.expert_ranks``).
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


def expert_exchanges(
    tokens, sizes: ExpertSizes, split: Split, precision: Precision, decode: bool
) -> tuple[list[Op], list[Op]]:
    """Return the Ops that bring ``tokens`` of one data-parallel rank to the experts and back.

    None without data parallelism: every device then has all tokens, and the sum over
    tensor-parallel ranks brings results together. Else, as engines do by default (assumed):

    - experts on no more devices than a token visits, or cut over all: an all-gather of every
      rank's tokens before and a reduce-scatter after;
    - whole experts on more devices than that: each token is sent to its experts' devices
      alone. Decode steps use low-latency kernels (a row for each expert), others one row for
      each device visited. Tensor-parallel ranks send a share of the tokens each; the sum over
      them after the layer gives every one all again.

    Rows go out in 8 bits where experts compute in them and come back in 16.

    References
    ----------
    .. [1] NVIDIA TensorRT-LLM chooses between both by ep > top_k; vLLM's default is
       ``allgather_reducescatter``, with DeepEP low-latency kernels recommended for decode.
    """
    if type(split.dp) is int and split.dp == 1:
        return [], []
    is_sent = (split.dp > 1) & (split.ep > 1) & (split.expert_devices > sizes.top_k)
    sent = where(is_sent, 1, 0)
    gathered = where(split.dp > 1, 1, 0) - sent
    ways = (
        (sent, _sent(tokens, sizes, split, precision, decode)),
        (gathered, _gathered(tokens, sizes, split, precision)),
    )
    used = [(count, pair) for count, pair in ways if not (type(count) is int and count == 0)]
    return tuple([pair[side].times(count) for count, pair in used] for side in (0, 1))


def _gathered(tokens, sizes: ExpertSizes, split: Split, precision: Precision) -> list[Op]:
    elements = tokens * split.dp * sizes.d_model
    group = split.dp, precision, split.tp
    return [
        collective("allgather", "moe.gather_tokens", elements, *group),
        collective("reduce_scatter", "moe.scatter_results", elements, *group),
    ]


def _sent(tokens, sizes: ExpertSizes, split: Split, precision: Precision, decode: bool) -> list[Op]:
    """Return dispatch and combine; ``shape["top_k"]`` tells kernels that merge rows for one node."""
    prefix = "deepep_ll_" if decode else ""
    visits = sizes.top_k if decode else expert_ranks(sizes.top_k, split.ep)
    out_bytes = FP8_ROW_BYTES if precision.math_dtype("expert") == "fp8" else precision.activation_bytes
    rows = tokens / split.tp, visits * split.expert_cut, sizes.d_model
    spread = sizes.n_experts, split.expert_devices
    ways = ("dispatch", out_bytes), ("combine", precision.activation_bytes)
    ops = [
        expert_exchange(f"{prefix}{way}", f"moe.{way}", *rows, row_bytes, *spread) for way, row_bytes in ways
    ]
    return ops if decode else [replace(op, shape={**op.shape, "top_k": sizes.top_k}) for op in ops]
