"""How a checkpoint stores its weights, from ``quantization_config`` and ``torch_dtype``."""

import fnmatch
import re
from collections import Counter

from calc.specs.errors import SpecError
from calc.specs.hf_config.fields import Fields, n_layers_of
from calc.specs.quantization import USUALLY_KEPT, Checkpoint

#: stored dtype -> format that engines run it in (they halve a checkpoint kept in 32 bits)
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp16"}

#: module class -> what its modules are called in a layer of a checkpoint
_MODULES = {
    "attention": ("self_attn.o_proj", "linear_attn.out_proj"),
    "feedforward": ("mlp.down_proj",),
    "expert": ("mlp.experts.0.down_proj", "block_sparse_moe.experts.0.w2"),
    "shared_expert": ("mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj"),
}
#: Gemma 4 keeps its routed experts beside the dense part that every token passes
_GEMMA4 = {"expert": ("experts.0.down_proj",), "shared_expert": ("mlp.down_proj",)}


def checkpoint_of(c: Fields) -> Checkpoint:
    """Return the format of a config's checkpoint and the module classes it leaves in 16 bits.

    Where single layers differ, a layer in the middle decides for its class.
    """
    holder = c
    if "quantization_config" not in c and "text_config" in c:
        holder = c.section("text_config")
    if "quantization_config" not in holder:
        return Checkpoint(_plain_dtype(c))
    q = holder.section("quantization_config")
    middle = n_layers_of(c.section("text_config") if "text_config" in c else c) // 2
    names = ("modules_to_not_convert", "ignore", "exclude_modules", "modules_to_save")
    patterns = [pattern for name in names for pattern in q.items(name, ())]
    if not all(isinstance(pattern, str) for pattern in patterns):
        raise SpecError(f"{q.where}: the list of modules left alone must hold names")
    modules = _MODULES | (_GEMMA4 if c.text("model_type", "") == "gemma4" else {})
    kept = tuple(role for role, names in modules.items() if _is_kept(names, patterns, middle))
    return Checkpoint(_format(q), (*USUALLY_KEPT, *kept))


def _plain_dtype(c: Fields) -> str:
    holders = [c] + ([c.section("text_config")] if "text_config" in c else [])
    for holder in holders:
        for name in ("torch_dtype", "dtype"):
            dtype = holder.text(name, "")
            if dtype:
                return _DTYPES.get(dtype.removeprefix("torch."), "bf16")
    return "bf16"


def _format(q: Fields) -> str:
    method = q.text("quant_method", "modelopt").lower()
    if method in ("fp8", "fbgemm_fp8"):
        return "fp8-block" if "weight_block_size" in q else "fp8"
    if method == "mxfp4":
        return "mxfp4"
    if method in ("awq", "gptq"):
        return _integer(q, zeros=method == "awq")
    if method in ("compressed-tensors", "modelopt"):
        return _grouped(q)
    raise SpecError(
        f"{q.where}: quant_method {method!r} is not known: allowed are "
        "awq, compressed-tensors, fbgemm_fp8, fp8, gptq, modelopt, mxfp4"
    )


def _grouped(q: Fields) -> str:
    """Return the format of the first weight group of a compressed-tensors or ModelOpt config."""
    if "quantized_layers" in q:
        return _mixed(q)
    algorithm = f"{q.text('quant_algo', '')} {q.text('format', '')}".lower()
    for known in ("mxfp4", "nvfp4"):
        if known in algorithm:
            return known
    if "config_groups" not in q:
        if "fp8" in algorithm:
            return "fp8"
        raise SpecError(f"{q.where}: neither quant_algo nor config_groups say how weights are stored")
    groups = q.section("config_groups")
    if not groups.config:
        raise SpecError(f"{groups.where} is empty")
    w = groups.section(sorted(groups.config, key=str)[0]).section("weights")
    if w.text("type", "int") == "float":
        return "nvfp4" if w.count("num_bits") == 4 else "fp8"
    return _integer(w, zeros=not w.flag("symmetric", True), bits_name="num_bits")


def _mixed(q: Fields) -> str:
    """Return the format of most modules where a ModelOpt config lists each with its own."""
    layers = q.section("quantized_layers")
    algorithms = Counter(layers.section(name).text("quant_algo", "") for name in layers.config)
    most = algorithms.most_common(1)[0][0].lower() if algorithms else ""
    for known in ("nvfp4", "fp8"):
        if known in most:
            return known
    raise SpecError(f"{layers.where}: quant_algo {most!r} is not known: allowed are fp8, nvfp4")


def _integer(q: Fields, zeros: bool, bits_name: str = "bits") -> str:
    bits = q.count(bits_name, default=4, most=16)
    if bits == 8:
        return "int8"
    if bits != 4:
        raise SpecError(f"{q.where}: {bits_name} must be 4 or 8, got {bits}")
    if q.count("group_size", default=128, least=-1) == 32:
        return "int4-g32"
    return "int4-awq" if zeros else "int4"


def _is_kept(names: tuple[str, ...], patterns: list[str], layer: int) -> bool:
    modules = [f"model.layers.{layer}.{name}" for name in names]
    return any(_matches(pattern, module) for pattern in patterns for module in modules)


def _matches(pattern: str, module: str) -> bool:
    """Whether a pattern names a module or something that contains it."""
    if pattern.startswith("re:"):
        try:
            return re.match(pattern[3:], module) is not None
        except re.error:
            return False
    # multimodal checkpoints nest the language model: our modules are named as in a plain one
    plain = pattern.replace("language_model.", "", 1)
    plain = f"model.{plain}" if plain.startswith("layers.") else plain
    return fnmatch.fnmatchcase(module, plain) or fnmatch.fnmatchcase(module, f"{plain}.*")
