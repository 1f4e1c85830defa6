"""Work of one step: the list of Ops that a set of sequences causes on one device.

Prefill, decode and mixed steps are one code path: a step is a tuple of ``Sequences``.
"""

from dataclasses import replace
from typing import NamedTuple

from calc.specs.model import Layer, Model
from calc.work.attention import attention, step_tokens
from calc.work.communication import collective, stage_hops
from calc.work.context_parallel import over_context_ranks
from calc.work.feedforward import feedforward
from calc.work.op import Op, Precision, Sequences, allreduce, elementwise, gemm
from calc.work.sharding import Split

ONE_DEVICE = Split()


def step_ops(
    model: Model,
    groups: tuple[Sequences, ...],
    precision: Precision,
    split: Split = ONE_DEVICE,
    *,
    expert_skew=0.0,
) -> list[Op]:
    """Return the operations of one step on one device, through all layers of the model.

    Parameters
    ----------
    model : Model
    groups : tuple of Sequences
        What the step works on: sequences of one attention-data-parallel rank, as many on each
        of the others; numbers or arrays that broadcast.
    precision : Precision
        Formats of weights, cache and math.
    split : Split
        Parallelism. With pipeline stages the layers of all follow one another, with a hop
        between them: the path of these sequences, on a device of each stage in turn.
    expert_skew : number or array
        Exponent of the power law of expert popularity; 0 is uniform routing. [1]

    Returns
    -------
    list of Op
        Work of one call each, with ``count`` how often it occurs.

    Notes
    -----
    An encoder runs in prefill: over the prompt, of which the decoder then reads a start
    token (T5, BART), or over its own fixed number of positions (Whisper).
    The embedding reads only the rows of the step's tokens; the lm_head runs on the last
    token of each sequence only; ranks gather each other's share of its logits in the activation
    dtype. Ignored: position lookups.
    """
    how = _How(precision, split, expert_skew)
    ops = [embedding(step_tokens(groups), model.d_model, precision, split.tp)]
    if model.encoder_tokens is not None:
        encoded = tuple(_encoder_group(model, group) for group in groups if group.phase == "prefill")
        ops += _layers(model, model.distinct_encoder_layers, encoded, how) if encoded else []
        groups = tuple(_decoder_group(model, group) for group in groups)
    ops += _layers(model, model.distinct_layers, groups, how)
    if split.pp > 1:
        ops.append(stage_hops(step_tokens(groups) * model.d_model, split, precision))
    return ops + _head(model, groups, how)


class _How(NamedTuple):
    """Formats and parallelism of a step, and how unevenly experts are visited."""

    precision: Precision
    split: Split
    expert_skew: object


def _encoder_group(model: Model, group: Sequences) -> Sequences:
    """Return what the encoder works on in a prefill step: the prompt, or its own positions."""
    if not model.encoder_tokens:
        return group
    return Sequences("prefill", group.logit_rows, model.encoder_tokens, 0)


def _decoder_group(model: Model, group: Sequences) -> Sequences:
    """Return what the decoder works on, with the encoder positions it looks at.

    Where the encoder reads the prompt, the tokens before a decoded one are taken for encoder
    positions: both attentions keep and read as much per token, so the sum is the same.
    """
    fixed, context = model.encoder_tokens, group.past_tokens + group.new_tokens
    if group.phase == "decode":
        if fixed:
            return replace(group, source_tokens=fixed)
        return replace(group, past_tokens=0, source_tokens=group.past_tokens)
    if fixed:
        return replace(group, source_tokens=fixed, encoded_tokens=group.logit_rows * fixed)
    start = Sequences("prefill", group.logit_rows, 1, 0, group.sampled)
    return replace(start, source_tokens=context, encoded_tokens=group.tokens)


def _layers(model: Model, layers, groups, how: _How) -> list[Op]:
    ops = []
    for layer, count in layers:
        ops += [op.times(count) for op in _layer_ops(model, layer, groups, how)]
    return ops


def embedding(tokens, d_model, precision: Precision, tp=1) -> Op:
    """Return the Op of reading the rows of so many tokens from the embedding table."""
    elements = tokens * d_model
    return Op(
        name="embedding",
        kind="embedding",
        dtype=precision.activation,
        weight_bytes=precision.weight_bytes("embedding", elements / tp),
        activation_bytes=precision.activation_bytes * elements,
    )


def norm_and_residual(elements, precision: Precision) -> Op:
    """Return the Op of adding an update to the residual stream and normalising it.

    Both are read, both are written.
    """
    return elementwise("norm_and_residual", 2 * elements, 2 * elements, precision)


def final_norm(elements, precision: Precision) -> Op:
    """Return the Op of the norm before the lm_head."""
    return elementwise("final_norm", elements, elements, precision)


def sampler(rows, vocab_size, precision: Precision) -> Op:
    """Return the Op of choosing a token from each row of logits, which are kept in fp32."""
    logits = 2 * rows * vocab_size  # in 16-bit widths
    return elementwise("sampler", 3 * logits, 2 * logits, precision)


def _layer_ops(model: Model, layer: Layer, groups, how: _How) -> list[Op]:
    precision, split, skew = how
    elements = step_tokens(groups) * model.d_model
    ops = []
    if layer.norms:
        passes = len(layer.norms) if not layer.parallel else 1
        ops.append(norm_and_residual(elements, precision).times(min(passes, 2)))
    reductions = 0
    if layer.attention:
        part = attention(layer.attention).ops(groups, precision, split.tp)
        ops += over_context_ranks(part, split.cp, precision)
        reductions += 1
    if layer.feedforward:
        ops += feedforward(layer.feedforward).ops(groups, precision, split, skew)
        reductions += 0 if layer.parallel else 1
    if reductions:
        ops.append(allreduce("allreduce", elements, split.tp, precision).times(reductions))
    return ops


def _head(model: Model, groups, how: _How) -> list[Op]:
    precision, tp = how.precision, how.split.tp
    rows = sum(group.logit_rows for group in groups)
    role = "embedding" if model.tied_embeddings else "lm_head"
    return [
        final_norm(rows * model.d_model, precision),
        gemm("lm_head", role, rows, model.vocab_size / tp, model.d_model, precision),
        collective("allgather", "logits_gather", rows * model.vocab_size, tp, precision),
        sampler(rows, model.vocab_size, precision),
    ]
