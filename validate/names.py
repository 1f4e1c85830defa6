"""Names as logs and tables spell them -> devices, models and formats of the calculator."""

import re
from dataclasses import replace
from functools import lru_cache

import calc
from calc.specs.device import Device, Link
from calc.specs.facts import Fact, spec_files
from calc.specs.model import Model
from calc.specs.strict_yaml import read_yaml

GIB = 2**30

_NOISE = {
    "nvidia", "amd", "intel", "apple", "google", "instinct", "geforce", "tesla", "gpu", "card", "oam", "vf",
    "hbm2", "hbm2e", "hbm3", "hbm3e", "edition", "workstation", "blackwell",
}  # fmt: skip
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)-?gi?b\b")
_CORES = re.compile(r"\b\d+-core\b")


def device_named(name: str, total_bytes: float | None = None) -> Device:
    """Return the device a log or table names, with the memory it says.

    ``total_bytes`` is what the driver reported and replaces the spec's figure. A name that no
    spec knows becomes a device of the size it states (``"RTX 4070 Ti 12GB"``, binary, as
    labels are) or of ``total_bytes``: enough for questions of memory.

    Raises
    ------
    SpecError
        If the name is not known and no size is.

    Examples
    --------
    >>> device_named("NVIDIA GeForce RTX 4090").id, device_named("A100-SXM4-80GB").id
    ('rtx-4090', 'a100-sxm-80gb')
    >>> device_named("RTX 4070 Ti 12GB").memory_bytes / 2**30
    12.0
    """
    text = _plain(name)
    size = _SIZE.search(text)
    label = float(size[1]) if size else None
    device, is_exact = _known_device(name, text)
    if device is None:
        known = total_bytes or (label and label * GIB)
        if not known:
            raise calc.unknown_name("device", name, calc.device_ids(), hint="say which with --device")
        return sized_device(text or "device", known)
    if total_bytes:
        return with_memory(device, total_bytes, "as logged")
    if label and not is_exact and abs(device.capacity.value / 1e9 / label - 1) > 0.1:
        return with_memory(device, label * GIB, "the size in the name: another one of the same chip")
    return device


def _plain(name: str) -> str:
    """Return a name in lower case with hyphens, without makers, counts and decoration."""
    text = re.sub(r"[^a-z0-9.]+", "-", name.lower().strip()).strip("-")
    text = _CORES.sub("", re.sub(r"^\d+-?x-?(?=[a-z0-9])", "", text))
    return "-".join(part for part in text.split("-") if part and part not in _NOISE)


def _known_device(name: str, text: str) -> tuple[Device | None, bool]:
    """Device of a name and whether the name as a whole is known, size included."""
    joined = re.sub(r"(\d)-(gi?b)\b", r"\1\2", text)
    bare = re.sub(r"-+", "-", _SIZE.sub("", text)).strip("-")
    for candidate in (name.strip(), text, joined, bare, f"rtx-{bare}"):
        if not candidate.endswith((".yaml", ".yml")):
            try:
                return calc.load_device(candidate), candidate not in (bare, f"rtx-{bare}") or bare == text
            except calc.SpecError:
                continue
    return None, False


def with_memory(device: Device, memory_bytes: float, note: str) -> Device:
    """Return a device with another size of memory."""
    fact = Fact(memory_bytes, "byte", "measured", printed=f"{memory_bytes / GIB:.2f} GiB", note=note)
    return replace(device, reported=fact)


def sized_device(name: str, memory_bytes: float) -> Device:
    """Return a device of which only the memory is known."""
    shown = f"{memory_bytes / GIB:.2f} GiB"
    size = Fact(memory_bytes, "byte", "assumed", printed=shown, note="all that is known of it")
    nothing = Fact(0.0, "byte/s", "assumed", note="not known")
    return Device(
        id=name, name=name, vendor="other", architecture="other", status="available", aliases=(),
        capacity=size, reported=None, bandwidth=nothing, peaks={}, link=Link("none", "none", 1, None, None),
    )  # fmt: skip


#: what names of quantised checkpoints say, most specific first
_FORMATS = {
    r"mxfp4": "mxfp4",
    r"fp4": "nvfp4",
    r"fp8": "fp8",
    r"w8a8|int8|8bit|w8a16": "int8",
    r"awq": "int4-awq",
    r"w4a16|int4|4bit|gptq|bnb|nf4": "int4",
}
_QUANTISED = re.compile(
    r"[-_.](?:quantized[-_.])?(?:(?:nvfp4|mxfp4|fp4|fp8|w8a8|w8a16|w4a16|int8|int4|awq|gptq|bnb|nf4|marlin"
    r"|dynamic|block|[48]bit|modelopt)[-_.]?)+$"
)


def model_named(name: str) -> tuple[Model, str | None]:
    """Return the model a log names, and the weight format its name adds to a known base model.

    Understands folders, Hugging Face cache folders and suffixes of quantised copies.

    Raises
    ------
    SpecError
        If no part of the name is known.

    Examples
    --------
    >>> model, weights = model_named("/models/models--Qwen--Qwen3-8B-AWQ")
    >>> model.id, weights
    ('qwen3-8b', 'int4-awq')
    >>> model_named("Qwen/Qwen3-8B")[1] is None
    True
    """
    try:
        return calc.load_model(name), None
    except calc.SpecError as error:
        first = error
    text = re.sub(r"/snapshots/.*", "", name.strip().rstrip("/").lower())
    text = re.split(r"/|models--", text)[-1].rpartition("--")[2]
    known = _keys()
    if _key(text) in known:
        return calc.load_model(known[_key(text)]), None
    base = _QUANTISED.sub("", text)
    if base != text and _key(base) in known:
        return calc.load_model(known[_key(base)]), named_format(text)
    raise first


def named_format(name: str) -> str | None:
    """Return the weight format that a checkpoint's name says.

    Examples
    --------
    >>> named_format("Meta-Llama-3.1-8B-Instruct-quantized.w4a16"), named_format("Qwen/Qwen3-8B")
    ('int4', None)
    """
    return next((fmt for words, fmt in _FORMATS.items() if re.search(words, name.lower())), None)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@lru_cache(maxsize=1)
def _keys() -> dict[str, str]:
    """Ids and last parts of aliases, letters and digits only -> model id."""
    keys: dict[str, str] = {}
    for model_id, path in spec_files("model_specs").items():
        for alias in (model_id, *read_yaml(path).get("aliases", ())):
            keys.setdefault(_key(alias.rpartition("/")[2]), model_id)
    return keys


#: the engine's word for a quantisation -> weight format, where the checkpoint itself is not known as such
_QUANTISATIONS = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "modelopt": "fp8", "w8a8_fp8": "fp8",
    "awq": "int4-awq", "awq_marlin": "int4-awq", "gptq": "int4", "gptq_marlin": "int4",
    "bitsandbytes": "int4", "mxfp4": "mxfp4", "modelopt_fp4": "nvfp4", "nvfp4": "nvfp4",
    "w8a8_int8": "int8", "int8": "int8",
}  # fmt: skip
_PLAIN = ("", "none", "auto")


def weight_format_of(model: Model, named: str | None, dtype: str, quantization: str) -> str | None:
    """Return the weight format a log's dtype and quantization mean; None is the checkpoint's own.

    Examples
    --------
    >>> base = calc.load_model("llama-3.1-8b")
    >>> weight_format_of(base, None, "float32", ""), weight_format_of(base, None, "bfloat16", "fp8")
    ('fp32', 'fp8')
    """
    if model.checkpoint.weight_dtype not in ("bf16", "fp16", "fp32"):
        return None
    if named:
        return named
    word = quantization.lower()
    if word in _PLAIN:
        return "fp32" if dtype.removeprefix("torch.") in ("float32", "float") else None
    if word not in _QUANTISATIONS:
        raise calc.SpecError(
            f"quantization: {quantization!r} does not say the weight format; say it with --weights"
        )
    return _QUANTISATIONS[word]


def cache_format_of(dtype: str, kv_cache_dtype: str) -> str | None:
    """Return the cache format a log means; None is the engine's default of 16 bits.

    Examples
    --------
    >>> cache_format_of("bfloat16", "auto") is None, cache_format_of("bfloat16", "fp8_e4m3")
    (True, 'fp8')
    """
    word = kv_cache_dtype.lower().removeprefix("torch.")
    if word in _PLAIN:
        return "fp32" if dtype.removeprefix("torch.") in ("float32", "float") else None
    if word.startswith(("fp8", "float8")):
        return "fp8"
    calc.Deployment(kv_dtype=word)  # raises for what is not known
    return word
