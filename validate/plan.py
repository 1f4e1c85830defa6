"""The plan: from a time budget and rough ceilings to the cases that are measured."""

import calc
from calc.specs.model import Model
from validate.acceptance import DECODERS
from validate.probes import PROBES
from validate.probes.base import Case, Plan

#: budgets by name [s]
BUDGETS = {"quick": 60.0, "standard": 300.0, "full": 1800.0}
#: shares of the budget: of one call at most, for what comes after measuring; its bounds [s]
CALL_SHARE, AFTER_SHARE, AFTER_S = 1 / 1500, 0.1, (4.0, 120.0)
#: two cases that are timed again and again: has the machine changed?
SENTINELS = (
    Case("gemm", "bf16", {"m": 256, "n": 2048, "k": 2048}),
    Case("copy", "fp32", {"elements": 1 << 23}),
)


def budget_seconds(text: str) -> float:
    """Return a budget in seconds from its name or a time.

    Raises
    ------
    SpecError
        If it is neither, or shorter than a second.

    Examples
    --------
    >>> budget_seconds("standard"), budget_seconds("5m"), budget_seconds("90s")
    (300.0, 300.0, 90.0)
    """
    if text in BUDGETS:
        return BUDGETS[text]
    number, factor = (text[:-1], {"s": 1, "m": 60, "h": 3600}.get(text[-1:])) if text else ("", None)
    try:
        seconds = float(number) * factor
    except (ValueError, TypeError):
        seconds = 0.0
    if not 1 <= seconds < 1e6:
        raise calc.SpecError(
            f"--budget: {text!r} is not allowed; allowed are quick, standard, full, 90s, 5m or 1h"
        )
    return seconds


def level_of(budget_s: float) -> int:
    """Return how fine the grid is: 0 quick, 1 standard, 2 full.

    Examples
    --------
    >>> level_of(60), level_of(300), level_of(1800)
    (0, 1, 2)
    """
    return 0 if budget_s < 150 else 1 if budget_s < 1200 else 2


def measuring_seconds(budget_s: float) -> float:
    """Return what is left for measuring once the fit has its share."""
    low, high = AFTER_S
    return budget_s - min(high, max(low, AFTER_SHARE * budget_s))


def plan_of(
    budget_s: float, facts: dict, peak_flops_per_s: float, bandwidth: float, models: tuple[Model, ...]
):
    """Return the plan for a budget on a machine with these rough ceilings. [flop/s], [byte/s]

    The largest step that is asked for grows with the device: 1024 tokens on a processor.
    """
    return Plan(
        kind=facts["kind"],
        level=level_of(budget_s),
        call_s=CALL_SHARE * budget_s,
        case_bytes=0.9 * facts["pool_bytes"],
        peak_flops_per_s=peak_flops_per_s,
        bandwidth_bytes_per_s=bandwidth,
        tokens=1024 if facts["kind"] == "cpu" else 8192,
        models=models,
    )


def planned_cases(plan: Plan, probes: list[str] | None = None, dtypes: list[str] | None = None) -> list[Case]:
    """Return all cases of a plan, decoders last; fewer probes or dtypes where they are named.

    Raises
    ------
    SpecError
        If a probe is not known.
    """
    for name in probes or ():
        if name not in {**PROBES, **DECODERS}:
            raise calc.unknown_name("probe", name, {**PROBES, **DECODERS})
    chosen = [p for name, p in {**PROBES, **DECODERS}.items() if not probes or name in probes]
    cases = [case for probe in chosen for case in probe.cases(plan)]
    return [case for case in cases if not dtypes or case.dtype in dtypes or case.probe in DECODERS]


def work(case: Case) -> tuple[str, str, float, float]:
    """Return kind, format, flops and bytes of a case, from the function that predicts it."""
    op = {**PROBES, **DECODERS}[case.probe].op(case.sizes, case.dtype)
    return op.kind, op.format, float(op.flops), float(op.bytes)
