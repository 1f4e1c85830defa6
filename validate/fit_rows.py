"""Labels of what ran and what ran out of memory: predicted fits beside them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import calc
from calc.specs.device import Device
from calc.specs.model import Model
from calc.specs.workload import whole_number
from calc.work.budget import Memory
from validate.names import GIB, device_named, model_named
from validate.scores import Score

#: columns that tell this table from others
COLUMNS = ("hardware", "n_devices", "weight_dtype", "context", "fits")

#: words of the engine column -> our engine
_ENGINES = {
    "llama.cpp": "llama.cpp",
    "gpt-fast": "gpt-fast",
    "tensorrt": "tensorrt-llm",
    "habana": "optimum-habana",
    "sglang": "sglang",
    "vllm": "vllm",
    "transformers": "transformers",
}
#: engines that put whole layers on each device unless told otherwise
_SPLIT_BY_LAYERS = ("llama.cpp",)
_BATCH = re.compile(r"batch\s+(\d+)\s*x\s*\(\s*(\d+)\s*\+\s*(\d+)\s*\)")


@dataclass(frozen=True, eq=False)
class FitCase:
    """One label in the calculator's terms."""

    device: Device
    deployment: calc.Deployment
    workload: calc.Workload
    model: Model

    def memory(self) -> Memory:
        """Return the memory of the case."""
        return calc.memory(self.model, self.device, self.deployment, self.workload)


def engine_named(text: str) -> str:
    """Return our engine for a description such as ``TensorRT-LLM (gptSessionBenchmark, static batch)``.

    Examples
    --------
    >>> engine_named("Optimum-Habana (static batch)")
    'optimum-habana'
    """
    for word, engine in _ENGINES.items():
        if word in text.lower():
            return engine
    raise calc.unknown_name("engine", text, _ENGINES.values())


def workload_of(context: str) -> calc.Workload:
    """Return the static batch that a context describes.

    A number alone is one sequence of so many tokens.

    Examples
    --------
    >>> load = workload_of("batch 64 x (2048+128)")
    >>> load.concurrency, load.prompt_tokens, load.output_tokens
    (64, 2048, 128)
    >>> workload_of("8192").prompt_tokens
    8191
    """
    found = _BATCH.search(context)
    if found:
        batch, prompt, output = (int(part) for part in found.groups())
        return calc.Workload(prompt, output, concurrency=batch, mode="static")
    tokens = calc.parse_tokens(context.replace(",", ""), "context")
    return calc.Workload(max(1, tokens - 1), 1, concurrency=1, mode="static")


def formats_of(weight_dtype: str) -> tuple[str, str | None]:
    """Return weight and cache format of a column such as ``fp8/kv fp8``.

    Examples
    --------
    >>> formats_of("fp8/kv fp8"), formats_of("q4_k_m")
    (('fp8', 'fp8'), ('q4_k_m', None))
    """
    weights, _, rest = weight_dtype.strip().lower().partition("/")
    return weights.strip(), rest.replace("kv", "").strip() or None


def case_of(row: Mapping[str, str]) -> FitCase:
    """Return one label in the calculator's terms.

    Raises
    ------
    SpecError
        If a name is not known or a value not allowed.
    """
    engine, count = engine_named(row["engine"]), whole_number("n_devices", row["n_devices"], 1, 4096)
    by_layers = engine in _SPLIT_BY_LAYERS
    weights, cache = formats_of(row["weight_dtype"])
    model, _ = model_named(row["model"])
    deployment = calc.Deployment(
        engine=engine,
        tp=1 if by_layers else count,
        pp=count if by_layers else 1,
        weight_dtype=weights or None,
        kv_dtype=cache,
    )
    return FitCase(_device(row), deployment, workload_of(row["context"]), model)


def _device(row: Mapping[str, str]) -> Device:
    """Device by name; one that no spec knows gets the size its row states, binary as labels are."""
    try:
        return device_named(row["hardware"])
    except calc.SpecError:
        size = (row.get("mem_gb_each") or "").strip()
        if not size:
            raise
        return device_named(row["hardware"], float(size) * GIB)


def scores_of(rows: Sequence[Mapping[str, str]]) -> list[Score]:
    """Return predicted fits (1 or 0) beside the labels; the reason says by how much."""
    return [_score(index, row) for index, row in enumerate(rows)]


def _score(index: int, row: Mapping[str, str]) -> Score:
    words = (f"{row['n_devices']} x {row['hardware']}", row["model"], row["weight_dtype"], row["context"])
    if row["fits"] not in ("0", "1"):
        raise calc.SpecError(f"row {index}: fits: {row['fits']!r} is not allowed; allowed are 0 and 1")
    known = {"row": index, "id": ", ".join(words), "metric": "fits", "measured": float(row["fits"])}
    group = row["engine"]
    try:
        group = engine_named(group)
        memory = case_of(row).memory()
    except calc.SpecError as error:
        return Score(**known, group=group, reason=" ".join(str(error).split()))
    return Score(**known, group=group, predicted=float(bool(memory.fits)), reason=_reason(memory))


def _reason(memory: Memory) -> str:
    """Return in words how near the limit a case is."""
    needed, usable = memory.required_bytes_per_device, memory.usable_bytes_per_device
    cache = needed - memory.tightest.fixed_bytes
    return (
        f"needs {calc.format_bytes(needed)} per device ({calc.format_bytes(memory.weights_bytes_per_device)} "
        f"weights, {calc.format_bytes(cache)} cache), {100 * needed / usable:.1f} % of "
        f"{calc.format_bytes(usable)} usable"
    )


def misses(scores: Sequence[Score]) -> list[Score]:
    """Return the labels that were predicted wrong or not answered."""
    return [score for score in scores if score.predicted != score.measured]


def accuracy_pct(scores: Sequence[Score]) -> float:
    """Return the share of labels predicted right, of all; what is not answered is not right.

    Examples
    --------
    >>> rows = [Score(0, "a", "vllm", "fits", 1.0, 1.0), Score(1, "b", "vllm", "fits", 0.0, 1.0)]
    >>> accuracy_pct(rows)
    50.0
    """
    return 100 * (1 - len(misses(scores)) / len(scores))
