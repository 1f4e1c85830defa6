"""Serving engines by version: how they budget memory, their defaults and overheads, as facts."""

import re
from dataclasses import dataclass
from functools import cache

from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
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
    """Defaults and overheads of one serving engine in a range of versions, each a Fact.

    Read as attributes: ``memory_utilization`` is the share of memory it plans with;
    ``activation_fixed``, ``activation_per_logit`` (times sequences times vocabulary),
    ``activation_token_copies`` (times batched tokens times width) and ``activation_vision``
    its activation peak, ``activation_pipeline`` the peak of a pipeline stage;
    ``non_torch_*`` what driver and communication take; ``cuda_graphs`` what graphs take
    outside of the budget; ``block_tokens`` the cache block; ``max_sequences`` and
    ``max_batched_tokens`` the scheduler's limits; ``step_overhead`` and
    ``sequence_overhead`` host time per step and per sequence in it. [byte], [s]
    """

    id: str
    name: str
    versions: str
    budget: str
    paging: str
    facts: dict[str, Fact]
    note: str = ""

    def __getattr__(self, name: str) -> float:
        facts = self.__dict__.get("facts", {})
        if name not in facts:
            raise AttributeError(name)
        return facts[name].value


def engine_ids() -> list[str]:
    """Ids of all shipped engines."""
    return list(spec_files("calibrations", "engines"))


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
    (0.9, '<0.17')
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
    return Engine(
        name, data["name"], profile["versions"], data["budget"], data["paging"], facts, data.get("note", "")
    )


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
