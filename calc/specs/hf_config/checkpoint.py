"""How a checkpoint stores its weights, module by module, from ``quantization_config`` and dtype."""

from collections.abc import Callable, Iterable, Iterator

from calc.specs.errors import SpecError
from calc.specs.hf_config.fields import Fields, n_layers_of, shown
from calc.specs.hf_config.modules import (
    OUTER_MODULES,
    LayerMentions,
    Patterns,
    layer_modules,
    plain_name,
)
from calc.specs.quantization import (
    Checkpoint,
    Exceptions,
    default_format,
    grouped,
    role_of,
    weight_format,
)

#: stored dtype -> format that engines run it in (they halve a checkpoint kept in 32 bits)
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp16"}

#: lists of modules left alone, as the methods call them
_IGNORED = (
    "ignore", "modules_to_not_convert", "exclude_modules", "ignored_layers", "exclude",
    "llm_int8_skip_modules", "modules_to_save",
)  # fmt: skip

#: what ModelOpt calls its formats, upper case
_ALGORITHMS = {
    "FP8": "fp8", "FP8_PER_CHANNEL_PER_TOKEN": "fp8-channel", "FP8_PB_WO": "fp8-block",
    "FP8_PB_REAL_QUANT": "fp8-block", "NVFP4": "nvfp4", "NVFP4_AWQ": "nvfp4", "W4A16_NVFP4": "nvfp4-a16",
    "MXFP8": "mxfp8", "MXFP4": "mxfp4", "W4A8_MXFP4_FP8": "mxfp4", "W4A16_MXFP4": "mxfp4",
    "W4A16_AWQ": "int4-awq", "INT4_AWQ": "int4-awq", "W4A8_AWQ": "int4-a8", "W8A16": "int8-a16",
    "W8A8_SQ_PER_CHANNEL": "int8", "INT8_SQ": "int8", "INT8": "int8",
}  # fmt: skip

_PLAIN = "plain"  # of what is left alone, in the checkpoint's own 16 bits


def checkpoint_of(c: Fields) -> Checkpoint:
    """Return the format of a config's checkpoint and of each module that differs from it."""
    plain, holder = _plain_dtype(c), c
    if "quantization_config" not in c and "text_config" in c:
        holder = c.section("text_config")
    if "quantization_config" not in holder:
        return Checkpoint(plain, plain)
    rules = _Rules(holder.section("quantization_config"), holder.text("expert_dtype", ""))
    plain = "bf16" if plain == "fp32" else plain
    return _resolved(c, rules, plain)


def _resolved(c: Fields, rules: "_Rules", plain: str) -> Checkpoint:
    """Ask the rules about every module of every layer, and keep where the answer is no default."""
    text = c.section("text_config") if "text_config" in c else c
    n_layers = n_layers_of(text)
    n_mtp = text.count("num_nextn_predict_layers", "mtp_num_hidden_layers", default=0, least=0, most=16)
    modules = layer_modules(c.text("model_type", ""))
    most = rules.most_common(modules, n_layers // 2)
    fmt = weight_format(most)

    def exceptions(names, *prefixes: str) -> Iterator[tuple[str, str]]:
        for name, spellings in names.items():
            found = rules.format_of(name, [before + module for before in prefixes for module in spellings])
            found = plain if found == _PLAIN else found
            if found and found != default_format(name, _role(name), fmt, plain):
                yield name, found

    alike: dict[object, Exceptions] = {}
    for i in range(n_layers):
        said = rules.mentions.of(i)
        if said not in alike:
            alike[said] = tuple(exceptions(modules, f"layers.{i}."))
    layers = [alike[rules.mentions.of(i)] for i in range(n_layers)]
    for i in range(n_mtp):
        layers.append(tuple(exceptions(modules, f"layers.{n_layers + i}.", f"mtp.layers.{i}.")))
    groups, order = grouped(layers)
    return Checkpoint(most, plain, tuple(exceptions(OUTER_MODULES, "")), groups, order, rules.kv_dtype)


def _role(name: str) -> str:
    return {"embed_tokens": "embedding", "lm_head": "lm_head"}.get(name) or role_of(name)


def _plain_dtype(c: Fields) -> str:
    holders = [c] + ([c.section("text_config")] if "text_config" in c else [])
    for holder in holders:
        for name in ("torch_dtype", "dtype"):
            dtype = holder.text(name, "")
            if dtype:
                return _DTYPES.get(dtype.removeprefix("torch."), "bf16")
    return "bf16"


class _Rules:
    """What a ``quantization_config`` says about modules.

    ``base`` is the format of matrices that nothing else names, ``ignored`` what is left
    alone, ``targets`` pairs (modules, format), ``listed`` single modules with their format.
    """

    def __init__(self, q: Fields, expert_dtype: str = ""):
        ignored = list(_ignored(q))
        self.ignored = Patterns(ignored)
        self.targets: list[tuple[Patterns, str]] = []
        self.listed: dict[str, str] = {}
        self._rules = ignored
        self.kv_dtype = _kv_dtype(q)
        self.expert_format = "mxfp4" if expert_dtype == "fp4" else ""
        if "quantized_layers" in q:
            self._read_layers(q)
        else:
            self.base = self._read_method(q)
        self.mentions = LayerMentions(self._rules)

    def format_of(self, name: str, modules: list[str]) -> str:
        """Return the format of a weight, ``"plain"`` where it is left alone, "" for the default."""
        if self.listed:
            found = next((self._listed(module) for module in modules if self._listed(module)), "")
            if found or name in OUTER_MODULES:
                return found
        elif name in OUTER_MODULES:
            return self._targeted(modules)
        if self.expert_format and role_of(name) == "expert":
            return self.expert_format
        if any(self.ignored.match(module) for module in modules):
            return _PLAIN
        return self._targeted(modules) or self.base

    def _listed(self, module: str) -> str:
        words = module.split(".")
        ends = range(len(words), 0, -1)
        return next((self.listed[name] for end in ends if (name := ".".join(words[:end])) in self.listed), "")

    def _targeted(self, modules: list[str]) -> str:
        return next((fmt for some, fmt in self.targets if any(map(some.match, modules))), "")

    def most_common(self, modules: dict[str, tuple[str, ...]], layer: int) -> str:
        """Return the format to call the checkpoint's: that of routed experts or feed-forwards."""
        for name in ("moe.experts.up_proj", "mlp.up_proj", "attention.q_proj", "attention.q_b_proj"):
            if self.listed or self.targets or self.expert_format:
                found = self.format_of(name, [f"layers.{layer}.{module}" for module in modules[name]])
                if found not in ("", _PLAIN):
                    return found
        return next(iter(self.listed.values()), "bf16") if self.base == _PLAIN else self.base

    def _read_layers(self, q: Fields) -> None:
        """ModelOpt's mixed precision: each quantised module with its own algorithm."""
        layers = q.section("quantized_layers")
        for name in layers.config:
            self.listed[plain_name(str(name))] = _algorithm(layers.section(name))
        if not self.listed:
            raise SpecError(f"{layers.where} is empty")
        self._rules = [*self._rules, *(f"{name} {fmt}" for name, fmt in self.listed.items())]
        # beside its list DeepSeek-V4 keeps the format of the file that was quantised further,
        # and what it ignores is left in that
        beneath = q.text("quant_method", "modelopt").lower() == "fp8"
        self.base = _fp8(q) if beneath else _PLAIN
        if beneath:
            self.ignored = Patterns(())

    def _read_method(self, q: Fields) -> str:
        method = q.text("quant_method", "modelopt").lower()
        if method not in _METHODS:
            raise SpecError(
                f"{q.where}: quant_method {method!r} is not known: allowed are {', '.join(sorted(_METHODS))}"
            )
        return _METHODS[method](q) or self._read_groups(q)

    def _read_groups(self, q: Fields) -> str:
        """Groups of modules, each with its weights' number format (compressed-tensors)."""
        if "config_groups" not in q:
            raise SpecError(f"{q.where}: neither quant_algo nor config_groups say how weights are stored")
        groups, base = q.section("config_groups"), ""
        if not groups.config:
            raise SpecError(f"{groups.where} is empty")
        for name in sorted(groups.config, key=str):
            group = groups.section(name)
            fmt = _group_format(q, group)
            named = [target for target in _names(group, "targets") if target not in _CLASSES]
            if named:
                self.targets.append((Patterns(named), fmt))
                self._rules = [*self._rules, *(f"{target} {fmt}" for target in named)]
            else:
                base = base or fmt
        return base or _PLAIN


#: classes of modules that a group may name instead of modules
_CLASSES = ("Linear", "FusedMoE", "LinearBase", "Conv1D", "ColumnParallelLinear", "RowParallelLinear")


def _names(q: Fields, name: str) -> list[str]:
    values = q.items(name, ())
    if not all(isinstance(value, str) for value in values):
        raise SpecError(f"{q.where}: {name} must be a list of names")
    return values


def _ignored(q: Fields) -> Iterable[str]:
    for name in _IGNORED:
        yield from _names(q, name)
    if "dynamic" in q and isinstance(q.value("dynamic"), dict):  # GPTQModel: "-:" leaves modules alone
        yield from (f"re:{key[2:]}" for key in map(str, q.section("dynamic").config) if key.startswith("-:"))


def _kv_dtype(q: Fields) -> str | None:
    """Return the cache format that a checkpoint declares."""
    for name in ("kv_cache_scheme", "kv_cache_quant_algo"):
        value = q.value(name)
        if isinstance(value, str) and "FP8" in value.upper():
            return "fp8"
        if isinstance(value, dict):
            scheme = q.section(name)
            eight = scheme.count("num_bits", default=8, most=64) == 8
            return ("fp8" if scheme.text("type", "float") == "float" else "int8") if eight else None
    return None


def _algorithm(q: Fields) -> str:
    name = q.text("quant_algo", "").upper()
    if name not in _ALGORITHMS:
        known = ", ".join(sorted(_ALGORITHMS))
        raise SpecError(f"{q.where}: quant_algo {shown(name.lower())} is not known: allowed are {known}")
    return _ALGORITHMS[name]


def _fp8(q: Fields) -> str:
    if "weight_block_size" in q:
        return "fp8-block-ue8m0" if q.text("scale_fmt", "") == "ue8m0" else "fp8-block"
    return "fp8"


def _modelopt(q: Fields) -> str:
    if "quant_algo" not in q:
        return ""
    return "" if q.text("quant_algo").upper() == "MIXED_PRECISION" else _algorithm(q)


def _bitsandbytes(q: Fields) -> str:
    if q.flag("load_in_8bit"):
        return "int8"
    return "nf4" if q.flag("bnb_4bit_use_double_quant") else "nf4-single"


def _quark(q: Fields) -> str:
    """AMD Quark: one configuration for all matrices."""
    w = q.section("global_quant_config").section("weight")
    dtype = w.text("dtype", "")
    if dtype == "fp4":
        return "mxfp4"
    if dtype.startswith("fp8"):
        return "fp8-channel" if w.text("qscheme", "") == "per_channel" else "fp8"
    if dtype in ("int8", "int4", "uint4"):
        return {"int8": "int8", "int4": "int4", "uint4": "int4-awq"}[dtype]
    raise SpecError(f"{w.where}: dtype {shown(dtype)} is not known: allowed are fp4, fp8, int4, int8, uint4")


def _group_format(q: Fields, group: Fields) -> str:
    """Return the format of one group of a compressed-tensors config."""
    algorithm = f"{q.text('format', '')} {group.text('format', '')}".lower()
    # null says that activations stay in 16 bits; a trimmed config says nothing
    alone = "input_activations" in group.config and group.value("input_activations") is None
    for known in ("mxfp4", "nvfp4", "mxfp8"):
        if known in algorithm:
            return "nvfp4-a16" if known == "nvfp4" and alone else known
    w = group.section("weights")
    if w.text("type", "int") != "float":
        return _grouped_integer(w, alone or "pack-quantized" in algorithm, "input_activations" in group)
    if w.count("num_bits") == 4:
        small = w.count("group_size", default=16, least=-1) == 16
        return ("nvfp4-a16" if alone else "nvfp4") if small else "mxfp4"
    return {"channel": "fp8-channel", "block": "fp8-block"}.get(w.text("strategy", ""), "fp8")


def _grouped_integer(w: Fields, alone: bool, activations: bool) -> str:
    bits = _bits(w, "num_bits")
    if bits == 8 and alone:
        return "int8-g128" if w.count("group_size", default=-1, least=-1) > 0 else "int8-a16"
    if bits == 8:
        return "int8"
    return _int4(w, zeros=not w.flag("symmetric", True), activations=activations)


def _integer(q: Fields, zeros: bool = False) -> str:
    """Return the format of GPTQ or AWQ: weights only, in groups."""
    if _bits(q, "bits") == 8:
        return "int8-g128" if q.count("group_size", default=128, least=-1) > 0 else "int8-a16"
    return _int4(q, zeros, activations=False)


def _bits(q: Fields, name: str) -> int:
    bits = q.count(name, default=4, most=16)
    if bits not in (4, 8):
        raise SpecError(f"{q.where}: {name} must be 4 or 8, got {bits}")
    return bits


def _int4(q: Fields, zeros: bool, activations: bool) -> str:
    if zeros:
        return "int4-awq"
    if activations:
        return "int4-a8"
    size = q.count("group_size", default=128, least=-1)
    return {32: "int4-g32", 64: "int4-g64", -1: "int4-channel"}.get(size, "int4")


#: quant_method -> reader; an empty answer leaves it to ``config_groups``
_METHODS: dict[str, Callable[[Fields], str]] = {
    "fp8": _fp8,
    "fbgemm_fp8": lambda q: "fp8-channel",
    "mxfp4": lambda q: "mxfp4",
    "awq": lambda q: _integer(q, zeros=True),
    "gptq": _integer,
    "auto-round": _integer,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": lambda q: "",
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "quark": _quark,
    "gguf": lambda q: weight_format(q.text("file_type", "q4_k_m")).name,
}
