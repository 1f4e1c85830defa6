"""A measured run in the calculator's terms, and the figure the calculator gives for it."""

import re
from dataclasses import dataclass, replace

import calc
from calc.specs.device import Device
from calc.specs.model import Model
from validate.names import device_named, model_named
from validate.runs.inferencex import as_launched
from validate.runs.settings import ACCEPTANCE, Settings, settings_of
from validate.runs.table import Run, version_of

#: checkpoints in these formats tell TensorRT-LLM to keep the cache in fp8
_FP8_CACHE = ("fp8", "nvfp4", "fp4")


@dataclass(frozen=True, eq=False)
class Scenario:
    """One run in the calculator's terms."""

    model: Model
    device: Device
    deployment: calc.Deployment
    workload: calc.Workload

    def estimate(self, calibration: str = "default", overheads: str | None = None) -> calc.Estimate:
        """Return the calculator's answer."""
        return calc.estimate(
            self.model, self.device, self.deployment, self.workload,
            calibration=calibration, overheads=overheads,
        )  # fmt: skip


def scenario_of(run: Run) -> Scenario:
    """Return a run in the calculator's terms.

    Raises
    ------
    SpecError
        If a name is not known or a value not allowed.
    """
    run = as_launched(counted_once(run))
    if run.n_devices != run.tp * run.pp * run.dp:
        raise calc.SpecError(
            f"n_devices: {run.n_devices} is not tp * pp * dp ({run.tp} * {run.pp} * {run.dp})"
        )
    model, _ = model_named(run.model)
    device = device_named(run.device)
    settings = settings_of(run, model, device)
    deployment = calc.Deployment(
        engine=run.engine,
        engine_version=version_of(run),
        tp=run.tp,
        pp=run.pp,
        ep=run.ep,
        dp=run.dp,
        weight_dtype=run.weight_dtype or None,
        kv_dtype=run.kv_dtype or settings.kv_dtype or _default_cache(run),
        max_sequences=run.concurrency or settings.max_sequences,
        max_batched_tokens=settings.max_batched_tokens,
        memory_utilization=_utilization(run) or settings.memory_utilization,
        hold_steps=settings.hold_steps,
        speculation=calc.Speculation("mtp", settings.drafts, ACCEPTANCE) if settings.drafts else None,
    )
    return Scenario(model, device, deployment, _workload(run, settings))


def counted_once(run: Run) -> Run:
    """Return a run with its devices counted once.

    The InferenceX dump gives both the tensor and the expert parallel size of the same devices
    where experts are spread (``moe_tp=8 moe_ep=8`` of 8 devices) and multiplies them: 46 of the
    rows of 16 and 64 devices repeat a row of 4 or 8 to three digits. Such a row is of ``ep`` devices.

    Examples
    --------
    >>> found = re.search("moe_tp=([0-9]+) moe_ep=([0-9]+)", "moe_tp=8 moe_ep=8")
    >>> found[1] == found[2]
    True
    """
    found = re.search(r"moe_tp=(\d+) moe_ep=(\d+)", run.notes)
    if not found or found[1] != found[2] or run.ep == 1 or run.n_devices != run.ep**2:
        return run
    spread = {"dp": run.ep} if run.dp > 1 else {"tp": run.ep}
    return replace(run, n_devices=run.ep, **spread)


def _default_cache(run: Run) -> str | None:
    """Format of the cache that an engine chooses for these weights; None is the model's own."""
    return "fp8" if run.engine == "tensorrt-llm" and run.weight_dtype in _FP8_CACHE else None


def _utilization(run: Run) -> float | None:
    """Share of memory that a run's notes give the cache; None is the engine's default."""
    found = re.search(r"kv frac ~(0\.\d+)", run.notes)
    return float(found[1]) if found else None


def _workload(run: Run, settings: Settings) -> calc.Workload:
    """Load of a run; a limit on the load turns a maximum load into so many requests."""
    mean = settings.mean_length
    mode = "closed_loop" if run.mode == "max_load" and run.concurrency else run.mode
    return calc.Workload(
        prompt_tokens=round(mean * run.prompt_tokens),
        output_tokens=round(mean * run.output_tokens),
        concurrency=run.concurrency,
        mode=mode,
        equal_lengths=mean == 1.0,
        warmed_up=settings.warmed_up,
    )


#: metric of a run -> the figure of an estimate, and the time metric its interval comes from
_FIGURES = {
    "e2e_latency_s": lambda e, run: e.e2e_latency_s,
    "output_tokens_per_s": lambda e, run: e.output_tokens_per_s,
    "ttft_s": lambda e, run: e.ttft_s,
    "tpot_s": lambda e, run: e.tpot_s,
    "decode_tokens_per_s": lambda e, run: 1 / e.tpot_s,
    "prefill_tokens_per_s": lambda e, run: run.prompt_tokens / e.ttft_s,
}
_RATES = ("output_tokens_per_s", "decode_tokens_per_s", "prefill_tokens_per_s")
_TIME_OF = {
    "ttft_s": "ttft_s",
    "prefill_tokens_per_s": "ttft_s",
    "tpot_s": "tpot_s",
    "decode_tokens_per_s": "tpot_s",
}


def figure(estimate: calc.Estimate, run: Run) -> float:
    """Return the estimate's figure for the metric of a run."""
    return float(_FIGURES[run.metric](estimate, run))


def interval(estimate: calc.Estimate, run: Run) -> tuple[float, float]:
    """Return the 80 % interval of the figure."""
    metric = _TIME_OF.get(run.metric, run.metric)
    value, (low, high) = getattr(estimate, metric), estimate.range(metric)
    down, up = float(low / value), float(high / value)
    predicted = figure(estimate, run)
    if run.metric in ("decode_tokens_per_s", "prefill_tokens_per_s"):
        down, up = 1 / up, 1 / down
    return predicted * down, predicted * up


def trust(estimate: calc.Estimate, run: Run) -> str:
    """Return how far the figure can be trusted."""
    return estimate.trust(_TIME_OF.get(run.metric, run.metric))
