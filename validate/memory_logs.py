"""One raw start-up log of vLLM (0.6 and later, V0 and V1) or SGLang -> how it was started, what it logged."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from validate.memory_rows import version_of
from validate.names import GIB
from validate.scenario import Logged, Setup

_NUMBER = r"([0-9][0-9,]*(?:\.[0-9]+)?)"
_GIB = _NUMBER + r"\s*Gi?B"  # both engines divide by 2**30 whichever they print

#: figure -> patterns and how the ranks of one start become one figure
_VLLM = {
    "weights_bytes": (
        max,
        rf"Model loading took {_GIB}",
        rf"Loading model weights took {_GIB}",
        rf"model weights take {_GIB}",
        rf"Actual usage(?: is|:) {_GIB} for weight",
    ),
    "cache_pool_bytes": (
        min,
        rf"Available KV cache memory: {_GIB}",
        rf"reserved for KV Cache is {_GIB}",
        rf"\bkv_cache_size={_GIB}",
    ),
    "activation_bytes": (
        max,
        rf"PyTorch activation peak memory takes {_GIB}",
        rf"torch peak memory increase: {_GIB}",
        rf"{_GIB} for peak activation",
    ),
    "other_bytes": (
        max,
        rf"non_torch_memory takes {_GIB}",
        rf"\bnon_torch_memory={_GIB}",
        rf"non-torch forward increase memory: {_GIB}",
        rf"{_GIB} for non-torch memory",
    ),
    "graph_bytes": (
        max,
        rf"Graph capturing finished in .*?took {_GIB}",
        rf"{_GIB} for CUDAGraph memory",
    ),
    "cache_tokens": (min, rf"GPU KV cache size: {_NUMBER} tokens"),
    "block_count": (min, rf"(?:GPU|cuda) blocks: {_NUMBER}"),
    "max_concurrency": (min, rf"Maximum concurrency for [0-9,]+ tokens per request: {_NUMBER}x"),
}
_SGLANG = {
    "weights_bytes": (max, rf"Load weight end\..*?mem usage={_GIB}"),
    "cache_pool_bytes": (
        min,
        rf"KV Cache is allocated\..*?K size: {_GIB}, V size: {_GIB}",
        rf"KV Cache is allocated\..*?KV size: {_GIB}",
    ),
    "cache_tokens": (
        min,
        rf"KV Cache is allocated\..*?#tokens: {_NUMBER}",
        rf"max_total_num_tokens={_NUMBER}",
    ),
    "graph_bytes": (max, rf"Capture cuda graph end\..*?mem usage={_GIB}"),
}

#: what was asked for -> its spellings in arguments, configuration lines and commands
_ASKED = {
    "tp": ("tensor_parallel_size", "tp_size", "tp"),
    "pp": ("pipeline_parallel_size", "pp_size", "pp"),
    "dp": ("data_parallel_size",),
    "dtype": ("dtype",),
    "quantization": ("quantization",),
    "kv_cache_dtype": ("kv_cache_dtype",),
    "request_tokens": ("max_seq_len", "max_model_len", "context_len", "context_length"),
    "memory_utilization": ("gpu_memory_utilization", "mem_fraction_static"),
    "block_tokens": ("block_size", "page_size"),
    "max_sequences": ("max_num_seqs", "max_running_requests"),
    "max_batched_tokens": ("max_num_batched_tokens", "chunked_prefill_size"),
}
_WHOLE = ("tp", "pp", "dp", "request_tokens", "block_tokens", "max_sequences", "max_batched_tokens")
_MODEL = (
    r"with config: model='([^']+)'",
    r"\bmodel_path='([^']+)'",
    r"'model(?:_tag)?': '([^']+)'",
    r"\bmodel='([^']+)'",
    r"--model(?:-path)?[ =]'?\"?([^\s'\"]+)",
    r"\bvllm serve '?\"?([^\s'\"-][^\s'\"]*)",
    r"Starting to load model ([^\s]+?)(?:\.\.\.|\s|$)",
)
_TOTAL = (
    rf"total_gpu_memory \({_GIB}\)",
    rf"\btotal_gpu_memory={_GIB}",
    rf"Free memory on device\s*\S*\s*\([0-9.]+/{_GIB}\)",
    rf"total capacity of {_GIB}",
)
_SHARE = (
    r"x gpu_memory_utilization \(([0-9.]+)\)",
    r"Desired GPU memory utilization is \(([0-9.]+)",
)
_DEVICE = (
    r"\bdevice_name=([\w-]+?)(?:,|\.json)",
    r"\bGPU \d+: ((?:NVIDIA|AMD|Tesla|Quadro)[^\n(,]*)",
    r"\|\s+\d+\s+((?:NVIDIA|Tesla|AMD)[^|]*?)\s+(?:On|Off)\b",
)
_VERSION = (
    r"vLLM API server version (\S+)",
    r"LLM engine \(v?([^)]+)\)",
    r"\bversion (\d+\.\d+\.\d+\S*)",
    r"\bsglang(?:_version)?[:= ]+v?(\d+\.\d+\S*)",
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class StartLog:
    """What one log says: how the engine was started and what it logged."""

    setup: Setup
    logged: Logged

    @property
    def is_empty(self) -> bool:
        """Whether not one line with a figure was recognised."""
        return self.logged == Logged()


def parse_log(text: str) -> StartLog:
    """Return what a start-up log says; lines of both engines are searched anywhere in the text.

    Workers of one start log one figure each: the largest weights and the smallest pool count.
    The GB that SGLang and older vLLM print are GiB.

    Examples
    --------
    >>> log = parse_log("Model loading took 14.99 GiB memory and 2.1 seconds")
    >>> log.logged.weights_bytes / 2**30, log.setup.engine
    (14.99, 'vllm')
    """
    text = _ESCAPES.sub("", text)
    engine = _engine_of(text)
    setup = _setup(text, engine)
    logged = _logged(text, _SGLANG if engine == "sglang" else _VLLM)
    if logged.weights_bytes is None and engine == "sglang":
        logged = replace(logged, weights_bytes=_loaded_bytes(text))
    if logged.cache_tokens is None and logged.block_count:  # V0 logged blocks
        logged = replace(logged, cache_tokens=logged.block_count * (setup.block_tokens or 16))
    return StartLog(setup, logged)


def _engine_of(text: str) -> str:
    signs = ("ServerArgs(", "Load weight end", "max_total_num_tokens=", "KV Cache is allocated")
    return "sglang" if any(sign in text for sign in signs) else "vllm"


def _logged(text: str, figures: dict) -> Logged:
    found = {}
    for name, (choose, *patterns) in figures.items():
        values = next(filter(None, (_sums(pattern, text) for pattern in patterns)), None)
        if values:
            found[name] = choose(values) * (GIB if name.endswith("_bytes") else 1)
    return Logged(**found)


def _sums(pattern: str, text: str) -> list[float]:
    """Numbers that a pattern finds, those of one line added up."""
    return [sum(_value(part) for part in match.groups()) for match in re.finditer(pattern, text)]


def _value(digits: str) -> float:
    return float(digits.replace(",", ""))


def _loaded_bytes(text: str) -> float | None:
    """Weights of an SGLang log without "mem usage": what was free before less what is free after."""
    before = re.search(rf"Load weight begin\. avail mem={_GIB}", text)
    after = re.search(rf"Load weight end\..*?avail mem={_GIB}", text)
    return (_value(before[1]) - _value(after[1])) * GIB if before and after else None


def _setup(text: str, engine: str) -> Setup:
    said = {name: value for name, keys in _ASKED.items() if (value := _asked(text, name, keys)) is not None}
    length = re.search(r"Maximum concurrency for ([0-9,]+) tokens", text)
    share, total = _first(_SHARE, text), _first(_TOTAL, text)
    if length:
        said["request_tokens"] = int(_value(length[1]))
    if share and "memory_utilization" not in said:
        said["memory_utilization"] = float(share)
    if re.search(r"--enable-expert-parallel\b|enable_expert_parallel['\"]?[=:]\s*True", text):
        said["ep"] = said.get("tp", 1) * said.get("dp", 1)
    return Setup(
        engine=engine,
        version=version_of(_first(_VERSION, text) or ""),
        model=_first(_MODEL, text) or "",
        device=(_first(_DEVICE, text) or "").replace("_", " "),
        device_bytes=_value(total) * GIB if total else None,
        **said,
    )


def _first(patterns: tuple[str, ...], text: str) -> str | None:
    return next((match[1].strip() for pattern in patterns if (match := re.search(pattern, text))), None)


def _asked(text: str, name: str, keys: tuple[str, ...]):
    """First value of a setting that is neither None nor left to the engine."""
    for value in _said(text, keys):
        if value.lower() in ("none", "auto", "null"):
            continue
        if name == "memory_utilization":
            return float(value) if re.fullmatch(r"0?\.\d+|1(\.0*)?", value) else None
        if name in _WHOLE:
            return int(value) if value.isdigit() and int(value) > 0 else None
        return value.removeprefix("torch.")
    return None


def _said(text: str, keys: tuple[str, ...]) -> Iterator[str]:
    for key in keys:
        flag = key.replace("_", "-")
        pattern = rf"(?:(?<![\w.-])['\"]?{key}['\"]?\s*[=:]\s*|--{flag}[ =])['\"]?([^'\",\s)}}\]]+)"
        for match in re.finditer(pattern, text):
            yield match[1].rstrip(".")
