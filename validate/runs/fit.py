"""Fitting an engine's overheads to measured runs, with devices and models left out to see the error."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calc.specs.engine import engine_of
from calc.timing.overheads import GROUPS, HOST, Overheads
from validate.runs.recorded import Recorded, Runs, overheads_from

_ROBUST = 0.1  # a run 10 % off counts in full, one far off hardly: drafts, typing errors, other machines
_FACTOR_SPREAD = 0.12  # kernel factors are believed to lie this close to their start, in logarithms
_BOX_SPREAD = 1.0  # exchanges over PCIe differ by this from box to box
_HOST_SPREAD = 2.0  # host numbers may be a factor of seven off their start
_BUILD_SPREAD = 3.0  # what a server builds first takes nothing, or minutes
_NEAR_SPREAD = 0.5  # and of 1.6 where they start at what the next version has


@dataclass(frozen=True)
class Free:
    """One fitted number: where the fit starts and its bounds."""

    start: float
    low: float
    high: float
    spread: float


#: starts are what vLLM, SGLang and TensorRT-LLM of 2025 come to when they are fitted together
FREE = {
    "step_s": Free(5e-4, 2e-5, 5e-2, _HOST_SPREAD),
    "sequence_s": Free(3e-6, 1e-8, 2e-3, _HOST_SPREAD),
    "layer_s": Free(1e-6, 1e-8, 1e-3, _HOST_SPREAD),
    "exchange_s": Free(5e-7, 1e-8, 5e-4, _HOST_SPREAD),
    "together_s": Free(1e-4, 1e-7, 2e-2, _HOST_SPREAD),
    "request_s": Free(1e-2, 1e-4, 0.5, _HOST_SPREAD),
    "launch_s": Free(1e-6, 1e-8, 2e-4, _HOST_SPREAD),
    "first_use_s": Free(0.1, 1e-4, 100.0, _BUILD_SPREAD),
    "prompt_waits": Free(0.4, 1e-2, 5.0, _HOST_SPREAD),
    "decode_waits": Free(5.0, 1e-2, 60.0, _HOST_SPREAD),
    "burst": Free(0.05, 1e-3, 0.9, _HOST_SPREAD),
    "equal_prompt_waits": Free(1.8, 1e-2, 5.0, _HOST_SPREAD),
    "equal_decode_waits": Free(0.5, 1e-2, 60.0, _HOST_SPREAD),
    "equal_burst": Free(0.06, 1e-3, 0.9, _HOST_SPREAD),
    "reach.decode_attention": Free(0.85, 0.2, 0.95, _FACTOR_SPREAD),
    "reach.host_collective": Free(0.48, 0.05, 0.95, _BOX_SPREAD),
    "gemm": Free(1.1, 0.4, 4.0, _FACTOR_SPREAD),
    "quantised_gemm": Free(0.92, 0.4, 4.0, _FACTOR_SPREAD),
    "moe": Free(0.87, 0.4, 4.0, _FACTOR_SPREAD),
    "prefill_attention": Free(0.87, 0.4, 4.0, _FACTOR_SPREAD),
    "decode_attention": Free(0.95, 0.4, 4.0, _FACTOR_SPREAD),
    "elementwise": Free(0.93, 0.4, 4.0, _FACTOR_SPREAD),
    "collective": Free(1.2, 0.4, 4.0, _FACTOR_SPREAD),
    "host_collective": Free(1.0, 0.05, 4.0, _BOX_SPREAD),
}
#: what starts elsewhere for engines without a server: scripts call them as TensorRT-LLM's own benchmark does
DIRECT = {"request_s": replace(FREE["request_s"], start=1e-3)}
#: share of the runs that have to be left for a fit without a device or a model to say anything
LEAST_SHARE = 0.3
#: metrics of rows whose error is one of the time to first token; the others are of decoding
FIRST_TOKEN = ("ttft_s", "prefill_tokens_per_s")
RATES = ("output_tokens_per_s", "decode_tokens_per_s", "prefill_tokens_per_s")


def starts(members: Sequence[Recorded]) -> dict[str, Free]:
    """Return the numbers to fit to some runs: engines that allocate just what is asked for serve nobody."""
    scenario = members[0].scenario
    is_direct = engine_of(scenario.deployment, scenario.device).budget == "exact"
    return {**FREE, **DIRECT} if is_direct else FREE


def near(values: dict[str, float]) -> dict[str, Free]:
    """Return the numbers to fit, starting at those of another version of the engine and close to them."""
    return {
        name: replace(
            each,
            start=min(max(values.get(name, each.start), each.low), each.high),
            spread=min(each.spread, _NEAR_SPREAD),
        )
        for name, each in FREE.items()
    }


def fitted(members: Sequence[Recorded], numbers: dict[str, Free] | None = None) -> dict[str, float]:
    """Return the numbers with which predictions come closest to measured runs.

    Every group of rows counts as much as its root of rows; what no run decides stays where
    it started (``starts``, or ``numbers``).
    """
    from scipy.optimize import least_squares

    runs, free = Runs(members), list((numbers or starts(members)).values())
    measured, weights = np.log(runs.measured), _weights(members)
    start, low, high = (np.log([getattr(each, end) for each in free]) for end in ("start", "low", "high"))
    spread = np.array([each.spread for each in free])

    def residuals(z):
        predicted = np.log(runs.predicted(overheads_of(members, named(z))))
        misses = np.nan_to_num(predicted - measured, nan=5.0, posinf=5.0, neginf=-5.0) / _ROBUST
        robust = np.sign(misses) * np.sqrt(np.log1p(misses**2))
        return np.concatenate([weights * robust, (z - start) / spread])

    first = np.clip(start, low + 1e-3, high - 1e-3)
    return named(least_squares(residuals, first, bounds=(low, high), max_nfev=60).x)


def named(z) -> dict[str, float]:
    """Return fitted numbers by name, from their logarithms."""
    return {name: float(value) for name, value in zip(FREE, np.exp(z), strict=True)}


def overheads_of(members: Sequence[Recorded], values: dict[str, float]) -> Overheads:
    """Return overheads of fitted numbers for the engine of some runs."""
    return overheads_from(members[0].run.engine, values)


def _weights(members: Sequence[Recorded]) -> np.ndarray:
    groups = [(member.run.group, member.run.metric) for member in members]
    counts = {group: groups.count(group) for group in set(groups)}
    weights = np.array([counts[group] ** -0.25 for group in groups])
    return weights * np.sqrt(len(weights) / (weights**2).sum())


def key_of(member: Recorded, by: str) -> str:
    """Return what a run is left out by: its device, model or lengths."""
    run = member.run
    return f"{run.prompt_tokens}+{run.output_tokens}" if by == "lengths" else getattr(run, by)


def left_out(members: Sequence[Recorded], by: str, numbers: dict[str, Free] | None = None) -> np.ndarray:
    """Return predictions of each run from fits that saw no run of its device (or its model).

    Where all runs are of one device (or model), of fits that saw no run of its lengths; where
    those are the same too, of fits to four fifths of the runs. NaN for a device (or model) of
    so many runs that too few are left to fit.
    """
    predicted = np.full(len(members), np.nan)
    for seen, held in _folds(members, by):
        if seen.size >= LEAST_SHARE * len(members):
            values = fitted([members[i] for i in seen], numbers)
            part = [members[i] for i in held]
            predicted[held] = Runs(part).predicted(overheads_of(part, values))
    return predicted


def _folds(members: Sequence[Recorded], by: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of runs that are seen and held back."""
    for name in (by, "lengths"):
        keys = np.array([key_of(member, name) for member in members])
        if len(set(keys.tolist())) > 1:
            for key in dict.fromkeys(keys.tolist()):
                yield np.flatnonzero(keys != key), np.flatnonzero(keys == key)
            return
    fold = np.arange(len(members)) % 5
    for k in range(5):
        yield np.flatnonzero(fold != k), np.flatnonzero(fold == k)


def time_ratio(members: Sequence[Recorded], predicted: np.ndarray) -> np.ndarray:
    """Return measured over predicted time of each run; rates count inverted."""
    ratio = np.array([member.run.value for member in members]) / predicted
    return np.where([member.run.metric in RATES for member in members], 1 / ratio, ratio)


def run_error(ratios: np.ndarray) -> dict[str, float]:
    """Return the error record of measured over predicted times."""
    ratios = ratios[np.isfinite(ratios)]
    absolute = np.abs(1 / ratios - 1)
    return {
        "n": int(ratios.size),
        "median_pct": 100 * float(np.median(absolute)),
        "p90_pct": 100 * float(np.quantile(absolute, 0.9)),
        "low": float(min(1.0, np.quantile(ratios, 0.1))),
        "high": float(max(1.0, np.quantile(ratios, 0.9))),
    }


def profile_of(
    members: Sequence[Recorded], numbers: dict[str, Free] | None = None
) -> tuple[dict, dict[str, np.ndarray]]:
    """Return a profile's numbers and errors, and the left-out predictions by device and by model."""
    values = fitted(members, numbers)
    outside = {by: left_out(members, by, numbers) for by in ("device", "model")}
    return {"values": values, "errors": _errors(members, outside), "n": len(members)}, outside


def _errors(members: Sequence[Recorded], outside: dict[str, np.ndarray]) -> dict[str, dict]:
    """Errors of both time metrics over both ways of leaving out."""
    first = np.array([member.run.metric in FIRST_TOKEN for member in members])
    ratios = np.stack([time_ratio(members, predicted) for predicted in outside.values()])
    labels = np.array([member.trust for member in members])
    result = {}
    for metric, chosen in (("tpot_s", ~first), ("ttft_s", first)):
        values = ratios[:, chosen].ravel()
        if np.isfinite(values).any():
            label = Counter(labels[chosen].tolist()).most_common(1)[0][0]
            result[metric] = {**run_error(values), "trust": label}
    return result


def split(values: dict[str, float]) -> tuple[dict, dict, dict]:
    """Return fitted numbers as host numbers, kernel factors and reach."""
    host = {name: values[name] for name in HOST}
    kernels = {name: values[name] for name in GROUPS if name in values}
    reach = {name.removeprefix("reach."): x for name, x in values.items() if name.startswith("reach.")}
    return host, kernels, reach
