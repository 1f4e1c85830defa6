"""docs/accuracy-runs.md: how far predictions of whole runs are off, with devices and models left out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from validate.runs.fit import FIRST_TOKEN, RATES
from validate.runs.table import Run

#: median and 90th percentile of the absolute error of other tools on rows of these kinds, in percent,
#: measured in November 2026; None where a tool answers none
PEERS = {
    "aiconfigurator 0.12": ("11.5 / 54", "6.5 / 12", "22 / 40", "6.3 / 42", "19.5 / 88", "45 / 86"),
    "llm-analysis": ("65 / 197", "58 / 77", "40 / 56", "27 / 95", "46 / 72", "91 / 98"),
    "GenZ": ("98 / 242", "54 / 75", "47 / 62", "127 / 289", "66 / 88", "93 / 98"),
    "datasheet roofline": ("136 / 360", "71 / 83", "50 / 74", "90 / 246", "70 / 92", "96 / 100"),
}
PEER_COLUMNS = (
    "static tokens/s", "static TTFT", "Argonne latency", "max-load tokens/s, dense", "InferenceX TPOT",
    "InferenceX TTFT",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One run: predicted with all runs in the fit, without its device and without its model."""

    run: Run
    is_moe: bool
    fitted: float
    without_device: float
    without_model: float
    low: float
    high: float

    def error_pct(self, predicted: float) -> float:
        """Absolute error of a prediction, in percent of the measured figure."""
        return 100 * abs(predicted / self.run.value - 1)

    def is_inside(self, predicted: float) -> bool:
        """Whether the measured figure lies in the 80 % interval of a prediction."""
        ratio = self.run.value / predicted
        ratio = 1 / ratio if self.run.metric in RATES else ratio
        return self.low <= ratio <= self.high


def outcomes_of(members, fitted, outside, errors) -> list[Outcome]:
    """Return the outcomes of a profile's runs."""
    result = []
    for i, member in enumerate(members):
        error = errors["ttft_s" if member.run.metric in FIRST_TOKEN else "tpot_s"]
        values = (float(fitted[i]), float(outside["device"][i]), float(outside["model"][i]))
        result.append(Outcome(member.run, member.scenario.model.is_moe, *values, error["low"], error["high"]))
    return result


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the Markdown page."""
    by_group = _table(outcomes, "group", lambda o: o.run.group)
    kinds = _table([o for o in outcomes if o.run.metric in ("tpot_s", "ttft_s")], "layers", _layers)
    devices = _table(outcomes, "device", lambda o: o.run.device)
    models = _table(outcomes, "model", lambda o: o.run.model)
    engines = _table(outcomes, "engine", lambda o: o.run.engine)
    return f"""# How accurate whole runs are

Written by `python -m validate overheads ROWS... --report docs/accuracy-runs.md`; do not edit.

Median (90th percentile) absolute error in percent on {len(outcomes)} measured figures: with all runs in
the fit of the engines' overheads, and with fits that saw no run of the same device, or of the same
model, on the same engine. Kernels are those of docs/accuracy.md in all three. The last column is the
share of figures in the 80 % interval when their device or model was left out. A device or model of
more than 70 % of an engine's figures is not left out: too few would be left to fit.

Rows of InferenceX and of TensorRT-LLM's performance pages leave out what their launch scripts set: drafts
(MTP), lengths, limits of a step, how long requests are held, whether the server was warmed up.
`validate/runs/inferencex.py` has what can be told from version, day and configuration; some cells were run
with drafts and without and cannot be told apart.

## Groups

{by_group}

## Dense models and mixtures of experts

{kinds}

## Other tools on rows of these kinds

Median / 90th percentile of the absolute error in percent; aiconfigurator answers only what its tables
hold, about half of the static rows, llm-analysis half of the InferenceX rows.

| tool | {" | ".join(PEER_COLUMNS)} |
|---|{"---|" * len(PEER_COLUMNS)}
{_peer_rows(outcomes)}

## Engines

{engines}

## Devices

{devices}

## Models

{models}
"""


def _layers(outcome: Outcome) -> str:
    return f"{outcome.run.group}, {'experts' if outcome.is_moe else 'dense'}"


def _table(outcomes: Sequence[Outcome], name: str, key: Callable[[Outcome], str]) -> str:
    parts: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        parts.setdefault((key(outcome), outcome.run.metric), []).append(outcome)
    lines = [f"| {name} | metric | n | all in the fit | device left out | model left out | in 80 % range |"]
    lines.append("|---|---|---|---|---|---|---|")
    for (label, metric), rows in sorted(parts.items()):
        cells = [_errors([o.error_pct(getattr(o, way)) for o in rows]) for way in WAYS]
        inside = [o.is_inside(x) for o in rows for way in WAYS[1:] if np.isfinite(x := getattr(o, way))]
        lines.append(f"| {label} | {metric} | {len(rows)} | {' | '.join(cells)} | {_share(inside)} |")
    return "\n".join(lines)


def _share(inside: Sequence[bool]) -> str:
    return f"{100 * np.mean(inside):.0f}" if inside else "-"


WAYS = ("fitted", "without_device", "without_model")


def _errors(errors: Sequence[float], between: str = "{:.1f} ({:.0f})") -> str:
    known = np.array(errors)[np.isfinite(errors)]
    return between.format(np.median(known), np.quantile(known, 0.9)) if known.size else "-"


def _peer_rows(outcomes: Sequence[Outcome]) -> str:
    rows = [f"| {tool} | {' | '.join(cells)} |" for tool, cells in PEERS.items()]
    own = [_own(outcomes, chosen) for chosen in _COLUMNS]
    return "\n".join([f"| **Ullage**, device or model left out | {' | '.join(own)} |", *rows])


def _own(outcomes: Sequence[Outcome], chosen: Callable[[Outcome], bool]) -> str:
    errors = [o.error_pct(getattr(o, way)) for o in outcomes if chosen(o) for way in WAYS[1:]]
    return _errors(errors, "{:.1f} / {:.0f}")


_COLUMNS: tuple[Callable[[Outcome], bool], ...] = (
    lambda o: o.run.group == "trtllm_static" and o.run.metric == "output_tokens_per_s",
    lambda o: o.run.group == "trtllm_static" and o.run.metric == "ttft_s",
    lambda o: o.run.group == "argonne" and o.run.metric == "e2e_latency_s",
    lambda o: o.run.group == "trtllm_maxload" and not o.is_moe,
    lambda o: o.run.group == "inferencex" and o.run.metric == "tpot_s",
    lambda o: o.run.group == "inferencex" and o.run.metric == "ttft_s",
)
