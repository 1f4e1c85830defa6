"""What published benchmarks set beside what their rows say: drafts, limits of a step, lengths.

Each is a fact of the benchmark, not of the engine: a row of another source has none of them.
"""

from dataclasses import dataclass

from calc.specs.device import Device
from calc.specs.model import Model
from validate.runs import inferencex
from validate.runs.bench_limits import engine_limits
from validate.runs.table import Run

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
    memory_utilization: float | None = None
    warmed_up: bool = True


def settings_of(run: Run, model: Model, device: Device) -> Settings:
    """Return what the source of a run sets beside what its row says."""
    if inferencex.has_spread_lengths(run):
        drafts = inferencex.drafts_of(run)
        return Settings(
            inferencex.MEAN_LENGTH, drafts, inferencex.cache_of(run),
            max_batched_tokens=inferencex.step_tokens(run, drafts), hold_steps=inferencex.held_of(run),
            memory_utilization=inferencex.memory_share(run, drafts), warmed_up=inferencex.is_warmed_up(run),
        )  # fmt: skip
    if run.group == "trtllm_maxload" and run.mode == "max_load":
        sequences, tokens = engine_limits(run, model, device)
        return Settings(max_sequences=sequences, max_batched_tokens=tokens)
    return Settings()
