"""What published benchmarks set beside what their rows say: drafts, limits of a step, lengths.

Each is a fact of the benchmark, not of the engine: a row of another source has none of them.
"""

from dataclasses import dataclass

from calc.specs.device import Device
from calc.specs.model import Model
from validate.runs.bench_limits import engine_limits, round_up
from validate.runs.table import Run, measured_on

#: where the settings of InferenceX are: its launch scripts and search spaces of September 2025 to April 2026
INFERENCEX = "https://github.com/SemiAnalysisAI/InferenceX"
#: pairs of lengths that InferenceX runs, and the mean length over the one stated (``RANDOM_RANGE_RATIO`` 0.8)
SPREAD_LENGTHS = ((1024, 1024), (1024, 8192), (8192, 1024))
MEAN_LENGTH = 0.9
#: share of drafts that are kept on InferenceX's random text: TensorRT-LLM's runs of DeepSeek-R1 on eight
#: B200 with and without drafts, 4 in flight, are apart by a factor of 1.9
ACCEPTANCE = 0.65


@dataclass(frozen=True)
class Settings:
    """Settings of a run that its row does not say; None is the engine's default."""

    mean_length: float = 1.0
    drafts: int = 0
    kv_dtype: str | None = None
    max_sequences: int | None = None
    max_batched_tokens: int | None = None
    hold_steps: float = 0.0


@dataclass(frozen=True)
class Drafted:
    """Runs of InferenceX that draft with the model's own next-token layer (MTP).

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


def settings_of(run: Run, model: Model, device: Device) -> Settings:
    """Return what the source of a run sets beside what its row says."""
    if run.group == "inferencex":
        return _inferencex(run)
    if run.group == "trtllm_maxload" and run.mode == "max_load":
        sequences, tokens = engine_limits(run, model, device)
        return Settings(max_sequences=sequences, max_batched_tokens=tokens)
    return Settings()


def has_spread_lengths(run: Run) -> bool:
    """Whether a run is of an InferenceX scenario: lengths from 80 to 100 % of those stated."""
    return run.group == "inferencex" and (run.prompt_tokens, run.output_tokens) in SPREAD_LENGTHS


def is_faulty(run: Run) -> bool:
    """Whether a run is known to show a fault of its image, so that it says nothing of the engine.

    InferenceX's runs of DeepSeek in nvfp4 on SGLang of 10 November 2025: first tokens come 5 to 12 s late,
    whatever the load, once 16,000 tokens of prompts meet. Runs of 2 November, those of fp8 on the same
    image and later images show none of it. They are scored as all others.
    """
    is_first_token = run.group == "inferencex" and run.metric == "ttft_s"
    on_that_day = run.engine == "sglang" and measured_on(run) == "2025-11-10"
    return is_first_token and on_that_day and run.weight_dtype == "nvfp4"


def _inferencex(run: Run) -> Settings:
    if not has_spread_lengths(run):
        return Settings()
    drafts = next((each.drafts for each in DRAFTED if each.covers(run)), 0)
    if drafts and run.engine == "tensorrt-llm" and run.dp > 1:
        drafts = 1
    tokens, hold = _inferencex_tokens(run, drafts), _inferencex_hold(run)
    return Settings(MEAN_LENGTH, drafts, _inferencex_cache(run), max_batched_tokens=tokens, hold_steps=hold)


def _inferencex_cache(run: Run) -> str | None:
    """Cache format of the launch scripts; None where they leave it to the engine."""
    is_blackwell = run.device in ("b200-sxm", "b300-sxm")
    if run.engine == "vllm":
        in_fp8 = "Llama" in run.model or (is_blackwell and run.weight_dtype != "int4")
    elif run.engine == "sglang":
        in_fp8 = run.weight_dtype != "bf16" and (is_blackwell or "DeepSeek" not in run.model)
    else:
        in_fp8 = run.engine == "tensorrt-llm"
    return "fp8" if in_fp8 else None


def _inferencex_tokens(run: Run, drafts: int) -> int | None:
    """Most tokens of a step in the launch scripts; None where they leave it to the engine."""
    prompt, many = run.prompt_tokens, run.concurrency or 1
    if run.engine == "sglang":
        return 16384
    if run.engine == "vllm":
        return 2 * prompt if any(name in run.model for name in ("Kimi", "MiniMax")) else 8192
    if run.engine != "tensorrt-llm":
        return None
    if "gpt-oss" in run.model:
        return 20000
    if "Llama" in run.model:
        return 16384
    if drafts:
        return round_up((drafts + 1) * (many if run.dp == 1 else max(1, many // 4)) + prompt + 64, 64)
    return max(8192, round_up(many + prompt + 64, 64))


def _inferencex_hold(run: Run) -> float:
    """Decode steps that the launch scripts let a new request wait: how often, or for how many others."""
    lengths, many = (run.prompt_tokens, run.output_tokens), run.concurrency or 1
    if run.engine == "sglang":
        return (30 if many >= 16 else 10) / 2  # --scheduler-recv-interval
    if run.engine != "tensorrt-llm":
        return 0.0
    if run.dp > 1 and "DeepSeek" in run.model:
        return held_steps(60, many, run.output_tokens)  # attention_dp_config: timeout_iters
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
