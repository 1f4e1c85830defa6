"""Bytes of a model's weights, matrix by matrix: in the checkpoint's file and in an engine.

A ``Checkpoint`` says which format each weight has; here formats, shapes and ranks meet.
Ignored: buffers of engines other than those named in ``loaded_bytes``, and safetensors
headers (a few hundred kB).
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import MappingProxyType

from calc.specs.gguf import FUSED_QKV, Shape, tensor_type
from calc.specs.model import ROLES, Layer, Model, Weight
from calc.specs.numeric import ceil, maximum, where
from calc.specs.quantization import WeightFormat, default_format, weight_format
from calc.work.parameters import layer_weights
from calc.work.sharding import is_routed

#: rows of embedding and lm_head that vLLM and SGLang round up to (vocab_parallel_embedding.py)
VOCABULARY_MULTIPLE = 64

#: scratch that vLLM holds for latent attention on every rank: FlashInfer's workspace. Start-up logs
#: of DeepSeek-V2-Lite and Kimi-VL (tp 1 and 2) leave 0.13-0.16 GiB unexplained without it. [byte]
LATENT_WORKSPACE = 128 * 2**20

#: engines that run MXFP4 experts in kernels with padded matrices
_PADDED_EXPERTS = ("vllm", "sglang")

#: families whose router has a correction bias per expert in 32 bits, in the file only a buffer
_CORRECTED_ROUTERS = ("deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "glm4_moe", "glm_moe_dsa")

#: families without rotary positions
_NO_ROPE = (
    "gpt2", "gpt_bigcode", "opt", "bloom", "mpt", "mamba", "mamba2", "falcon_mamba", "jamba", "nemotron_h",
    "bart", "t5", "whisper",
)  # fmt: skip

Row = tuple[Weight, int, WeightFormat]


@lru_cache(maxsize=512)
def stored_weights(model: Model, weight_dtype: str | None = None, mtp: bool = False) -> tuple[Row, ...]:
    """Return every weight with how often it occurs in which format.

    Parameters
    ----------
    model : Model
    weight_dtype : str, optional
        Format; the checkpoint's own when not given. Another than its own leaves alone what
        that format usually leaves alone.
    mtp : bool
        Whether next-token prediction layers are among them.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> rows = stored_weights(load_model("gpt-oss-20b"))
    >>> sorted({fmt.name for weight, _, fmt in rows if weight.role == "attention"})
    ['bf16']
    """
    fmt = weight_format(weight_dtype or model.checkpoint.weight_dtype)
    counts: dict[tuple[Weight, str], int] = {}
    for weight, layer in _places(model, mtp):
        key = weight, _format_name(model, fmt, weight, layer)
        counts[key] = counts.get(key, 0) + 1
    return tuple((weight, count, weight_format(name)) for (weight, name), count in counts.items())


def _places(model: Model, mtp: bool) -> Iterator[tuple[Weight, int | None]]:
    """Every weight with the layer it is in, next-token layers counted on from the last."""
    for weight in model.outer:
        yield weight, None
    layers: tuple[Layer, ...] = model.layers
    if mtp:
        for weight in model.mtp_outer:
            yield weight, None
        layers += model.mtp
    for i, layer in enumerate(layers):
        for weight in layer_weights(layer):
            yield weight, i
    for layer in model.encoder_layers:
        for weight in layer_weights(layer):
            yield weight, None


def _format_name(model: Model, fmt: WeightFormat, weight: Weight, layer: int | None) -> str:
    checkpoint = model.checkpoint
    if fmt.mixed:
        place = -1 if layer is None else layer
        shape = _gguf_shape(model)
        return f"ggml-{tensor_type(fmt.name, weight.name, weight.role, weight.in_features, place, shape)}"
    if fmt.name == weight_format(checkpoint.weight_dtype).name:
        return checkpoint.format_of(weight.name, weight.role, layer)
    return default_format(weight.name, weight.role, fmt, checkpoint.plain_dtype)


@lru_cache(maxsize=256)
def _gguf_shape(model: Model) -> Shape:
    sizes = [dict(layer.attention.sizes) for layer in model.layers if layer.attention]
    shared = max((one["n_heads"] / one["n_kv_heads"] for one in sizes if one.get("n_kv_heads")), default=1)
    parts = [dict(layer.feedforward.sizes) for layer in model.layers if layer.feedforward]
    return Shape(
        n_layers=model.n_layers,
        n_experts=max((part.get("n_experts", 0) for part in parts), default=0),
        heads_per_kv_head=shared,
        tied=model.tied_embeddings,
        fused_qkv=model.family in FUSED_QKV,
        large=model.n_layers == 80 and shared > 1 and model.family in ("llama", "qwen2"),
    )


def shard_shape(weight: Weight, tp=1, dp=1, ep=1):
    """Return rows, columns and copies of a weight that one device of a stage holds.

    The cut of ``calc.work.sharding.parameters_per_device``, with the shape kept. Blocks of a
    vision tower are cut too, as vLLM does.

    Examples
    --------
    >>> shard_shape(Weight("attention.k_proj", "attention", 1024, 4096, split="kv", kv_heads=8), tp=16)
    (128.0, 4096, 1)
    """
    rows, columns, copies, cut = weight.out_features, weight.in_features, weight.copies, tp
    if is_routed(weight):
        copies, cut = ceil(copies / ep), tp * dp / ep
    if weight.split == "kv":
        rows = rows * maximum(1, weight.kv_heads / tp) / weight.kv_heads
    elif weight.split == "out":
        rows = rows / cut
    elif weight.split == "in":
        columns = columns / cut
    elif weight.name.startswith("vision.blocks."):
        rows = rows / cut
    return rows, columns, copies


def weight_bytes(weight: Weight, fmt: WeightFormat, tp=1, dp=1, ep=1, pad_vocabulary=False, file=False):
    """Return bytes of a weight on one device of a stage. [byte]

    Examples
    --------
    >>> up = Weight("mlp.up_proj", "feedforward", 256, 4096, split="out")
    >>> weight_bytes(up, weight_format("int4"), tp=2)
    270336.0
    """
    rows, columns, copies = shard_shape(weight, tp, dp, ep)
    if pad_vocabulary and is_vocabulary(weight):
        rows = ceil(weight.out_features / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE / tp
    return fmt.matrix_bytes(rows, columns, copies, file)


def is_vocabulary(weight: Weight) -> bool:
    """Whether a weight has a row for each token of the vocabulary, cut by ranks."""
    return weight.role in ("embedding", "lm_head") and weight.split == "out"


def checkpoint_bytes(model: Model, weight_dtype: str | None = None, mtp: bool = True) -> float:
    """Return the size of a checkpoint's tensors on disk. [byte]

    With what a file holds and kernels drop: packed zero points and group indices of GPTQ,
    the router's correction bias of the DeepSeek V3 kin. 32-bit checkpoints of models that
    engines run in 16 bits are twice as large.

    Parameters
    ----------
    model : Model
    weight_dtype : str, optional
        Format; the checkpoint's own when not given.
    mtp : bool
        Whether next-token prediction layers are in the file; published files have them.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> print(f"{checkpoint_bytes(load_model('gpt-oss-20b')):,.0f}")
    13,761,264,768
    """
    rows = stored_weights(model, weight_dtype, mtp)
    total = sum(count * weight_bytes(weight, fmt, file=True) for weight, count, fmt in rows)
    if model.family in _CORRECTED_ROUTERS:
        total += sum(4 * count * weight.out_features for weight, count, _ in rows if weight.role == "router")
    return total


def bytes_by_role(
    model: Model, weight_dtype: str | None = None, tp=1, dp=1, ep=1, mtp=False, pad_vocabulary=False
) -> dict[str, object]:
    """Return bytes of weights on one device of a stage by module class. [byte]

    Parameters
    ----------
    model : Model
    weight_dtype : str, optional
        Format; the checkpoint's own when not given.
    tp, dp, ep : int or array
        Tensor, attention-data and expert parallel ranks.
    mtp : bool
        Whether the engine loads the next-token prediction layers. Their copies of embedding
        and lm_head are left out: engines share them with the main model.
    pad_vocabulary : bool
        Whether rows of embedding and lm_head are rounded up, as vLLM and SGLang do.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> sizes = bytes_by_role(load_model("llama-3.1-8b"), "fp8-channel", tp=2)
    >>> sizes["attention"] - 1342177280 / 2 == 32 * 2 * (4096 / 2 + 2 * 1024 / 2 + 4096)
    True
    """
    totals: dict[str, object] = {}
    for weight, count, fmt in stored_weights(model, weight_dtype, mtp):
        if mtp and weight.name in ("mtp.embed_tokens", "mtp.lm_head"):
            continue
        size = count * weight_bytes(weight, fmt, tp, dp, ep, pad_vocabulary)
        totals[weight.role] = totals.get(weight.role, 0.0) + size
    return totals


def engine_extra_bytes(
    model: Model, weight_dtype: str | None = None, tp=1, dp=1, ep=1, engine="vllm"
) -> dict[str, object]:
    """Return what an engine holds beside the checkpoint's weights, on one device. [byte]

    ``"rope table"``: cosines and sines of every position, on every rank. ``"padded
    vocabulary"``: rows of embedding and lm_head up to a multiple of 64. ``"padded experts"``:
    see ``padded_expert_bytes``. ``"attention workspace"``: scratch of latent attention.
    Engines other than vLLM and SGLang: nothing is known, 0.
    """
    names = ("rope table", "padded vocabulary", "padded experts", "attention workspace")
    if engine not in _PADDED_EXPERTS:
        return dict.fromkeys(names, 0.0)
    rows = stored_weights(model, weight_dtype)
    padded = sum(
        count * (weight_bytes(weight, fmt, tp, pad_vocabulary=True) - weight_bytes(weight, fmt, tp))
        for weight, count, fmt in rows if is_vocabulary(weight)
    )  # fmt: skip
    experts = [(weight, count) for weight, count, fmt in rows if is_routed(weight) and fmt.name == "mxfp4"]
    latent = any(layer.attention is not None and layer.attention.kind == "mla" for layer in model.layers)
    sizes = (
        rope_table_bytes(model),
        padded,
        sum(count * padded_expert_bytes(weight, tp, dp, ep) for weight, count in experts),
        float(LATENT_WORKSPACE if latent and engine == "vllm" else 0),
    )
    return dict(zip(names, sizes, strict=True))


def loaded_bytes(
    model: Model, weight_dtype: str | None = None, tp=1, dp=1, ep=1, mtp=False, engine="vllm"
):  # fmt: skip
    """Return what an engine logs as the size of the loaded model, on one device. [byte]

    Weights and what ``engine_extra_bytes`` lists. Ignored: scratch buffers of kernels, up to
    0.3 GiB of a multimodal model's image processor.

    Examples
    --------
    vLLM logs 14.99 GiB for Llama-3.1-8B:

    >>> from calc.specs.model_files import load_model
    >>> print(f"{loaded_bytes(load_model('llama-3.1-8b')) / 2**30:.2f} GiB")
    14.99 GiB
    """
    held = sum(bytes_by_role(model, weight_dtype, tp, dp, ep, mtp).values())
    return held + sum(engine_extra_bytes(model, weight_dtype, tp, dp, ep, engine).values())


def rope_table_bytes(model: Model) -> float:
    """Return bytes of the table of rotary positions: longest context times head width, 16 bits. [byte]

    One table for all layers, not cut by tensor parallelism. Ignored: that part of a head may
    not rotate, and second tables of sliding layers.
    """
    if model.family in _NO_ROPE:
        return 0.0
    parts = [dict(layer.attention.sizes) for layer in model.layers if layer.attention]
    widths = [part.get("d_rope") or part.get("d_head") or 0 for part in parts]
    return 2.0 * model.max_context_tokens * max(widths, default=0)


def padded_expert_bytes(weight: Weight, tp=1, dp=1, ep=1):
    """Return bytes that MXFP4 kernels pad a matrix of routed experts by, on one device. [byte]

    gpt-oss has widths of 2880. The values of a row, not its scales, take a multiple of 256
    elements; where ranks cut the expert width, a rank's share is first rounded up to 128.
    That is what start-up logs of vLLM 0.11 and 0.19 on H100 show (13.47 and 64.38 GiB at tp
    1, 7.01 GiB at tp 2). Marlin kernels pad width and rows instead, to 128 and 256
    (vllm/model_executor/layers/quantization/mxfp4.py): 65.97 GiB for gpt-oss-120b.

    Examples
    --------
    >>> padded_expert_bytes(Weight("moe.experts.down_proj", "expert", 2880, 2880, split="in")) / 2880
    96.0
    """
    rows, columns, copies = shard_shape(weight, tp, dp, ep)
    fmt = weight_format("mxfp4")
    cut = tp * dp / ep
    if weight.split == "out":  # gate and up: the width is half the rows
        padded_rows, inner = where(cut > 1, 2 * ceil(rows / 2 / 128) * 128, rows), columns
    else:
        padded_rows, inner = rows, where(cut > 1, ceil(columns / 128) * 128, columns)
    values = copies * padded_rows * (ceil(inner / 256) * 256 - inner) * fmt.element_bits / 8
    return fmt.matrix_bytes(padded_rows, inner, copies) + values - fmt.matrix_bytes(rows, columns, copies)


@lru_cache(maxsize=512)
def bits_by_role(model: Model, weight_dtype: str | None = None) -> Mapping[str, float]:
    """Return effective bits per parameter of each module class, for explanations and operations.

    Where all matrices of a class have one format its nominal bits, else the average.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> bits = bits_by_role(load_model("gpt-oss-120b"))
    >>> bits["expert"], bits["attention"], bits["embedding"]
    (4.25, 16, 16)
    """
    rows: dict[str, list[Row]] = {role: [] for role in ROLES}
    for row in stored_weights(model, weight_dtype):
        rows[row[0].role].append(row)
    return MappingProxyType({role: _bits(model, role, each, weight_dtype) for role, each in rows.items()})


def _bits(model: Model, role: str, rows: list[Row], weight_dtype: str | None) -> float:
    large = {fmt.name: fmt for weight, _, fmt in rows if weight.parameters > 2**16} or {
        fmt.name: fmt for _, _, fmt in rows
    }
    if len(large) == 1:
        return next(iter(large.values())).bits
    if not rows:
        fmt = weight_format(weight_dtype or model.checkpoint.weight_dtype)
        return 16 if role in fmt.kept else fmt.bits
    stored = sum(count * weight_bytes(weight, fmt) for weight, count, fmt in rows)
    return 8 * stored / sum(count * weight.parameters for weight, count, _ in rows)


@lru_cache(maxsize=512)
def formats_by_role(model: Model, weight_dtype: str | None = None) -> Mapping[str, str]:
    """Return the name of the format that most parameters of each module class have.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> formats_by_role(load_model("deepseek-v3"))["expert"]
    'fp8-block'
    """
    held: dict[str, dict[str, float]] = {}
    for weight, count, fmt in stored_weights(model, weight_dtype):
        sizes = held.setdefault(weight.role, {})
        sizes[fmt.name] = sizes.get(fmt.name, 0) + weight.parameters * count
    return MappingProxyType({role: max(sizes, key=sizes.__getitem__) for role, sizes in held.items()})


@lru_cache(maxsize=512)
def math_by_role(model: Model, weight_dtype: str | None = None) -> Mapping[str, str]:
    """Return the dtype of matrix products with the weights of each quantised module class.

    That of the format that most parameters of the class have; classes that are left alone
    are not listed.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> dict(math_by_role(load_model("deepseek-v3")))
    {'attention': 'fp8', 'feedforward': 'fp8', 'expert': 'fp8', 'shared_expert': 'fp8'}
    """
    held: dict[str, dict[str, float]] = {}
    for weight, count, fmt in stored_weights(model, weight_dtype):
        sizes, math = held.setdefault(weight.role, {}), fmt.math if fmt.kept else ""
        sizes[math] = sizes.get(math, 0) + weight.parameters * count
    most = {role: max(sizes, key=sizes.__getitem__) for role, sizes in held.items()}
    return MappingProxyType({role: math for role, math in most.items() if math})
