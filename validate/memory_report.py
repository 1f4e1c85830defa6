"""What ``python -m validate memory`` prints for people."""

from collections.abc import Sequence

from calc.cli.text import table
from validate import fit_rows
from validate.memory_logs import StartLog
from validate.names import GIB
from validate.scenario import Scenario
from validate.scores import Score, as_table


def of_table(scores: Sequence[Score], *, all_rows: bool = False) -> str:
    """Return one line a group of a table of logs, and what was not answered."""
    parts = [_rows(scores), ""] if all_rows else []
    parts.append(as_table(scores))
    unanswered = {score.id: score.reason for score in scores if score.predicted is None}
    parts += [f"not answered: {name}: {reason}" for name, reason in unanswered.items()]
    return "\n".join(parts)


def _rows(scores: Sequence[Score]) -> str:
    rows = [[s.row, s.id, s.metric, *_figures(s.metric, s.measured, s.predicted)] for s in scores]
    return table(["row", "start", "metric", "logged", "predicted", "error"], rows, right=(0, 3, 4, 5))


def of_labels(scores: Sequence[Score], *, all_rows: bool = False) -> str:
    """Return the share of labels predicted right by engine, and each miss with its reason."""
    words = {1.0: "fits", 0.0: "does not", None: "no answer"}
    wrong = fit_rows.misses(scores)
    shown = scores if all_rows else wrong
    parts = [_accuracy(scores)]
    if shown:
        rows = [[s.row, s.id, words[s.measured], words[s.predicted], s.reason] for s in shown]
        parts += ["", table(["row", "case", "label", "predicted", "why"], rows, right=(0,))]
    return "\n".join(parts)


def _accuracy(scores: Sequence[Score]) -> str:
    groups = {name: [s for s in scores if s.group == name] for name in dict.fromkeys(s.group for s in scores)}
    rows = [
        [name, len(part), len(part) - len(fit_rows.misses(part)), f"{fit_rows.accuracy_pct(part):.1f}"]
        for name, part in {**groups, "all": scores}.items()
    ]
    return table(["engine", "labels", "right", "%"], rows, right=(1, 2, 3))


def of_log(log: StartLog, scenario: Scenario, scores: Sequence[Score]) -> str:
    """Return one log predicted beside logged, line by line."""
    memory, logged = scenario.memory(), log.logged
    length = scenario.workload.prompt_tokens + scenario.workload.output_tokens
    by_metric = {score.metric: score for score in scores}
    parts = {
        "weights": by_metric.get("weights_bytes"),
        "activations": _part(logged.activation_bytes, memory.activation_bytes_per_device),
        "driver and communication": _part(logged.other_bytes, memory.other_bytes_per_device),
        "CUDA graphs": _part(logged.graph_bytes, memory.graph_bytes_per_device),
        "cache pool": by_metric.get("cache_pool_bytes"),
        "cache size in tokens": by_metric.get("cache_tokens"),
        f"concurrency at {length:,} tokens": by_metric.get("max_concurrency"),
        "... given the logged pool": by_metric.get("max_concurrency_given_pool"),
    }
    rows = [
        [label, *_figures(s.metric, s.predicted, s.measured)[:2], _error(s)]
        for label, s in parts.items()
        if s is not None
    ]
    lines = table(["per device", "predicted", "logged", "difference"], rows, right=(1, 2, 3))
    return f"{_title(scenario)}\n\n{lines}"


def _title(scenario: Scenario) -> str:
    d, device, setup = scenario.deployment, scenario.device, scenario.setup
    weights = d.weight_dtype or scenario.model.checkpoint.weight_dtype
    share = f", share {d.memory_utilization:g}" if d.memory_utilization else ""
    version = setup.version or "of no known version"
    return (
        f"{scenario.model.name}, {weights} weights, {d.kv_dtype or 'bf16'} cache\n"
        f"{setup.engine} {version}, tp {d.tp}, pp {d.pp}{share}, on {device.name} "
        f"({device.memory_bytes / GIB:.2f} GiB)"
    )


def _part(measured: float | None, value) -> Score | None:
    return None if measured is None else Score(0, "", "", "part_bytes", measured, float(value))


def _figures(metric: str, first: float | None, second: float | None) -> list[str]:
    """Two figures as logs print them, and the error of the second."""
    error = Score(0, "", "", metric, first or 0.0, second)
    return [_shown(metric, first), _shown(metric, second), _error(error)]


def _shown(metric: str, value: float | None) -> str:
    if value is None:
        return "-"
    if metric.endswith("_bytes"):
        return f"{value / GIB:.2f} GiB"
    return f"{value:,.0f}" if metric == "cache_tokens" else f"{value:.2f}x"


def _error(score: Score) -> str:
    return "-" if score.error_pct is None else f"{score.error_pct:+.1f} %"
