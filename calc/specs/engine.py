"""Serving engines by version: how they budget memory, and their defaults, as facts."""

import re
from dataclasses import dataclass, field, replace
from functools import cache

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
from calc.specs.model import Layer, Model, Part
from calc.specs.strict_yaml import read_yaml

#: how an engine decides what the cache may take
BUDGETS = {
    "share-of-total": "pool = share of all memory - weights - activations - rest (vLLM, SGLang)",
    "share-of-free": "pool = share of what weights, activations and rest leave free (TensorRT-LLM)",
    "exact": "the cache of every request is allocated; what is left stays free (llama.cpp, static engines)",
}

#: how an engine hands out cache
PAGING = {
    "groups": "blocks from one pool, layers in padded groups of equal size (vLLM V1)",
    "plain": "blocks of tokens, each layer kind in a pool of its own size",
}


@dataclass(frozen=True, eq=False)
class Engine:
    """Defaults of one serving engine in a range of versions, each a Fact.

    Read as attributes: ``memory_utilization`` is the share of memory it plans with;
    ``activation_fixed``, ``activation_per_logit`` (times sequences times vocabulary),
    ``activation_token_copies`` (times batched tokens times width) and ``activation_vision``
    its activation peak, ``activation_pipeline`` the peak of a pipeline stage;
    ``non_torch_*`` what driver and communication take; ``cuda_graphs`` what graphs take
    outside of the budget; ``block_tokens`` the cache block; ``max_sequences`` and
    ``max_batched_tokens`` the scheduler's limits; ``ignores_windows`` is there, and 1, where
    sliding windows are not kept to. [byte]
    """

    id: str
    name: str
    versions: str
    budget: str
    paging: str
    facts: dict[str, Fact]
    small: dict[str, Fact] = field(default_factory=dict)
    small_names: tuple[str, ...] = ()
    note: str = ""

    def __getattr__(self, name: str) -> float:
        facts = self.__dict__.get("facts", {})
        if name not in facts:
            raise AttributeError(name)
        return facts[name].value


def engine_ids() -> list[str]:
    """Ids of all shipped engines."""
    return list(spec_files("calibrations", "engines"))


_ABOVE_ZERO = ("block_tokens", "max_sequences", "memory_utilization")


@cache
def load_engine(name: str, version: str | None = None) -> Engine:
    """Return an engine by id, in the newest profile or that of a version.

    Parameters
    ----------
    name : str
        Id of the engine.
    version : str, optional
        Its version, e.g. ``"0.19.0"``; the newest profile when not given.

    Raises
    ------
    SpecError
        If the name is not known or no profile covers the version.

    Examples
    --------
    >>> load_engine("vllm").memory_utilization, load_engine("vllm", "0.11.0").versions
    (0.9, '>=0.8,<0.17')
    """
    files = spec_files("calibrations", "engines")
    if name not in files:
        raise unknown_name("engine", name, files)
    data = _checked(files[name])
    profile = next((p for p in data["profiles"] if covers(p["versions"], version)), None)
    if profile is None:
        ranges = ", ".join(p["versions"] for p in data["profiles"])
        raise SpecError(f"engine_version: {version!r} of {name} is not covered; known are {ranges}")
    sources = sources_from(data["sources"])
    facts = {key: fact_from(row, sources, f"{name}: {key}") for key, row in profile["facts"].items()}
    rows = dict(profile.get("small_devices") or {})
    names = tuple(rows.pop("named", ()))
    small = {key: fact_from(row, sources, f"{name}: small_devices.{key}") for key, row in rows.items()}
    for key, fact in [*facts.items(), *small.items()]:
        if key in _ABOVE_ZERO and fact.value <= 0:
            raise SpecError(f"{name}: {key}: {fact.printed} is not allowed; allowed are values above 0")
    budget, paging = data["budget"], data["paging"]
    return Engine(
        name, data["name"], profile["versions"], budget, paging, facts, small, names, data.get("note", "")
    )


def engine_of(deployment: Deployment, device: Device) -> Engine:
    """Return a deployment's engine with the scheduler limits it chooses on a device.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> [engine_of(Deployment(), load_device(name)).max_sequences for name in ("h100-sxm", "l40s")]
    [1024, 256]
    """
    engine = load_engine(deployment.engine, deployment.engine_version)
    if not engine.small:
        return engine
    is_small = device.memory_bytes < engine.small["below"].value
    if not is_small and not any(name in device.id for name in engine.small_names):
        return engine
    limits = {key: fact for key, fact in engine.small.items() if key != "below"}
    return replace(engine, facts={**engine.facts, **limits})


def as_served(model: Model, engine: Engine) -> Model:
    """Return a model as an engine runs it: without sliding windows where the engine ignores them.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> mistral = load_model("mistral-7b-v0.1")
    >>> for version in ("0.17", "1.0"):
    ...     as_served(mistral, load_engine("tensorrt-llm", version)).layers[0].attention["window"]
    4096
    """
    ignored = engine.facts.get("ignores_windows")
    return _without_windows(model) if ignored is not None and ignored.value else model


@cache
def _without_windows(model: Model) -> Model:
    layers = tuple(_without_window(layer) for layer in model.layers)
    return model if layers == model.layers else replace(model, layers=layers)


def _without_window(layer: Layer) -> Layer:
    part = layer.attention
    if part is None or not dict(part.sizes).get("window"):
        return layer
    return replace(layer, attention=Part.of(part.kind, **{**dict(part.sizes), "window": None}))


def covers(versions: str, version: str | None) -> bool:
    """Return whether a range such as ``>=0.17,<0.18`` holds a version; None is in every range.

    Examples
    --------
    >>> covers(">=0.17,<0.18", "v0.17.2"), covers("<0.17", "0.19"), covers("any", "1.0")
    (True, False, True)
    """
    if version is None or versions == "any":
        return True
    mine = _numbers(version)
    for condition in versions.split(","):
        limit = _numbers(condition)
        if condition.startswith(">=") and mine < limit:
            return False
        if condition.startswith("<") and mine >= limit:
            return False
    return True


def _numbers(text: str) -> tuple[int, ...]:
    found = re.search(r"\d+(\.\d+)*", text)
    if not found:
        raise SpecError(f"engine_version: {text!r} is not a version; allowed are e.g. 0.19.0")
    return tuple(int(part) for part in found[0].split("."))


@cache
def _checked(path) -> dict:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("engine", data, path)
    if data["id"] != path.stem:
        raise SpecError(f"{path}: id {data['id']!r} must equal the file's name")
    return data
