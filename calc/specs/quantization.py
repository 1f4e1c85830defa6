"""Number formats of weights and cache: bytes of a matrix, math dtype, what stays in 16 bits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from calc.specs.errors import unknown_name
from calc.specs.gguf import FILE_TYPES, TYPES
from calc.specs.numeric import ceil

#: module classes that quantised checkpoints usually leave in 16 bits
USUALLY_KEPT = ("embedding", "lm_head", "norm", "bias", "router", "vision", "mtp")

#: weights that are always left alone although their module class is not: a few rows each
NEVER_QUANTISED = ("shared_expert.gate", "indexer.weights_proj", "linear_attention.ba_proj")


@dataclass(frozen=True)
class WeightFormat:
    """A weight format: bits of an element, and what blocks of elements and matrices add.

    ``block`` is the (rows, columns) of a matrix that share a scale; 0 means all of them.
    ``scale_bits`` a block (scale, and zero point where there is one) and ``tensor_bytes`` a
    matrix come on top. ``file_block_bits`` a block and ``file_column_bits`` an input are in
    the file only, kernels drop them. ``math`` is the dtype of matrix products, ``kept`` the
    module classes left in 16 bits. ``mixed`` formats (GGUF) choose a type for each tensor;
    their bits are what llama.cpp prints for Llama-3.1-8B.
    """

    name: str
    element_bits: float
    math: str
    block: tuple[int, int] = (0, 0)
    scale_bits: float = 0
    tensor_bytes: float = 0
    file_block_bits: float = 0
    file_column_bits: float = 0
    kept: tuple[str, ...] = USUALLY_KEPT
    mixed: bool = False
    note: str = ""

    @property
    def bits(self) -> float:
        """Bits per weight of a large matrix, block scales included; scales of rows round to nothing."""
        rows, columns = self.block
        return self.element_bits + (self.scale_bits / (rows * columns) if rows * columns else 0)

    def matrix_bytes(self, out_features, in_features, copies=1, file=False):
        """Bytes of ``copies`` matrices of ``out_features`` rows; numbers or arrays. [byte]

        Blocks that a matrix fills only in part have a scale of their own. ``file`` counts
        what the checkpoint's file holds beyond what kernels use.

        Examples
        --------
        DeepSeek-V3's kv_a_proj: 576 rows are four and a half blocks, so five scales a column
        of blocks.

        >>> weight_format("fp8-block").matrix_bytes(576, 7168) - 576 * 7168 == 5 * 56 * 4
        True
        """
        rows, columns = self.block
        blocks = (ceil(out_features / rows) if rows else 1) * (ceil(in_features / columns) if columns else 1)
        bits = out_features * in_features * self.element_bits
        bits = bits + blocks * (self.scale_bits + (self.file_block_bits if file else 0))
        if file:
            bits = bits + self.file_column_bits * in_features
        return copies * (bits / 8 + self.tensor_bytes)


def _group(name: str, bits: float, size: int, scale: float, math: str = "bf16", **more) -> WeightFormat:
    """Return a format whose groups of ``size`` inputs share a scale."""
    return WeightFormat(name, bits, math, block=(1, size), scale_bits=scale, **more)


def _gptq(name: str, bits: int, size: int) -> WeightFormat:
    """Symmetric GPTQ: the file also has zero points (packed) and the group of each input."""
    note = f"GPTQ, symmetric, groups of {size}, fp16 scale"
    return _group(name, bits, size, 16, file_block_bits=bits, file_column_bits=32, note=note)


def _formats() -> dict[str, WeightFormat]:
    rows = (
        WeightFormat("fp32", 32, "fp32", kept=()),
        WeightFormat("bf16", 16, "bf16", kept=()),
        WeightFormat("fp16", 16, "fp16", kept=()),
        WeightFormat("fp8", 8, "fp8", tensor_bytes=4, note="one fp32 scale a matrix"),
        WeightFormat("fp8-channel", 8, "fp8", (1, 0), 16, note="a bf16 scale for each output row"),
        WeightFormat("fp8-block", 8, "fp8", (128, 128), 32, note="fp32 scale per 128x128 block"),
        WeightFormat("fp8-block-ue8m0", 8, "fp8", (128, 128), 8, note="8-bit scale per 128x128 block"),
        _group("mxfp8", 8, 32, 8, "fp8", note="blocks of 32, 8-bit scale"),
        WeightFormat("int8", 8, "int8", (1, 0), 16, note="w8a8, a 16-bit scale for each output row"),
        WeightFormat("int8-a16", 8, "bf16", (1, 0), 16, note="weights only, a scale for each output row"),
        _gptq("int8-g128", 8, 128),
        _gptq("int4", 4, 128),
        _gptq("int4-g64", 4, 64),
        _group("int4-g32", 4, 32, 16, note="groups of 32, 16-bit scale"),
        WeightFormat("int4-channel", 4, "bf16", (1, 0), 16, note="a 16-bit scale for each output row"),
        _group("int4-awq", 4, 128, 16 + 4, note="AWQ, groups of 128, scale and zero"),
        _group("int4-a8", 4, 128, 16, "fp8", note="w4a8: groups of 128, fp8 activations"),
        _group("mxfp4", 4, 32, 8, note="blocks of 32, 8-bit scale"),
        _group("nvfp4", 4, 16, 8, "fp4", tensor_bytes=8, note="blocks of 16, fp8 scale"),
        _group("nvfp4-a16", 4, 16, 8, tensor_bytes=4, note="blocks of 16, fp8 scale, weights only"),
        # bitsandbytes: scales of 8 bits, themselves with an fp32 scale per 256; two code tables
        _group("nf4", 4, 64, 8 + 32 / 256, tensor_bytes=16 * 4 + 256 * 4 + 4, note="double quantised"),
        _group("nf4-single", 4, 64, 32, tensor_bytes=16 * 4, note="blocks of 64, fp32 scale"),
        *(
            WeightFormat(name, bits, "fp16", kept=("norm", "bias", "router"), mixed=True, note=note)
            for name, (_, bits, note) in FILE_TYPES.items()
        ),
    )
    return {row.name: row for row in rows}


def _ggml_types() -> dict[str, WeightFormat]:
    """The block types that tensors of a GGUF file have; one tensor's, not a file's."""
    return {
        f"ggml-{name}": _group(f"ggml-{name}", 8 * size / block, block, 0, "fp16")
        for name, (block, size) in TYPES.items()
    }


#: formats to choose from, by name
WEIGHT_FORMATS: Mapping[str, WeightFormat] = _formats()
_ALL = {**_ggml_types(), **WEIGHT_FORMATS}

_ALIASES = {
    name: target
    for target, names in {
        "bf16": ("bfloat16", "w16a16"),
        "fp16": ("float16", "half", "f16"),
        "fp32": ("float32", "float", "f32"),
        "fp8": ("float8", "fp8-e4m3", "fp8-static", "fp8-tensor", "fp8-per-tensor", "e4m3"),
        "fp8-channel": ("fp8-dynamic", "w8a8-fp8", "fp8-per-channel", "fbgemm-fp8", "ptpc-fp8"),
        "fp8-block": ("fp8-128x128", "fp8-block-128x128", "deepseek-fp8", "fp8-pb-wo"),
        "int8": ("w8a8", "w8a8-int8", "smoothquant", "bnb-int8", "bnb-8bit", "int8-w8a8"),
        "int8-a16": ("w8a16", "int8-weight-only"),
        "int8-g128": ("gptq-int8", "gptq-8bit"),
        "int4": ("w4a16", "gptq", "gptq-int4", "gptq-4bit", "gptq-marlin", "w4a16-g128", "int4-g128"),
        "int4-awq": ("awq", "awq-int4", "awq-4bit", "awq-marlin", "w4a16-asym"),
        "int4-a8": ("w4a8", "w4afp8"),
        "nvfp4": ("fp4", "w4a4", "nvfp4-w4a4", "w4a4-nvfp4"),
        "nvfp4-a16": ("w4a16-nvfp4", "nvfp4-w4a16"),
        "nf4": ("bnb", "bnb-nf4", "bnb-4bit", "bitsandbytes", "nf4-dq"),
        "q8_0": ("q8", "gguf-q8"),
        "q6_k": ("q6",),
        "q5_k_m": ("q5", "q5_k"),
        "q4_k_m": ("gguf", "q4", "q4_k"),
        "q3_k_m": ("q3", "q3_k"),
    }.items()
    for name in names
}  # fmt: skip

#: bytes per cached element
KV_BYTES: Mapping[str, float] = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1, "int8": 1}


def _known(name: str, known: Mapping) -> str:
    """Return the key that a name or an alias stands for, or the name itself."""
    key = str(name).strip().lower()
    for one in (key, key.replace("_", "-"), key.replace("-", "_")):
        found = _ALIASES.get(one, one)
        if found in known:
            return found
    return key


def weight_format(name: str) -> WeightFormat:
    """Return a weight format by name or alias.

    Raises
    ------
    SpecError
        If the name is not known.

    Examples
    --------
    >>> weight_format("fp4").bits, weight_format("mxfp4").bits, weight_format("W4A16").name
    (4.5, 4.25, 'int4')
    """
    key = _known(name, _ALL)
    if key not in _ALL:
        raise unknown_name("weight_dtype", name, [*WEIGHT_FORMATS, *_ALIASES])
    return _ALL[key]


def kv_bytes(name: str) -> float:
    """Return bytes per cached element of a KV dtype.

    Examples
    --------
    >>> kv_bytes("fp8"), kv_bytes("bfloat16")
    (1, 2)
    """
    key = _known(name, KV_BYTES)
    if key not in KV_BYTES:
        raise unknown_name("kv_dtype", name, KV_BYTES)
    return KV_BYTES[key]


#: matrices that decide whether a module class is left alone as a whole
_MAIN = ("attention.", "mlp.", "moe.experts.", "shared_expert.")

#: where weights stand: one of the groups of equal layers, or outside of the layers
Exceptions = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Checkpoint:
    """How the published checkpoint stores its weights.

    ``weight_dtype`` is the format of most matrices and of a deployment that asks for none;
    ``plain_dtype`` that of what it leaves alone: the format's own list of module classes.
    Exceptions to both are pairs (weight's name, format): those of weights outside of the
    layers in ``outer``, those of a layer in ``groups[layer_groups[i]]``, where ``i`` counts
    the layers and then the next-token prediction layers. ``kv_dtype`` is the cache format
    that the checkpoint declares.
    """

    weight_dtype: str = "bf16"
    plain_dtype: str = "bf16"
    outer: Exceptions = ()
    groups: tuple[Exceptions, ...] = ()
    layer_groups: tuple[int, ...] = ()
    kv_dtype: str | None = None

    def group_of(self, layer: int | None) -> Exceptions:
        """Return the exceptions of a layer; of weights outside of the layers for None."""
        if layer is None:
            return self.outer
        return self.groups[self.layer_groups[layer]] if layer < len(self.layer_groups) else ()

    def format_of(self, name: str, role: str, layer: int | None = None) -> str:
        """Return the name of the format of one weight.

        Examples
        --------
        >>> Checkpoint("mxfp4", outer=(("lm_head", "fp8"),)).format_of("lm_head", "lm_head")
        'fp8'
        """
        found = dict(self.group_of(layer)).get(name)
        return found or default_format(name, role, weight_format(self.weight_dtype), self.plain_dtype)

    @property
    def kept(self) -> tuple[str, ...] | None:
        """Module classes of which no layer has a quantised matrix; None if nothing is quantised."""
        fmt = weight_format(self.weight_dtype)
        if not fmt.kept:
            return None
        groups = [dict(self.groups[index]) for index in set(self.layer_groups)]
        roles: dict[str, bool] = {}
        for name in {name for group in groups for name in group if name.startswith(_MAIN)}:
            plain = all(group.get(name) == self.plain_dtype for group in groups)
            role = role_of(name)
            roles[role] = roles.get(role, True) and plain
        return (*fmt.kept, *(role for role, plain in roles.items() if plain and role not in fmt.kept))

    def stage(self, start: int, count: int) -> "Checkpoint":
        """Return the record of ``count`` layers from ``start`` on, for a pipeline stage."""
        cut = self.layer_groups[start : start + count]
        return Checkpoint(self.weight_dtype, self.plain_dtype, self.outer, self.groups, cut, self.kv_dtype)


def default_format(name: str, role: str, fmt: WeightFormat, plain_dtype: str = "bf16") -> str:
    """Return the format of a weight where no exception says otherwise.

    Examples
    --------
    >>> default_format("mlp.up_proj", "feedforward", weight_format("fp8"))
    'fp8'
    """
    if not fmt.kept:
        return fmt.name
    left_alone = role in fmt.kept or (name in NEVER_QUANTISED and not fmt.mixed)
    return plain_dtype if left_alone else fmt.name


def role_of(name: str) -> str:
    """Return the module class of a matrix inside of a layer by its name.

    Examples
    --------
    >>> role_of("moe.experts.up_proj"), role_of("indexer.k_proj")
    ('expert', 'attention')
    """
    first = name.split(".", 1)[0]
    if first == "moe":
        return "expert" if ".experts." in name else "router"
    return {"mlp": "feedforward", "per_layer_input": "feedforward", "shared_expert": "shared_expert"}.get(
        first, "attention"
    )


def grouped(layers: Iterable[Exceptions]) -> tuple[tuple[Exceptions, ...], tuple[int, ...]]:
    """Return the distinct entries of a list, and for each layer which of them it has.

    Examples
    --------
    >>> grouped([(), (("mlp.up_proj", "bf16"),), ()])
    (((), (('mlp.up_proj', 'bf16'),)), (0, 1, 0))
    """
    numbers: dict[Exceptions, int] = {}
    order = tuple(numbers.setdefault(layer, len(numbers)) for layer in layers)
    return tuple(numbers), order


def stored_bits(role: str, fmt: WeightFormat, kept: tuple[str, ...] | None = None) -> float:
    """Return bits per parameter of a module class in a checkpoint of a format.

    Examples
    --------
    >>> stored_bits("expert", weight_format("mxfp4")), stored_bits("norm", weight_format("mxfp4"))
    (4.25, 16)
    """
    left_alone = fmt.kept if kept is None else kept
    return 16 if role in left_alone else fmt.bits
