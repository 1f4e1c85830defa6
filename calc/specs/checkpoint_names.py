"""Names of derived checkpoints: which known model's shape they have, stored in which format.

Quantised copies and fine-tunes carry the model they come from in their name. What such a
name says is taken at its word and noted; where a part of it may change the shape (a vision
tower, a draft head) or the format is not known, nothing is derived.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DerivedName:
    """What a name says: the known model's id, and the quantisation in place of that model's own.

    ``quantization`` is a ``quantization_config``, empty for 16 bits, None for the model's own.
    """

    base: str
    quantization: Mapping | None = None


def _grouped(bits: int, kind: str, strategy: str, activations: bool, size: int | None = None) -> dict:
    weights = {"num_bits": bits, "type": kind, "strategy": strategy}
    if size:
        weights["group_size"] = size
    group = {"targets": ["Linear"], "weights": weights}
    if activations:
        group["input_activations"] = {"num_bits": 8, "type": kind}
    return {"quant_method": "compressed-tensors", "ignore": ["lm_head"], "config_groups": {"group_0": group}}


_FP8 = {"quant_method": "fp8"}
_FP8_BLOCK = {"quant_method": "fp8", "weight_block_size": [128, 128]}
_FP8_CHANNEL = _grouped(8, "float", "channel", activations=True)
_NVFP4 = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
_GPTQ = {"quant_method": "gptq", "group_size": 128}

#: what a name may say of its format -> quantization_config; the first that matches holds
_FORMATS: tuple[tuple[str, dict], ...] = (
    (r"nvfp4", _NVFP4),
    (r"mxfp4", {"quant_method": "mxfp4"}),
    (r"fp8-dynamic|dynamic-fp8|fp8-w8a8|w8a8-fp8|ptpc-fp8", _FP8_CHANNEL),
    (r"fp8-block|block-fp8", _FP8_BLOCK),
    (r"fp8-kv|fp8", _FP8),
    (r"gptq-int8|gptq-8bit|int8-gptq|8bit-gptq", {**_GPTQ, "bits": 8}),
    (r"gptq-int4|gptq-4bit|int4-gptq|4bit-gptq|gptq", {**_GPTQ, "bits": 4}),
    (r"awq-int4|awq-4bit|int4-awq|4bit-awq|awq", {"quant_method": "awq", "bits": 4}),
    (r"int4-w4a16|w4a16-g128|w4a16", _grouped(4, "int", "group", activations=False, size=128)),
    (r"int8-w8a16|w8a16", _grouped(8, "int", "channel", activations=False)),
    (r"int8-w8a8|w8a8-int8|w8a8", _grouped(8, "int", "channel", activations=True)),
    (r"(?:unsloth-)?bnb-4bit|4bit-bnb|bnb-nf4|nf4", {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True,
    }),
    (r"bnb-8bit|8bit-bnb", {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    (r"int8", _grouped(8, "int", "channel", activations=True)),
    (r"int4", _grouped(4, "int", "group", activations=False, size=128)),
    (r"bf16|fp16|f16", {}),
)  # fmt: skip

#: GGUF file types as names spell them
_GGUF = re.compile(r"(?:^|-)(q[2-8]-(?:k-[sml]|k|[01])|iq[34]-(?:xs|nl|s|m))(?=-|$)")

#: organisations whose "-FP8" has a scale per 128x128 block
_BLOCK_FP8 = ("qwen", "deepseek-ai", "zai-org", "minimaxai", "moonshotai", "stepfun-ai", "xiaomimimo")

#: what NVIDIA's NVFP4 checkpoints leave alone, from their configs, by family
_ATTENTION_KEPT = ("deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_k25", "minimax_m2", "gemma4")
_NVFP4_IGNORED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(_ATTENTION_KEPT, ("self_attn",)),
    "glm_moe_dsa": ("self_attn", "mlp.shared_experts", "model.layers.0", "model.layers.1", "model.layers.2"),
    "qwen3_5_moe": ("self_attn", "linear_attn", "mlp.shared_expert"),
}  # fmt: skip

#: Meta's own FP8: feed-forwards only, not in the first and last layer (arXiv 2407.21783, 6.2)
_META_FP8 = {
    "quant_method": "fbgemm_fp8",
    "modules_to_not_convert": ["self_attn", "model.layers.0", "model.layers.125", "lm_head"],
}

#: words that say nothing about the shape
_NOISE = {
    "instruct", "it", "chat", "base", "hf", "pt", "meta", "quantized", "gguf", "imatrix", "fast",
    "unsloth", "dynamic", "static", "kv", "preview", "original", "nvidia",
}  # fmt: skip

#: words that change the shape or what is stored, or that name formats not known here
_OTHER = {
    "vl", "vision", "audio", "omni", "eagle", "eagle3", "speculator", "medusa", "draft", "lora", "adapter",
    "embedding", "reranker", "reward", "rm", "pruned", "minitron", "2of4", "sparse", "mlx", "exl2", "exl3",
    "hqq", "onnx", "openvino", "aqlm", "quip", "mtp", "moe", "2bit", "3bit", "4bit", "5bit", "6bit", "8bit",
    "tiny", "random", "dflash", "nvfp4", "w4a8", "reap", "merged", "upscaled",
}  # fmt: skip

#: fine-tunes that do not carry their base in the name, or a shortened one, by what their cards say
_FINE_TUNES: Mapping[str, str] = {
    "deepseek-r1-distill-qwen-1.5b": "qwen2.5-1.5b",
    "deepseek-r1-distill-qwen-7b": "qwen2.5-7b",
    "deepseek-r1-distill-qwen-14b": "qwen2.5-14b",
    "deepseek-r1-distill-qwen-32b": "qwen2.5-32b",
    "deepseek-r1-distill-llama-8b": "llama-3.1-8b",
    "deepseek-r1-distill-llama-70b": "llama-3.3-70b",
    "kimi-dev-72b": "qwen2.5-72b",
    "qwq-32b": "qwen2.5-32b",
    "llama-3.1-nemotron-70b": "llama-3.1-70b",
    "llama-3.1-nemotron-nano-8b-v1": "llama-3.1-8b",
    "llama-3.1-tulu-3-8b": "llama-3.1-8b",
    "llama-3.1-tulu-3-70b": "llama-3.1-70b",
    "hermes-4-70b": "llama-3.1-70b",
    "hermes-4-405b": "llama-3.1-405b",
    "mistral-small-3.2-24b": "mistral-small-3.1-24b",
}


def derived_name(name: str, known: Mapping[str, str]) -> DerivedName | None:
    """Return what a checkpoint's name says, or None where it says too little.

    Parameters
    ----------
    name : str
        As on Hugging Face, with or without the organisation.
    known : mapping
        Ids and other names of known models -> id.

    Examples
    --------
    >>> known = {"meta-llama/Llama-3.1-8B": "llama-3.1-8b"}
    >>> found = derived_name("neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", known)
    >>> found.base, found.quantization["quant_method"]
    ('llama-3.1-8b', 'compressed-tensors')
    >>> derived_name("someone/Llama-3.1-8B-eagle3-draft", known) is None
    True
    """
    owner, _, last = name.lower().rpartition("/")
    if "/" in owner or name.startswith((".", "/", "~")):
        return None  # a path
    rest, quantization = _split_format(_spelled(last), owner)
    words = _words(rest)
    if _OTHER & set(words):
        return None
    base = _base(words, known)
    if base is None:
        return None
    if owner == "meta-llama" and quantization == _FP8:
        quantization = _META_FP8
    return DerivedName(base, quantization)


def quantization_for(derived: DerivedName, owner: str, family: str) -> Mapping | None:
    """Return the ``quantization_config`` of a derived checkpoint of a family.

    NVIDIA's checkpoints declare an FP8 cache; NVFP4 ones leave alone what those of their
    family do.

    Examples
    --------
    >>> quantization_for(DerivedName("deepseek-r1", _NVFP4), "nvidia", "deepseek_v3")["ignore"]
    ['lm_head', 'self_attn']
    """
    found = derived.quantization
    if not found:
        return found
    if found.get("quant_algo") == "NVFP4":
        found = {**found, "ignore": [*found["ignore"], *_NVFP4_IGNORED.get(family, ())]}
    if owner.lower() == "nvidia" and found.get("quant_algo", "FP8") in ("NVFP4", "FP8"):
        found = {**found, "kv_cache_quant_algo": "FP8"}
    return found


def _spelled(last: str) -> str:
    """Return a name with one kind of separator."""
    text = last.removesuffix(".gguf").replace("_", "-").replace("quantized.", "quantized-")
    return re.sub(r"\.(?=i?q\d)", "-", text)


def _split_format(text: str, owner: str) -> tuple[str, Mapping | None]:
    """Return a name without what it says of its format, and that format."""
    typed = _GGUF.search(text)
    if typed or re.search(r"(?:^|-)gguf(?=-|$)", text):
        kind = typed.group(1).replace("-", "_") if typed else "q4_k_m"
        rest = text[: typed.start()] + text[typed.end() :] if typed else text
        return rest, {"quant_method": "gguf", "file_type": kind}
    for pattern, quantization in _FORMATS:
        match = re.search(rf"(?:^|-)(?:{pattern})(?=-|$)", text)
        if match:
            rest = text[: match.start()] + text[match.end() :]
            block = quantization == _FP8 and owner in _BLOCK_FP8
            return rest, _FP8_BLOCK if block else quantization
    return text, None


def _words(text: str) -> list[str]:
    """Split a name into words; a version stands apart from the word it follows."""
    words = []
    for word in text.split("-"):
        parts = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)*)", word)
        words += [parts[1], parts[2]] if parts else [word]
    return [word for word in words if word and word not in _NOISE]


def _is_date(word: str) -> bool:
    return re.fullmatch(r"2[4-9](?:0[1-9]|1[0-2])|0[1-9]\d\d|1[0-2]\d\d", word) is not None


def _is_size(word: str) -> bool:
    return re.fullmatch(r"(?:\d+x)?\d+(?:\.\d+)?[bm]", word) is not None


def _base(words: list[str], known: Mapping[str, str]) -> str | None:
    """Return the model whose name the words are, or hold together with its size."""
    plain = [word for word in words if not _is_date(word)]
    named: dict[tuple[str, ...], str] = {}
    for name, model_id in (*known.items(), *((name, name) for name in set(known.values()))):
        rest, quantization = _split_format(_spelled(name.lower().rpartition("/")[2]), "")
        if not quantization:
            named.setdefault(tuple(word for word in _words(rest) if not _is_date(word)), model_id)
    for name, model_id in _FINE_TUNES.items():
        if model_id in known.values():
            named.setdefault(tuple(_words(name)), model_id)
    if tuple(plain) in named:
        return named[tuple(plain)]
    inside = [key for key in named if any(map(_is_size, key)) and _holds(plain, key)]
    longest = max(map(len, inside), default=0)
    found = {named[key] for key in inside if len(key) == longest and longest >= 2}
    return found.pop() if len(found) == 1 else None


def _holds(words: list[str], part: tuple[str, ...]) -> bool:
    return any(tuple(words[i : i + len(part)]) == part for i in range(len(words) - len(part) + 1))
