"""What the launch scripts of InferenceX set beside what its rows say.

From the scripts, runners and search spaces of September 2025 to April 2026 at
https://github.com/SemiAnalysisAI/InferenceX; each rule names what tells the script: engine,
model, format, device, day.
"""

from dataclasses import dataclass, replace

from validate.runs.bench_limits import round_up
from validate.runs.table import Run, measured_on

#: pairs of lengths that InferenceX runs, and the mean length over the one stated (``RANDOM_RANGE_RATIO`` 0.8)
SPREAD_LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
MEAN_LENGTH = 0.9
#: until this day scripts of TensorRT-LLM chose how experts and attention are spread, and rows say one rank
#: of each; from then on the search space did. SGLang's ``--enable-ep-moe`` of those days was deprecated, and
#: its runs are as fast as without
SPREAD_SAID = "2025-11-04"
#: from this day servers get a warm-up before they are measured: twice as many requests as are in flight
WARMED_UP = "2026-01-22"
#: from this day steps of TensorRT-LLM are of 8192 tokens at least
LEAST_8192 = "2026-01-26"


@dataclass(frozen=True)
class Drafted:
    """Runs that draft with the model's own next-token layer (MTP).

    One search space each: what its rows have in common, and how many tokens they draft; with
    ranks of attention data TensorRT-LLM drafts one. ``since`` is the day of the first such run,
    ``above`` the concurrency up to which the same cell was run without drafts too.
    """

    engine: str
    versions: tuple[str, ...]
    model: str
    drafts: int
    weight_dtypes: tuple[str, ...] = ("fp8", "nvfp4", "fp4")
    tp: int | None = None
    ep: int | None = None
    prompt_tokens: int | None = None
    above: int = 0
    since: str = ""

    def covers(self, run: Run) -> bool:
        """Whether a run is one of them."""
        wanted = ((self.tp, run.tp), (self.ep, run.ep), (self.prompt_tokens, run.prompt_tokens))
        return (
            run.engine == self.engine
            and run.engine_version in self.versions
            and self.model in run.model
            and run.weight_dtype in self.weight_dtypes
            and all(mine in (None, its) for mine, its in wanted)
            and (run.concurrency or 0) > self.above
            and measured_on(run) >= self.since
        )


_R1, _QWEN = "DeepSeek-R1", "Qwen3.5"
#: search spaces ``*-mtp`` whose rows can be told from those without drafts
DRAFTED = (
    Drafted("tensorrt-llm", ("1.2.0rc6.post3",), _R1, 3),
    Drafted("tensorrt-llm", ("1.1.0rc2.post2",), _R1, 3, since="2026-01-14"),
    Drafted("sglang", ("0.5.9",), _R1, 2, ("fp8",), tp=8, ep=1, above=64),
    Drafted("sglang", ("0.5.9",), _R1, 2, ("fp8",), tp=8, ep=1, prompt_tokens=8192, above=4),
    Drafted("sglang", ("0.5.9",), _QWEN, 3, ("fp8",), tp=4, ep=1),
    Drafted("sglang", ("0.5.10.post1",), _QWEN, 3, ("fp8",), tp=8, ep=8),
)


@dataclass(frozen=True)
class Spread:
    """Concurrencies above which a script spread experts, and attention too; by the lengths of a run."""

    experts: dict[tuple[int, int], float]
    attention: dict[tuple[int, int], float]


_SHORT, _LONG_ANSWER, _LONG_PROMPT = SPREAD_LENGTHS
_ALWAYS, _NEVER = 0, float("inf")


def _same(above: float) -> dict[tuple[int, int], float]:
    return dict.fromkeys(SPREAD_LENGTHS, above)


#: (engine, model, formats, device, tensor parallel size or None) -> what its script chose
_SPREADS = {
    ("tensorrt-llm", "DeepSeek", "fp4", "b200-sxm", 4): Spread(
        _same(32), {_SHORT: 255, _LONG_ANSWER: 255, _LONG_PROMPT: 32}
    ),
    ("tensorrt-llm", "DeepSeek", "fp4", "b200-sxm", 8): Spread(
        {_SHORT: 8, _LONG_ANSWER: 16, _LONG_PROMPT: 32},
        {_SHORT: 255, _LONG_ANSWER: 255, _LONG_PROMPT: 32},
    ),
    ("tensorrt-llm", "DeepSeek", "fp8", "b200-sxm", 8): Spread(
        _same(_ALWAYS), {_SHORT: 32, _LONG_ANSWER: 64, _LONG_PROMPT: 64}
    ),
    ("tensorrt-llm", "DeepSeek", "fp8", "h200-sxm", 8): Spread(
        _same(_ALWAYS), {_SHORT: 64, _LONG_ANSWER: 64, _LONG_PROMPT: 32}
    ),
    ("tensorrt-llm", "gpt-oss", "fp4", "b200-sxm", None): Spread(_same(255), _same(255)),
    ("tensorrt-llm", "gpt-oss", "fp4", "h200-sxm", None): Spread(_same(_ALWAYS), _same(_NEVER)),
}


def has_spread_lengths(run: Run) -> bool:
    """Whether a run is of an InferenceX scenario: lengths from 80 to 100 % of those stated."""
    return run.group == "inferencex" and (run.prompt_tokens, run.output_tokens) in SPREAD_LENGTHS


def as_launched(run: Run) -> Run:
    """Return a run with the ranks of experts and attention that its script chose.

    Rows measured before 4 November 2025 say ``ep`` 1 and ``dp`` 1 whatever ran.
    """
    if not has_spread_lengths(run) or not _is_before(run, SPREAD_SAID) or run.ep * run.dp > 1:
        return run
    spread = _spread_of(run)
    if spread is None:
        return run
    lengths, ranks, many = (run.prompt_tokens, run.output_tokens), run.tp, run.concurrency or 1
    if many > spread.attention[lengths]:
        return replace(run, tp=1, dp=ranks, ep=ranks)
    return replace(run, ep=ranks) if many > spread.experts[lengths] else run


def _is_before(run: Run, day: str) -> bool:
    """Whether a run was measured before a day; those without a day count as late ones."""
    return "" < measured_on(run) < day


def _spread_of(run: Run) -> Spread | None:
    """Return what the script of a run chose; None where it left experts and attention together."""
    for (engine, model, dtype, device, tp), spread in _SPREADS.items():
        if (
            (engine, device) == (run.engine, run.device)
            and model in run.model
            and run.weight_dtype.endswith(dtype)
            and tp in (None, run.tp)
        ):
            return spread
    return None


def is_warmed_up(run: Run) -> bool:
    """Whether the server of a run had served such requests before."""
    return not _is_before(run, WARMED_UP)


def drafts_of(run: Run) -> int:
    """Tokens that a run drafts at a time, as far as its row tells."""
    drafts = next((each.drafts for each in DRAFTED if each.covers(run)), 0)
    return 1 if drafts and run.engine == "tensorrt-llm" and run.dp > 1 else drafts


@dataclass(frozen=True)
class Script:
    """What launch scripts of SGLang and vLLM set for a model in some formats on some devices.

    ``tokens`` are the most of a step (``prompts`` the same in prompts), ``share`` that of memory, ``cache``
    its format; None is left to the engine. ``intervals`` are how many steps SGLang's scheduler takes from
    one look at what came to the next: below 16 requests, and from there on. ``tp``, ``is_drafted`` and
    ``since``, the day of the first such run, tell scripts of the same model apart.
    """

    engine: str
    model: str
    dtypes: tuple[str, ...]
    devices: tuple[str, ...]
    tokens: int | None
    share: float | None
    cache: str | None = None
    intervals: tuple[int, int] = (0, 0)
    prompts: int | None = None
    tp: int | None = None
    is_drafted: bool | None = None
    since: str = ""

    def covers(self, run: Run) -> bool:
        """Whether it launched a run."""
        return (
            run.engine == self.engine
            and self.tp in (None, run.tp)
            and self.is_drafted in (None, drafts_of(run) > 0)
            and not _is_before(run, self.since)
            and self.model in run.model
            and run.weight_dtype.endswith(self.dtypes)
            and run.device.startswith(self.devices)
        )


_ANY, _FP4, _FP8 = ("",), ("fp4",), ("fp8",)
_BLACKWELL, _HOPPER, _AMD = ("b200", "b300"), ("h100", "h200"), ("mi3",)
_LOOKS = (10, 30)
#: the first that covers a run speaks for it; the last of an engine for what it has no script of
SCRIPTS = (
    Script("sglang", "DeepSeek", _FP4, _BLACKWELL, 16384, 0.85, "fp8", _LOOKS),
    Script("sglang", "DeepSeek", _FP8, _BLACKWELL, 16384, 0.82, "fp8", _LOOKS, is_drafted=True),
    Script("sglang", "DeepSeek", _FP8, _BLACKWELL, 8192, 0.95, "fp8", _LOOKS, tp=4),
    Script("sglang", "DeepSeek", _FP8, _BLACKWELL, 32768, 0.82, "fp8", _LOOKS),
    Script("sglang", "DeepSeek", _FP8, ("h200",), 32768, 0.82),
    Script("sglang", "DeepSeek", _FP4, ("mi355",), 196608, 0.8, "fp8", since="2026-01-21"),
    Script("sglang", "DeepSeek", _FP8, ("mi355",), 196608, 0.8, "fp8", since="2026-04-01"),
    Script("sglang", "DeepSeek", _ANY, ("mi355",), 196608, 0.8),
    Script("sglang", "DeepSeek", _ANY, _AMD, 131072, 0.8, "fp8", since="2026-01-21"),
    Script("sglang", "DeepSeek", _ANY, _AMD, 196608, 0.8),
    Script("sglang", "Qwen3.5", ("bf16",), _BLACKWELL, 32768, 0.82, None, _LOOKS),
    Script("sglang", "Qwen3.5", _FP4, ("b300",), 32768, 0.8, "fp8", _LOOKS),
    Script("sglang", "Qwen3.5", _FP4, ("b200",), 32768, 0.85, "fp8", _LOOKS),
    Script("sglang", "Qwen3.5", _FP8, ("b300",), 16384, 0.8, "fp8", (10, 10)),
    Script("sglang", "Qwen3.5", _FP8, ("b200",), 32768, 0.82, "fp8", _LOOKS),
    Script("sglang", "Qwen3.5", _FP8, ("h200",), 16384, 0.8, "fp8"),
    Script("sglang", "Qwen3.5", _FP4, ("mi355",), None, None),
    Script("sglang", "Qwen3.5", _ANY, ("mi355",), 32768, 0.8, None, (30, 30)),
    Script("sglang", "Qwen3.5", _ANY, _AMD, 32768, 0.75, None, (30, 30)),
    Script("sglang", "GLM-5", _FP4, _BLACKWELL, 32768, 0.9, "fp8", _LOOKS),
    Script("sglang", "GLM-5", _FP8, _BLACKWELL, 32768, 0.85, "fp8"),
    Script("sglang", "GLM-5", _FP8, ("h200",), None, 0.85),
    Script("sglang", "GLM-5", _ANY, _AMD, None, 0.85, "fp8"),
    Script("sglang", "", _ANY, _ANY, 16384, None),
    Script("vllm", "Llama", _ANY, _AMD, 131072, 0.94, "fp8"),
    Script("vllm", "Llama", _ANY, _ANY, 8192, 0.9, "fp8"),
    Script("vllm", "gpt-oss", _ANY, _BLACKWELL, 8192, 0.9, "fp8"),
    Script("vllm", "gpt-oss", _ANY, _AMD, None, 0.95),
    Script("vllm", "Kimi", _FP4, ("b200",), None, 0.9, "fp8", prompts=2),
    Script("vllm", "Kimi", _FP4, _ANY, None, 0.9),
    Script("vllm", "Kimi", _ANY, _ANY, None, 0.95),
    Script("vllm", "MiniMax", _ANY, _BLACKWELL, None, 0.9, "fp8", prompts=2),
    Script("vllm", "MiniMax", _ANY, ("h100",), None, 0.9),
    Script("vllm", "MiniMax", _ANY, ("mi355",), None, 0.95, "fp8"),
    Script("vllm", "MiniMax", _ANY, _ANY, None, 0.95),
    Script("vllm", "", _ANY, _ANY, 8192, 0.9),
)


def _script_of(run: Run) -> Script | None:
    return next((each for each in SCRIPTS if each.covers(run)), None)


def cache_of(run: Run) -> str | None:
    """Cache format of the launch scripts; None where they leave it to the engine."""
    if run.engine == "tensorrt-llm":
        return None if "gpt-oss" in run.model and run.device == "h200-sxm" else "fp8"
    script = _script_of(run)
    return script.cache if script else None


def step_tokens(run: Run, drafts: int) -> int | None:
    """Most tokens of a step in the launch scripts; None where they leave it to the engine."""
    if run.engine == "tensorrt-llm":
        return _tensorrt_tokens(run, drafts)
    script = _script_of(run)
    if script is None:
        return None
    return script.prompts * run.prompt_tokens if script.prompts else script.tokens


def memory_share(run: Run, drafts: int) -> float | None:
    """Share of memory of the launch scripts; None where they leave it to the engine."""
    if run.engine == "tensorrt-llm":
        return _tensorrt_share(run, drafts)
    script = _script_of(run)
    if script and drafts and "Qwen3.5" in run.model:  # whatever the device
        return 0.8
    return script.share if script else None


def _tensorrt_tokens(run: Run, drafts: int) -> int:
    """``--max_num_tokens``."""
    prompt, many = run.prompt_tokens, run.concurrency or 1
    if "gpt-oss" in run.model:
        return 20000
    if "Llama" in run.model:
        return 16384
    if drafts:
        sequences = many if run.dp == 1 else max(1, many // (8 if run.weight_dtype == "fp8" else 4))
        return round_up((drafts + 1) * sequences + prompt + 64, 64)
    least = 0 if _is_before(run, LEAST_8192) else 8192
    return max(least, round_up(many + prompt + 64, 64))


def _tensorrt_share(run: Run, drafts: int) -> float | None:
    """``free_gpu_memory_fraction``."""
    if "gpt-oss" in run.model:
        return 0.85
    if "DeepSeek" not in run.model:
        return None
    if run.device == "h200-sxm":
        return 0.75
    if run.weight_dtype != "fp8" or _is_before(run, LEAST_8192):
        return 0.8
    lengths, many = (run.prompt_tokens, run.output_tokens), run.concurrency or 1
    if (drafts and run.dp > 1) or (not drafts and lengths == _LONG_ANSWER and many >= 256):
        return 0.7
    return 0.75 if lengths == _LONG_PROMPT and run.tp == 4 and not drafts else 0.8


def held_of(run: Run) -> float:
    """Decode steps that the launch scripts let a new request wait: how often, or for how many others."""
    lengths, many = (run.prompt_tokens, run.output_tokens), run.concurrency or 1
    if run.engine != "tensorrt-llm":
        script = _script_of(run)  # half of --scheduler-recv-interval
        return script.intervals[many >= 16] / 2 if script else 0.0
    if run.dp > 1:  # attention_dp_config: timeout_iters, where it is not set TensorRT-LLM's own
        return held_steps(60 if "DeepSeek" in run.model else 50, many, run.output_tokens)
    if "Llama" in run.model and lengths == (1024, 1024) and run.tp < 8:
        return held_steps(20, many, run.output_tokens)  # batch_wait_timeout_iters
    is_fp8 = run.engine_version == "1.2.0rc6.post2" and run.weight_dtype == "fp8"
    if is_fp8 and lengths == (1024, 1024) and many >= 64:
        return held_steps(40, many, run.output_tokens)
    return 0.0


def held_steps(most: float, concurrency: int, output_tokens: int) -> float:
    """Mean wait of requests held for others, ``most`` steps for the first; the later come on the way.

    Examples
    --------
    >>> held_steps(20, 1, 1000), held_steps(20, 101, 1000)
    (20.0, 13.333333333333334)
    """
    others = most * (concurrency - 1) / output_tokens
    return most * (1 + others / 2) / (1 + others)
