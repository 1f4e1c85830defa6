"""Serving engines: their defaults and per-step overheads, as facts."""

from dataclasses import dataclass
from functools import cache

from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml


@dataclass(frozen=True, eq=False)
class Engine:
    """Defaults and overheads of one serving engine, each a Fact (see ``facts``).

    ``memory_utilization`` is the share of memory it plans with; ``activation_fixed`` and
    ``activation_per_logit`` (times sequences times vocabulary) its activation peak;
    ``non_torch_single`` and ``non_torch_parallel`` what driver and communication buffers
    take on one and on several devices; ``block_tokens`` the cache block; ``max_sequences``
    and ``max_batched_tokens`` the scheduler's limits; ``step_overhead`` and
    ``sequence_overhead`` host time per step and per sequence in it.
    """

    id: str
    name: str
    versions: str
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
def load_engine(name: str) -> Engine:
    """Return an engine by id.

    Raises
    ------
    SpecError
        If the name is not known.

    Examples
    --------
    >>> load_engine("vllm").memory_utilization
    0.9
    """
    files = spec_files("calibrations", "engines")
    if name not in files:
        raise unknown_name("engine", name, files)
    from calc.specs.schema import check_file

    path = files[name]
    data = read_yaml(path)
    check_file("engine", data, path)
    if data["id"] != path.stem:
        raise SpecError(f"{path}: id {data['id']!r} must equal the file's name")
    sources = sources_from(data["sources"])
    facts = {key: fact_from(row, sources, f"{path}: {key}") for key, row in data["facts"].items()}
    return Engine(data["id"], data["name"], data["versions"], facts, data.get("note", ""))
