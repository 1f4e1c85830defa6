"""A run as its result file and the user describe it -> rows of the schema."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import calc
from validate.importers.document import positive
from validate.importers.load import InFlight, Load, in_flight
from validate.memory_rows import version_of
from validate.names import cache_format_of, device_named, model_named, named_format, weight_format_of

#: columns of the schema, in order
SCHEMA = (
    "id", "group", "source", "source_url", "engine", "engine_version", "mode", "device", "n_devices",
    "tp", "pp", "ep", "dp", "model", "weight_dtype", "kv_dtype", "concurrency", "prompt_tokens",
    "output_tokens", "metric", "value", "trust", "notes",
)  # fmt: skip
#: metrics of a run that importers fill, and whether they are times of single requests
FIGURES = {"ttft_s": True, "tpot_s": True, "output_tokens_per_s": False}


@dataclass(frozen=True)
class Context:
    """What the user says of runs by options; None where nothing is said."""

    device: str | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    model: str | None = None
    weights: str | None = None
    kv: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    mode: str | None = None
    concurrency: int | None = None


#: facts that a file may say as well as an option
SAID = tuple(each.name for each in fields(Context) if each.name not in ("mode", "concurrency"))


@dataclass(frozen=True)
class Measured:
    """One run of a result file.

    ``said`` holds those of ``SAID`` that the file says; ``ranks`` where it counts tensor and attention
    data parallel ranks together; ``client`` for the engine that the tool's client was written for, which
    ``--engine`` may contradict. ``figures`` holds those of ``FIGURES`` that were measured,
    in s and tokens/s. ``unusable`` says why a run cannot be put in the schema.
    """

    group: str
    source: str
    prompt_tokens: float = 1.0
    output_tokens: float = 1.0
    load: Load = field(default_factory=Load)
    figures: Mapping[str, float | None] = field(default_factory=dict)
    said: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unusable: str = ""


def rows_of(run: Measured, context: Context, name: str) -> list[dict]:
    """Return the rows of a run, one per figure; ``name`` begins their ids.

    Raises
    ------
    SpecError
        If something is missing, with the option that says it.
    """
    try:
        known = _deployment(run.said, context)
        load = in_flight(run.load, context.mode, context.concurrency)
        known["concurrency"] = _concurrency(load, known)
    except calc.SpecError as error:
        raise calc.SpecError(f"{run.source}: {error}") from None
    notes = [*known.pop("notes"), load.note, *run.notes]
    common = {
        **known,
        "group": run.group,
        "source": run.source,
        "mode": load.mode,
        "prompt_tokens": max(1, round(run.prompt_tokens)),
        "output_tokens": max(1, round(run.output_tokens)),
        "trust": "A-" if load.is_inferred else "A",
        "notes": "; ".join(note for note in notes if note),
    }
    return [
        {
            **dict.fromkeys(SCHEMA, ""),
            **common,
            "id": f"{name}-{metric}",
            "metric": metric,
            "value": f"{value:.6g}",
        }
        for metric, is_time in FIGURES.items()
        if (value := run.figures.get(metric)) and (load.is_steady or not is_time)
    ]


def _concurrency(load: InFlight, known: Mapping) -> int | str:
    """Requests in flight; blank where the engine's own limit is below what was sent at once."""
    if load.concurrency is None or load.mode != "max_load":
        return load.concurrency or ""
    deployment = calc.Deployment(engine=known["engine"], engine_version=version_of(known["engine_version"]))
    most = calc.engine_of(deployment, calc.load_device(known["device"])).max_sequences
    return load.concurrency if most is None or load.concurrency < float(most) else ""


def _deployment(said: Mapping[str, object], context: Context) -> dict:
    """Columns of the deployment, from the file and the options; ``notes`` tells where they differ."""
    given = {name: getattr(context, name) for name in SAID}
    if context.engine and said.get("engine", context.engine) != context.engine:
        raise _contradiction("engine", context.engine, said["engine"])
    notes = [
        f"{name} from {option(name)}, the file says {said[name]}"
        for name in ("model", "engine_version", "weights", "kv")
        if given[name] and said.get(name) and str(given[name]) != str(said[name])
    ]
    text = {name: str(given[name] or said.get(name) or "") for name in SAID}
    text["engine"] = text["engine"] or str(said.get("client") or "")
    counts = _ranks(said, context)
    for name in ("device", "model", "engine"):
        if not text[name]:
            raise calc.SpecError(f"does not say the {name}: give {option(name)}")
    return {
        **counts,
        "n_devices": counts["tp"] * counts["pp"] * counts["dp"],
        "engine": _engine(text["engine"]),
        "engine_version": text["engine_version"],
        "device": _device(text["device"]),
        "model": text["model"],
        "weight_dtype": _weights(text["model"], text["weights"]),
        "kv_dtype": _cache(text["kv"]),
        "notes": notes,
    }


def _ranks(said: Mapping[str, object], context: Context) -> dict[str, int]:
    """Ranks of each kind; a file that contradicts an option is refused."""
    said = dict(said)
    if "ranks" in said:
        said["tp"] = max(1, _count(said["ranks"]) // (context.dp or _count(said.get("dp")) or 1))
    counts = {}
    for name in ("tp", "pp", "dp", "ep"):
        given, found = getattr(context, name), _count(said.get(name))
        if given and found and found != given:
            raise _contradiction(name, given, found)
        counts[name] = given or found
    if not counts["tp"]:
        raise calc.SpecError("does not say the tensor-parallel devices: give --tp")
    return {name: value or 1 for name, value in counts.items()}


def _contradiction(name: str, given: object, found: object) -> calc.SpecError:
    return calc.SpecError(f"{option(name)}: {given} is not what the file says, {found}")


def _count(value: object) -> int:
    """Ranks that a file says, 0 where it says none (tools write None, 0 or -1 for that)."""
    return int(positive(value) or 0)


def option(name: str) -> str:
    """Return the option that says a fact."""
    return f"--{name.replace('_', '-')}"


def _engine(name: str) -> str:
    if name not in calc.engine_ids():
        raise calc.unknown_name("engine", name, calc.engine_ids(), hint="say which with --engine")
    return name


def _device(name: str) -> str:
    found = device_named(name).id
    if found not in calc.device_ids():
        raise calc.unknown_name("device", name, calc.device_ids(), hint="say which with --device")
    return found


def _weights(model_name: str, said: str) -> str:
    """Weight format: as said, as the name says, or blank where the checkpoint's own."""
    try:
        model, named = model_named(model_name)
    except calc.SpecError as error:
        raise calc.SpecError(f"{error}; say which with --model") from None
    word = said.lower()
    if word in calc.WEIGHT_FORMATS:
        return word
    return weight_format_of(model, named_format(word) or named, "", "") or ""


def _cache(said: str) -> str:
    return (cache_format_of("", said) or "") if said else ""
