"""What autograd keeps: activations of layers, adapters and logits."""

from dataclasses import dataclass
from typing import NamedTuple

from calc.specs.model import Layer, Model, Part
from calc.specs.numeric import maximum
from calc.work.attention import attention
from calc.work.causal import heads_per_device
from calc.work.feedforward import feedforward
from calc.work.finetuning.settings import DTYPE_BYTES, LOGIT_BYTES, FineTuning
from calc.work.finetuning.states import linear_weights, target_names


@dataclass(frozen=True, eq=False)
class Kept:
    """What one token leaves in one layer until the backward pass, on one device. [byte]

    ``whole`` is the same on every tensor-parallel rank, ``split`` one rank's share, ``scores``
    the attention scores' share that selective checkpointing recomputes.
    """

    whole: object
    split: object
    scores: object


def layer_activation_bytes(tokens, whole, split, scores, partition=1):
    r"""Bytes of activations that one layer keeps on one device. [byte]

    .. math::  T \, (whole / partition + split + scores)

    ``partition`` is tp under sequence parallelism, else 1.

    Examples
    --------
    GPT-3 at 2048 tokens, 12288 wide, 96 heads: ``s b h (34 + 5 a s / h)``, table 2 of arXiv 2205.05198.

    >>> h, a, s = 12288, 96, 2048
    >>> layer_activation_bytes(s, 10 * h, 24 * h, 5 * a * s) == s * h * (34 + 5 * a * s / h)
    True
    """
    return tokens * (whole / partition + split + scores)


def kept_per_token(layer: Layer, d_model: int, how: FineTuning) -> Kept:
    """Return what one token leaves in one layer, in 16 bits, until the backward pass.

    Operands of attention and of activation functions; inputs of norms; inputs of matrix
    products whose weights (or adapters) are trained; with dropout, a byte per mask element.
    """
    mixing, forward = layer.attention, layer.feedforward
    parts = [KEPT_OF_KIND[mixing.kind](mixing, how)] if mixing else []
    parts += [_feedforward_elements(forward, how)] if forward else []
    normed = sum(weight.out_features for weight in layer.norms if not weight.name.endswith(".bias"))
    norm = norm_bytes(layer.norms, how)
    linear = 2 if how.full or DTYPE_BYTES[how.adapter_dtype] == 2 else 0  # fp32 adapters copy their inputs
    masks = d_model * len(parts) if how.dropout else 0
    return Kept(
        whole=sum(2 * p.operands + linear * p.inputs for p in parts) + norm * normed + masks,
        split=sum(2 * p.inner_operands + linear * p.inner_inputs + norm * p.inner_normed for p in parts),
        scores=_score_bytes(mixing, how),
    )


def norm_bytes(norms, how: FineTuning) -> int:
    """Bytes that one element of a norm's input leaves.

    A LayerNorm (one with a bias) keeps its input. An RMSNorm as transformers writes it keeps
    the input in fp32 and, where its weight is trained, the normalised input.
    """
    if any(weight.role == "norm" and weight.name.endswith(".bias") for weight in norms):
        return 2
    return 6 if how.full else 4


class _Elements(NamedTuple):
    """Elements per token: operands, inputs of matrix products; ``inner`` ones are one rank's share."""

    operands: object
    inputs: object
    inner_operands: object
    inner_inputs: object = 0
    inner_normed: object = 0


def _grouped_query(part: Part, how: FineTuning) -> _Elements:
    """Queries, keys, values, output; without flash attention keys and values are repeated to all heads."""
    a = attention(part)
    heads, kv_heads = a.n_heads / how.tp, heads_per_device(a.n_kv_heads, how.tp)
    stored = 0 if a.shares_cache else kv_heads
    held = stored if how.flash_attention else heads
    pair = a.d_head + a.value_width
    gate = 2 * heads * a.value_width if a.gated else 0
    normed = (heads + kv_heads) * a.d_head if a.qk_norm else 0
    return _Elements(0, a.d_model, (heads + held) * pair + gate, inner_normed=normed)


def _latent(part: Part, how: FineTuning) -> _Elements:
    """Expanded queries, keys, values and output; the latents' norms at 6 bytes an element."""
    a = attention(part)
    latents = a.q_lora_rank + a.kv_lora_rank
    inner = 2 * (a.d_nope + a.d_rope + a.d_value) * a.n_heads / how.tp
    return _Elements(3 * latents, a.d_model + latents, inner)


def _delta_net(part: Part, how: FineTuning) -> _Elements:
    """Convolution before, after and activated; gate and output. Assumed: chunk states recomputed."""
    a = attention(part)
    values = a.n_value_heads * a.d_value / how.tp
    conv = 2 * a.n_key_heads * a.d_key / how.tp + values
    return _Elements(0, a.d_model, 3 * conv + 2 * values, values)


#: kind of attention -> what one token leaves in it
KEPT_OF_KIND = {
    "gqa": _grouped_query, "gqa_block_sparse": _grouped_query, "mla": _latent, "gated_delta_net": _delta_net,
}  # fmt: skip


def _feedforward_elements(part: Part, how: FineTuning) -> _Elements:
    """Gate, its activation and up (or a plain activation's input); of experts per token and visit."""
    f = feedforward(part)
    tensors = 3 if f.gated else 1
    if part.kind == "moe":
        inner = (f.top_k * f.d_expert + f.d_shared) / how.tp
        visits = f.top_k * (f.d_latent or f.d_model)
        return _Elements(visits, f.d_model + visits, tensors * inner, inner)
    inner = f.d_ff / how.tp
    return _Elements(0, f.d_model, tensors * inner, inner)


def _score_bytes(part: Part | None, how: FineTuning):
    """Bytes of attention scores a token leaves: softmax (fp32 and 16 bits), or with dropout Megatron's 5."""
    if part is None or part.kind == "gated_delta_net":
        return 0
    heads = attention(part).n_heads / how.tp
    if how.flash_attention:
        return 4 * heads  # the fp32 log-sum of each row
    return (5 if how.dropout else 6) * heads * how.seq_len


def adapter_activation_bytes_per_token(layer: Layer, names: set[str], how: FineTuning):
    """Bytes one token leaves in the adapters of a layer, under 16-bit autocast.

    Low-rank products, and beside fp32 adapters a copy of each target's input.
    """
    copied, total = DTYPE_BYTES[how.adapter_dtype] == 4, 0
    for weight in linear_weights(layer):
        if weight.name in names:
            visits = weight.copies if weight.visited is None else weight.visited
            in_features = weight.in_features / (how.tp if weight.split == "in" else 1)
            total += 2 * visits * (how.lora_rank + (in_features if copied else 0))
    return total


def activation_bytes(model: Model, how: FineTuning):
    """Return bytes of activations on one device, logits not included. [byte]

    Checkpointing keeps the layers' inputs, and one layer at a time in full while it is recomputed.
    """
    tokens, cut = how.batch * how.seq_len, how.tp if how.sequence_parallel else 1
    names = set() if how.full else target_names(model, how.lora_targets)
    rows = []  # bytes of a layer without its scores, its scores, layers
    for layer, count in model.distinct_layers:
        kept = kept_per_token(layer, model.d_model, how)
        extra = adapter_activation_bytes_per_token(layer, names, how)
        rest = layer_activation_bytes(tokens, kept.whole, kept.split + extra, 0, cut)
        rows.append((rest, layer_activation_bytes(tokens, 0, 0, kept.scores), count))
    last = norm_bytes(model.outer, how) + (2 if how.full else 0) + (1 if how.dropout else 0)
    outside = layer_activation_bytes(tokens, last * model.d_model, 0, 0, cut)
    if how.checkpointing == "full":
        inputs = layer_activation_bytes(tokens, 2 * model.d_model, 0, 0, cut)
        return outside + model.n_layers * inputs + maximum(*(rest + scores for rest, scores, _ in rows), 0)
    if how.checkpointing == "selective" and not how.flash_attention:
        return outside + sum(rest * n for rest, _, n in rows) + maximum(*(row[1] for row in rows), 0)
    return outside + sum((rest + scores) * count for rest, scores, count in rows)


def logits_bytes(tokens, vocab_size, tp=1):
    """Bytes of logits and their copies in the loss at its peak, the vocabulary cut by tp. [byte]

    Examples
    --------
    >>> logits_bytes(4096, 128256) / 1e9
    7.35
    """
    return LOGIT_BYTES * tokens * vocab_size / tp
