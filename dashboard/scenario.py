"""What the user asked for: plain values as the sidebar and the URL hold them, and the specs they mean."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

import calc

AS_PUBLISHED = "as published"
AUTO = "auto"
CUSTOM = "custom"
ENGINE_DEFAULT_KV = "bf16"

#: (time to first token, time per token after it) that a preset allows [s]; None is no limit
SLO_LIMITS: dict[str, tuple[float | None, float | None]] = {
    "chat": (2.0, 0.050),
    "code assistant": (0.5, 0.030),
    "batch": (None, None),
}
TP_CHOICES = (AUTO, "1", "2", "4", "8", "16")
SWEEP_POINTS = 40
REMEDIES = 4

#: what the sliders step through; the number beside each takes any value
PROMPT_STEPS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
OUTPUT_STEPS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
USER_STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Scenario:
    """One question to the calculator; field names are the URL's query keys.

    Examples
    --------
    >>> Scenario(users=8).answer().n_devices
    4
    """

    model: str = "llama-3.1-70b"
    weights: str = AS_PUBLISHED
    gpu: str = "h100-sxm"
    tp: str = AUTO
    prompt: int = 1024
    output: int = 256
    users: int = 64
    slo: str = "chat"
    ttft_s: float = 2.0
    tpot_ms: float = 50.0
    kv: str = ENGINE_DEFAULT_KV
    engine: str = "vllm"
    memory_share: float | None = None
    price: float | None = None
    own_model: str = ""
    own_device: str = ""
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    expert_skew: float = 0.0

    def deployment(self) -> calc.Deployment:
        """Return engine and formats; how many GPUs is for ``answer`` to find."""
        return calc.Deployment(
            engine=self.engine,
            weight_dtype=None if self.weights == AS_PUBLISHED else self.weights,
            kv_dtype=None if self.kv == ENGINE_DEFAULT_KV else self.kv,
            memory_utilization=self.memory_share,
            **self._ranks(),
        )

    def _ranks(self) -> dict[str, int]:
        """Parallelism beyond tp; with a tp of one's own, so that contradictions name it."""
        own = {} if self.tp == AUTO else {"tp": int(self.tp)}
        least = {} if own else {"tp": max(1, self.ep // self.dp, self.cp)}
        return {**own, **least, "pp": self.pp, "dp": self.dp, "ep": self.ep, "cp": self.cp}

    def workload(self) -> calc.Workload:
        """Return token lengths and users at once."""
        return calc.Workload(self.prompt, self.output, self.users, expert_skew=self.expert_skew)

    def limits(self) -> calc.SLO:
        """Return the limits of the preset, or the custom ones."""
        if self.slo == CUSTOM:
            return calc.SLO(self.ttft_s, calc.parse_seconds(f"{self.tpot_ms}ms"))
        return calc.SLO(*SLO_LIMITS[self.slo])

    def answer(self) -> calc.Plan:
        """Return the smallest deployment that fits and keeps the limits, or the closest one.

        Raises
        ------
        SpecError
            If the values contradict each other or a file of one's own is not valid.
        """
        return calc.plan(
            self.own_model or self.model,
            self.own_device or self.gpu,
            self.deployment(),
            self.workload(),
            self.limits(),
            tp=None if self.tp == AUTO else int(self.tp),
            usd_per_device_hour=self.price,
        )

    def without_own_files(self) -> "Scenario":
        """Return the scenario with the listed model and GPU in place of one's own."""
        return replace(self, own_model="", own_device="")


def user_sweep(plan: calc.Plan) -> calc.Estimate | None:
    """Return the planned deployment at 1 to as many users as it holds at once; None if it holds none."""
    e = plan.estimate
    most = int(min(e.memory.max_concurrency, e.steps.most_requests))
    if most < 1 or not e.fits:
        return None
    users = np.unique(np.geomspace(1, most, SWEEP_POINTS).round())
    load = replace(e.workload, concurrency=users)
    own_price = e.cost.usd_per_device_hour if e.cost and e.cost.price is None else None
    return calc.estimate(e.model, e.device, e.deployment, load, usd_per_device_hour=own_price)


def remedies(scenario: Scenario) -> list[tuple[str, dict, calc.Plan]]:
    """Return single changes after which the scenario fits and keeps its limits.

    Each as (the change in words, the fields that change, the plan then): the few cheapest
    per hour, those without a known price last.
    """
    found = []
    for words, changes in _single_changes(scenario):
        try:
            plan = replace(scenario, **changes).answer()
        except calc.SpecError:
            continue
        if plan.meets:
            found.append((words, changes, plan))
    return sorted(
        found, key=lambda row: row[2].estimate.cost.usd_per_hour if row[2].estimate.cost else np.inf
    )


def _single_changes(scenario: Scenario) -> Iterator[tuple[str, dict]]:
    if scenario.tp != AUTO:
        yield "Let it choose how many GPUs", {"tp": AUTO}
    for weights in ("fp8", "int4"):
        if weights != scenario.weights:
            yield f"Weights in {weights}", {"weights": weights}
    if scenario.kv != "fp8":
        yield "Cache in fp8", {"kv": "fp8"}
    for gpu in ("h200-sxm", "b200-sxm", "mi300x"):
        if gpu != scenario.gpu and gpu in calc.device_ids():
            yield f"{gpu} instead", {"gpu": gpu, "own_device": ""}
    if scenario.users > 1:
        fewer = max(1, scenario.users // 2)
        yield f"{fewer:,} users instead of {scenario.users:,}", {"users": fewer}


def nearest_step(value: float, steps: tuple[int, ...]) -> int:
    """Return the slider step nearest to a value, by ratio.

    Examples
    --------
    >>> nearest_step(100, USER_STEPS), nearest_step(10**6, USER_STEPS)
    (128, 1024)
    """
    return min(steps, key=lambda step: abs(np.log(step / value)))
