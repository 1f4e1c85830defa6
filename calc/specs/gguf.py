"""GGUF files of llama.cpp: block types, file types, and which tensor gets which type.

The rules are those of ``llama_tensor_get_type_impl`` in llama.cpp's src/llama-quant.cpp
(commit 007dbbf3fd17) without an importance matrix; bits per weight of Llama-3.1-8B are those
of tools/quantize/README.md (commit 311c2c9f0ebd). Ignored: Falcon's own rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass

#: block type -> (elements of a block, bytes of a block), from ggml's ggml-common.h
TYPES: Mapping[str, tuple[int, int]] = {
    "f32": (1, 4), "f16": (1, 2), "mxfp4": (32, 17),
    "q4_0": (32, 18), "q4_1": (32, 20), "q5_0": (32, 22), "q5_1": (32, 24), "q8_0": (32, 34),
    "q2_k": (256, 84), "q3_k": (256, 110), "q4_k": (256, 144), "q5_k": (256, 176), "q6_k": (256, 210),
    "iq3_s": (256, 110), "iq4_nl": (32, 18), "iq4_xs": (256, 136),
}  # fmt: skip

_PRINTED = "bits printed by llama.cpp for Llama-3.1-8B"
_COUNTED = "bits counted for Llama-3.1-8B"

#: file type -> (type of most tensors, bits per weight of Llama-3.1-8B, where these are from)
FILE_TYPES: Mapping[str, tuple[str, float, str]] = {
    "q2_k": ("q2_k", 3.1593, _PRINTED),
    "q2_k_s": ("q2_k", 2.9697, _PRINTED),
    "q3_k_s": ("q3_k", 3.6429, _PRINTED),
    "q3_k_m": ("q3_k", 3.9960, _COUNTED),
    "q3_k_l": ("q3_k", 4.2979, _PRINTED),
    "iq3_s": ("iq3_s", 3.6606, _PRINTED),
    "iq3_m": ("iq3_s", 3.7628, _PRINTED),
    "iq4_xs": ("iq4_xs", 4.4597, _PRINTED),
    "iq4_nl": ("iq4_nl", 4.6818, _PRINTED),
    "q4_0": ("q4_0", 4.6358, _COUNTED),
    "q4_1": ("q4_1", 5.1031, _COUNTED),
    "q4_k_s": ("q4_k", 4.6672, _PRINTED),
    "q4_k_m": ("q4_k", 4.8944, _PRINTED),
    "q5_0": ("q5_0", 5.5704, _COUNTED),
    "q5_1": ("q5_1", 6.0377, _COUNTED),
    "q5_k_s": ("q5_k", 5.5704, _PRINTED),
    "q5_k_m": ("q5_k", 5.7036, _PRINTED),
    "q6_k": ("q6_k", 6.5633, _PRINTED),
    "q8_0": ("q8_0", 8.5008, _PRINTED),
    "mxfp4_moe": ("q8_0", 8.5008, "experts in MXFP4, the rest in Q8_0"),
}

#: what a tensor becomes whose rows are no multiple of 256
_FALLBACK = {
    "iq3_s": "iq4_nl", "iq4_xs": "iq4_nl", "q2_k": "q4_0", "q3_k": "q4_0",
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip

#: families whose files hold query, key and value as one tensor
FUSED_QKV = ("falcon", "bloom", "gpt_neox", "mpt", "gpt2", "gpt_bigcode", "phi3", "dbrx")

#: weights that llama.cpp never quantises, beside norms, biases and routers
_LEFT_ALONE = ("embed_positions", "indexer.k_proj", "indexer.q_proj", "per_layer_model_proj")


@dataclass(frozen=True)
class Shape:
    """What of a model the rules look at."""

    n_layers: int
    n_experts: int
    heads_per_kv_head: float
    tied: bool
    fused_qkv: bool
    large: bool  # 80 layers with shared KV heads: what llama.cpp calls a 70B


def more_bits(layer: int, n_layers: int) -> bool:
    """Whether a layer is among those to which the ``_M`` types give more bits.

    Examples
    --------
    >>> sum(more_bits(i, 32) for i in range(32))
    16
    """
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def tensor_type(file_type: str, name: str, role: str, columns: int, layer: int, shape: Shape) -> str:
    """Return the block type of one tensor.

    Parameters
    ----------
    file_type : str
        One of ``FILE_TYPES``.
    name, role : str
        The weight's name and module class.
    columns : int
        Its input features.
    layer : int
        The layer it is in; any number outside of the layers.
    shape : Shape

    Examples
    --------
    >>> llama = Shape(32, 0, 4, False, False, False)
    >>> [tensor_type("q4_k_m", "mlp.down_proj", "feedforward", 14336, i, llama) for i in (0, 4)]
    ['q6_k', 'q4_k']
    """
    base = FILE_TYPES[file_type][0]
    if role in ("norm", "bias", "router"):
        return "f32"
    if role == "vision" or name in _LEFT_ALONE:
        return "f16"
    if role == "lm_head" or (shape.tied and name == "embed_tokens"):
        whole = columns % TYPES[base][0] == 0
        chosen = "q6_k" if whole and base != "q8_0" else "q8_0"
    elif file_type == "mxfp4_moe":
        chosen = "mxfp4" if role == "expert" else "q8_0"
    else:
        chosen = _by_place(file_type, base, name, layer, shape)
    if columns % TYPES[chosen][0]:
        chosen = _FALLBACK.get(chosen, chosen)
    return chosen if columns % TYPES[chosen][0] == 0 else "f16"


def _by_place(file_type: str, base: str, name: str, layer: int, shape: Shape) -> str:
    leaf = name.rsplit(".", 1)[-1]
    attention = name.startswith("attention.")
    if attention and (leaf == "v_proj" or (shape.fused_qkv and leaf in ("q_proj", "k_proj"))):
        return _value(file_type, base, layer, shape)
    if attention and leaf == "k_proj" and shape.n_experts == 8:
        return "q8_0"
    if attention and leaf == "o_proj":
        return _output(file_type, base, shape)
    return _down(file_type, base, layer, shape) if leaf == "down_proj" else base


def _value(file_type: str, base: str, layer: int, shape: Shape) -> str:
    shared, more = shape.heads_per_kv_head >= 4, more_bits(layer, shape.n_layers)
    chosen = {
        "q2_k": "q4_k" if shared else "q3_k",
        "q2_k_s": "q4_k" if shared else base,
        "iq3_s": "q4_k" if shared else base,
        "iq3_m": "q4_k",
        "q3_k_m": "q5_k" if layer < 2 else "q4_k",
        "q3_k_l": "q5_k",
        "iq4_nl": "q5_k" if shared else base,
        "iq4_xs": "q5_k" if shared else base,
        "q4_k_m": "q6_k" if more else base,
        "q5_k_m": "q6_k" if more else base,
        "q4_k_s": "q5_k" if layer < 4 else base,
    }.get(file_type, base)
    if shape.large and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return "q8_0" if shape.n_experts == 8 else chosen


def _output(file_type: str, base: str, shape: Shape) -> str:
    if shape.n_experts == 8:
        low = ("q2_k", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s", "iq3_m", "iq4_xs")
        return "q5_k" if file_type in low else base
    return {"q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}.get(file_type, base)


def _down(file_type: str, base: str, layer: int, shape: Shape) -> str:
    first, more = layer < shape.n_layers // 8, more_bits(layer, shape.n_layers)
    return {
        "q2_k": "q3_k",
        "q2_k_s": "q4_k" if first else base,
        "q3_k_m": "q5_k" if layer < shape.n_layers // 16 else "q4_k",
        "iq3_m": "q4_k" if first or (shape.n_experts == 8 and more) else base,
        "q3_k_l": "q5_k",
        "q4_k_m": "q6_k" if more else base,
        "q5_k_m": "q6_k" if more else base,
        "iq4_nl": "q5_k" if first else base,
        "iq4_xs": "q5_k" if first else base,
        "q4_k_s": "q5_k" if first else base,
    }.get(file_type, base)
