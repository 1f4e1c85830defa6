"""Work of one step: the list of Ops that a set of sequences causes on one device.

Prefill, decode and mixed steps are one code path: a step is a tuple of ``Sequences``.
"""

from dataclasses import replace

from calc.specs.model import Layer, Model
from calc.work.attention import attention, step_tokens
from calc.work.feedforward import feedforward
from calc.work.op import Op, Precision, Sequences, allreduce, elementwise, gemm


def step_ops(model: Model, groups: tuple[Sequences, ...], precision: Precision, tp=1) -> list[Op]:
    """Return the operations of one step on one device.

    Parameters
    ----------
    model : Model
    groups : tuple of Sequences
        What the step works on; numbers or arrays that broadcast.
    precision : Precision
        Formats of weights, cache and math.
    tp : int or array
        Tensor-parallel ranks.

    Returns
    -------
    list of Op
        Work of one call each, with ``count`` how often it occurs.

    Notes
    -----
    An encoder runs in prefill: over the prompt, of which the decoder then reads a start
    token (T5, BART), or over its own fixed number of positions (Whisper).
    The embedding reads only the rows of the step's tokens; the lm_head runs on the last
    token of each sequence only. Ignored: gathering logits over ranks, position lookups.
    """
    ops = [_embedding(model, groups, precision, tp)]
    if model.encoder_tokens is not None:
        encoded = tuple(_encoder_group(model, group) for group in groups if group.phase == "prefill")
        ops += _layers(model, model.distinct_encoder_layers, encoded, precision, tp) if encoded else []
        groups = tuple(_decoder_group(model, group) for group in groups)
    ops += _layers(model, model.distinct_layers, groups, precision, tp)
    return ops + _head(model, groups, precision, tp)


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


def _layers(model: Model, layers, groups, precision: Precision, tp) -> list[Op]:
    ops = []
    for layer, count in layers:
        ops += [op.times(count) for op in _layer_ops(model, layer, groups, precision, tp)]
    return ops


def _embedding(model: Model, groups, precision: Precision, tp) -> Op:
    elements = step_tokens(groups) * model.d_model
    return Op(
        name="embedding",
        kind="embedding",
        dtype=precision.activation,
        weight_bytes=precision.weight_bytes("embedding", elements / tp),
        activation_bytes=precision.activation_bytes * elements,
    )


def _layer_ops(model: Model, layer: Layer, groups, precision: Precision, tp) -> list[Op]:
    elements = step_tokens(groups) * model.d_model
    ops = []
    if layer.norms:
        passes = len(layer.norms) if not layer.parallel else 1
        norm = elementwise("norm_and_residual", 2 * elements, 2 * elements, precision)
        ops.append(norm.times(min(passes, 2)))
    reductions = 0
    if layer.attention:
        ops += attention(layer.attention).ops(groups, precision, tp)
        reductions += 1
    if layer.feedforward:
        ops += feedforward(layer.feedforward).ops(groups, precision, tp)
        reductions += 0 if layer.parallel else 1
    if reductions:
        ops.append(allreduce("allreduce", elements, tp, precision).times(reductions))
    return ops


def _head(model: Model, groups, precision: Precision, tp) -> list[Op]:
    rows = sum(group.logit_rows for group in groups)
    role = "embedding" if model.tied_embeddings else "lm_head"
    logits = 2 * rows * model.vocab_size  # kept in fp32: two 16-bit widths
    return [
        elementwise("final_norm", rows * model.d_model, rows * model.d_model, precision),
        gemm("lm_head", role, rows, model.vocab_size / tp, model.d_model, precision),
        elementwise("sampler", 3 * logits, 2 * logits, precision),
    ]
