"""Memory of fine-tuning: full, LoRA and QLoRA; weights, gradients, optimizer, activations, logits.

Model states follow ZeRO (arXiv 1910.02054), activations Korthikanti et al. (arXiv 2205.05198),
with what PyTorch's autograd keeps for models other than GPT (``docs/fine-tuning-memory.md``).
"""

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from calc.specs.device import Device, load_device
from calc.specs.errors import SpecError, unknown_name
from calc.specs.model import Layer, Model, Part, Weight
from calc.specs.model_files import load_model
from calc.specs.numeric import maximum, where
from calc.specs.quantization import WEIGHT_FORMATS, WeightFormat, stored_bits
from calc.specs.workload import whole_number
from calc.work.adapters import is_adapted
from calc.work.attention import attention
from calc.work.causal import heads_per_device
from calc.work.feedforward import feedforward
from calc.work.memory import stored_bytes
from calc.work.parameters import layer_weights, weights
from calc.work.sharding import check_tp, is_routed, parameters_per_device

METHODS = ("full", "lora", "qlora")
CHECKPOINTING = ("none", "selective", "full")
DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
#: bytes of optimizer state per trained parameter; Adafactor keeps one value per row and column
OPTIMIZERS = {
    "adamw": 8.0,  # two fp32 moments
    "adamw-8bit": 2 * (1 + 4 / 256),  # two moments in 8 bits, an fp32 scale per block of 256 (bitsandbytes)
    "sgd": 0.0,
    "sgd-momentum": 4.0,
    "adafactor": None,
}
#: NormalFloat with double quantisation: a scale of 8 bits per 64 weights, an fp32 one per 256 of those
NF4 = WeightFormat("nf4", 4 + 8 / 64 + 32 / (64 * 256), "bf16", note="QLoRA, arXiv 2305.14314 section 3")
#: bytes per logit at the peak: bf16 logits, fp32 log-probabilities and two fp32 gradients
LOGIT_BYTES = 14
CONTEXT_BYTES = 2.0**30  # assumed: CUDA context, cuBLAS workspace, communication buffers
FRAGMENTATION = 0.05  # assumed: share of everything else that the allocator cannot use


@dataclass(frozen=True, eq=False)
class FineTuning:
    """How a model is fine-tuned; ``batch``, ``seq_len``, ``dp`` and ``tp`` may be arrays that broadcast.

    Attributes
    ----------
    method : str
        ``"full"``, ``"lora"`` or ``"qlora"``.
    batch, seq_len : int or array
        Sequences per device and forward pass (the micro-batch), and their length. [tokens]
    optimizer : str
        ``"adamw"``, ``"adamw-8bit"``, ``"sgd"``, ``"sgd-momentum"`` or ``"adafactor"``.
    weights_dtype, adapter_dtype, grad_dtype : str, optional
        bf16 weights (``"nf4"`` with qlora), fp32 adapters, gradients as what is trained.
    master_weights : bool, optional
        An fp32 copy of trained 16-bit weights; kept unless False.
    zero_stage, dp, tp : int
        ZeRO stage 0-3 (FSDP is 3) over ``dp`` ranks; tensor-parallel ranks.
    checkpointing : str
        ``"none"``, ``"selective"`` (attention scores) or ``"full"`` (whole layers) recomputed.
    flash_attention, dropout, sequence_parallel : bool
        No stored scores; dropout masks as in GPT-3; Megatron's split of what tp leaves whole.
    lora_rank, lora_targets : int, str or sequence of str
        Adapters; ``"all-linear"`` or names such as ``"q_proj,v_proj"``.
    """

    method: str = "full"
    batch: object = 1
    seq_len: object = 2048
    optimizer: str = "adamw"
    weights_dtype: str | None = None
    adapter_dtype: str = "fp32"
    grad_dtype: str | None = None
    master_weights: bool | None = None
    zero_stage: int = 0
    dp: object = 1
    tp: object = 1
    checkpointing: str = "none"
    flash_attention: bool = True
    dropout: bool = False
    sequence_parallel: bool = False
    lora_rank: int = 16
    lora_targets: object = "all-linear"

    def __post_init__(self):
        put = object.__setattr__
        for name, known in (
            ("method", METHODS), ("optimizer", OPTIMIZERS), ("checkpointing", CHECKPOINTING),
            ("adapter_dtype", DTYPE_BYTES), ("grad_dtype", (*DTYPE_BYTES, None)),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), filter(None, known))
        for name, most in (
            ("batch", 2**20), ("seq_len", 2**30), ("dp", 2**20), ("tp", 1024), ("lora_rank", 2**16),
        ):  # fmt: skip
            put(self, name, whole_number(name, getattr(self, name), 1, most))
        put(self, "zero_stage", whole_number("zero_stage", self.zero_stage, 0, 3))
        put(self, "weights_dtype", self.weights_dtype or ("nf4" if self.method == "qlora" else "bf16"))
        allowed = [*WEIGHT_FORMATS, "nf4"] if self.method == "qlora" else DTYPE_BYTES
        if self.weights_dtype not in allowed:
            raise unknown_name(f"weights_dtype of {self.method}", str(self.weights_dtype), allowed)

    @property
    def full(self) -> bool:
        """Whether all weights are trained."""
        return self.method == "full"

    @property
    def trained_dtype(self) -> str:
        """Dtype of what is trained: the weights or the adapters."""
        return self.weights_dtype if self.full else self.adapter_dtype

    @property
    def weight_format(self) -> WeightFormat:
        """Format of the base weights."""
        return NF4 if self.weights_dtype == "nf4" else WEIGHT_FORMATS[self.weights_dtype]


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
    >>> rows = adapters(load_model("llama-2-7b"), 16, "q_proj,v_proj")
    >>> print(f"{sum(weight.parameters * count for weight, count in rows):,}")
    8,388,608
    """
    names = _targets(model, targets)
    return [
        (matrix, count)
        for layer, count in model.distinct_layers
        for weight in _linears(layer)
        if weight.name in names
        for matrix in _low_rank(weight, rank)
    ]


def _targets(model: Model, targets) -> set[str]:
    """Names of the weights that get adapters."""
    linears = {weight.name for layer, _ in model.distinct_layers for weight in _linears(layer)}
    wanted = [name.strip() for name in targets.split(",")] if isinstance(targets, str) else list(targets)
    if wanted == ["all-linear"]:
        return linears
    short = {name.rpartition(".")[2] for name in linears}
    for name in wanted or [""]:
        if name not in linears | short:
            raise unknown_name("lora target", str(name), [*short, "all-linear"])
    return {name for name in linears if name in wanted or name.rpartition(".")[2] in wanted}


def _linears(layer: Layer) -> list[Weight]:
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


def _low_rank(weight: Weight, rank: int) -> tuple[Weight, Weight]:
    """The two matrices beside a weight; tensor parallelism cuts the side that it cuts of the weight."""
    cut = ("in", "none") if weight.split == "in" else ("none", weight.split)
    down = replace(weight, name=f"{weight.name}.lora_a", out_features=rank, split=cut[0])
    return down, replace(weight, name=f"{weight.name}.lora_b", in_features=rank, split=cut[1])


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
    parts = [_KEPT[mixing.kind](mixing, how)] if mixing else []
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
_KEPT = {
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
    for weight in _linears(layer):
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
    names = set() if how.full else _targets(model, how.lora_targets)
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


def overhead_bytes(others):
    """Allowance for the CUDA context and for fragmentation of everything else; assumed. [byte]"""
    return CONTEXT_BYTES + FRAGMENTATION * others


@dataclass(frozen=True, eq=False)
class FinetuningMemory:
    """Where the memory of fine-tuning goes, on one device; numbers or arrays, in bytes.

    ``gathered_bytes_per_device`` is the largest layer (or table) that ZeRO-3 holds whole while
    it is computed. Without a device ``fits`` and the shortfall are None.
    """

    how: FineTuning
    model: Model
    trained_parameters: int
    device_bytes_per_device: float | None
    weights_bytes_per_device: object
    gathered_bytes_per_device: object
    adapters_bytes_per_device: object
    gradients_bytes_per_device: object
    optimizer_bytes_per_device: object
    master_bytes_per_device: object
    activation_bytes_per_device: object
    logits_bytes_per_device: object

    @property
    def n_devices(self):
        """Devices: dp * tp."""
        return self.how.dp * self.how.tp

    @property
    def overhead_bytes_per_device(self):
        """CUDA context and fragmentation, assumed. [byte]"""
        return overhead_bytes(sum(size for _, size in self._parts()))

    @property
    def total_bytes_per_device(self):
        """All rows together. [byte]"""
        return sum(size for _, size in self.breakdown())

    @property
    def total_bytes(self):
        """All rows on all devices. [byte]"""
        return self.n_devices * self.total_bytes_per_device

    @property
    def shortfall_bytes_per_device(self):
        """Bytes missing on each device; 0 when it fits. [byte]"""
        if self.device_bytes_per_device is None:
            return None
        return maximum(0.0, self.total_bytes_per_device - self.device_bytes_per_device)

    @property
    def fits(self):
        """Whether all rows fit in what the device reports."""
        return None if self.device_bytes_per_device is None else self.shortfall_bytes_per_device <= 0

    def _parts(self) -> list[tuple[str, object]]:
        return [
            ("weights", self.weights_bytes_per_device),
            ("gathered layer", self.gathered_bytes_per_device),
            ("adapters", self.adapters_bytes_per_device),
            ("gradients", self.gradients_bytes_per_device),
            ("optimizer", self.optimizer_bytes_per_device),
            ("master weights", self.master_bytes_per_device),
            ("activations", self.activation_bytes_per_device),
            ("logits", self.logits_bytes_per_device),
        ]

    def breakdown(self) -> list[tuple[str, object]]:
        """Rows (name, bytes per device) that sum to the total."""
        return [*self._parts(), ("overhead, assumed", self.overhead_bytes_per_device)]


def finetuning_memory(model: str | Model, *, device: str | Device | None = None, **how) -> FinetuningMemory:
    """Return the memory of fine-tuning a model, per device.

    Parameters
    ----------
    model, device : str or object
        As in ``load_model`` and ``load_device``; without a device nothing is said about fitting.
    **how
        The fields of ``FineTuning``: method, batch, seq_len, optimizer, zero_stage, dp, tp ...

    Notes
    -----
    All rows are taken to be there at once, which is an upper bound: gradients appear while
    activations go. Paging, offloading, pipeline and expert parallelism are not answered.

    Examples
    --------
    >>> m = finetuning_memory("llama-2-7b", method="qlora", device="rtx-4090", checkpointing="full")
    >>> m.trained_parameters, m.fits
    (39976960, True)
    """
    model, setup = load_model(model), _setup(how)
    _check(model, setup)
    trained = weights(model) if setup.full else adapters(model, setup.lora_rank, setup.lora_targets)
    held = sum(count * parameters_per_device(weight, setup.tp) for weight, count in trained)
    cut = zero_partitions(setup.zero_stage, setup.dp)
    width = DTYPE_BYTES[setup.trained_dtype]
    master = 0 if width == 4 or setup.master_weights is False else 4
    tokens = setup.batch * setup.seq_len
    return FinetuningMemory(
        how=setup,
        model=model,
        trained_parameters=sum(weight.parameters * count for weight, count in trained),
        device_bytes_per_device=None if device is None else load_device(device).memory_bytes,
        weights_bytes_per_device=_base_bytes(weights(model), setup) / cut["weights"],
        gathered_bytes_per_device=_gathered_bytes(model, setup),
        adapters_bytes_per_device=0.0 if setup.full else state_bytes(held, width, cut["weights"]),
        gradients_bytes_per_device=state_bytes(
            held, DTYPE_BYTES[setup.grad_dtype or setup.trained_dtype], cut["gradients"]
        ),
        optimizer_bytes_per_device=_optimizer_bytes(trained, held, setup, cut["optimizer"]),
        master_bytes_per_device=state_bytes(held, master, cut["optimizer"]),
        activation_bytes_per_device=activation_bytes(model, setup),
        logits_bytes_per_device=logits_bytes(tokens, model.vocab_size, setup.tp),
    )


def _check(model: Model, how: FineTuning) -> None:
    """Raise SpecError for what is not answered."""
    if model.encoder_layers:
        raise SpecError(f"{model.id}: fine-tuning of models with an encoder is not answered")
    kinds = {layer.attention.kind for layer, _ in model.distinct_layers if layer.attention}
    for kind in sorted(kinds - set(_KEPT)):
        allowed = ", ".join(_KEPT)
        raise SpecError(f"{model.id}: fine-tuning of {kind!r} layers is not answered; allowed are {allowed}")
    check_tp(model, how.tp)


def _setup(how: dict) -> FineTuning:
    known = [field.name for field in fields(FineTuning)]
    for name in how:
        if name not in known:
            raise unknown_name("fine-tuning setting", name, known)
    return FineTuning(**how)


def _base_bytes(rows, how: FineTuning):
    """Bytes of weights on one tensor-parallel rank. [byte]"""
    total = 0.0
    for weight, count in rows:
        held = count * parameters_per_device(weight, how.tp)
        total = total + stored_bytes(held, stored_bits(weight.role, how.weight_format))
    return total


def _gathered_bytes(model: Model, how: FineTuning):
    if how.zero_stage < 3:
        return 0.0
    layers = [[(weight, 1) for weight in layer_weights(layer)] for layer, _ in model.distinct_layers]
    units = layers + [[(weight, 1)] for weight in model.outer]
    return where(how.dp > 1, maximum(*(_base_bytes(unit, how) for unit in units), 0.0), 0.0)


def _optimizer_bytes(trained, held, how: FineTuning, partition):
    per_parameter = OPTIMIZERS[how.optimizer]
    if per_parameter is not None:
        return state_bytes(held, per_parameter, partition)
    return sum(
        state_bytes(count * parameters_per_device(weight, how.tp), 4 * _factored_share(weight), partition)
        for weight, count in trained
    )


def _factored_share(weight: Weight) -> float:
    """Adafactor's values per parameter: a row and a column of a matrix, each element of a vector."""
    rows, columns = weight.out_features, weight.in_features
    return 1.0 if columns == 1 else (rows + columns) / (rows * columns)
