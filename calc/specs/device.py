"""Devices: what the vendor prints, in SI units, every number with its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml


@dataclass(frozen=True, eq=False)
class Link:
    """The scale-up link of a device; bandwidths in one direction. [byte/s]"""

    name: str
    topology: str
    domain: int
    bandwidth: Fact | None
    per_peer: Fact | None


@dataclass(frozen=True, eq=False)
class Device:
    """One accelerator: memory, bandwidth, dense peaks and links, as facts.

    The plain floats (``memory_bytes``, ``bandwidth_bytes_per_s`` ...) are what the
    calculator works with; the facts beside them say where each number comes from.
    """

    id: str
    name: str
    vendor: str
    architecture: str
    status: str
    aliases: tuple[str, ...]
    capacity: Fact
    reported: Fact | None
    bandwidth: Fact
    peaks: Mapping[str, Fact]
    link: Link
    processors: Fact | None = None
    cache: Fact | None = None
    clock: Fact | None = None
    power: Fact | None = None
    host_link: Fact | None = None
    network: Fact | None = None
    purchase: Fact | None = None
    devices_per_node: int = 8
    note: str = ""
    path: str = ""

    @property
    def memory_bytes(self) -> float:
        """Memory as the device reports it; the label's bytes where no report is known. [byte]"""
        return (self.reported or self.capacity).value

    @property
    def bandwidth_bytes_per_s(self) -> float:
        """Datasheet memory bandwidth. [byte/s]"""
        return self.bandwidth.value

    def peak_fact(self, dtype: str) -> Fact:
        """Return the dense peak that math in a dtype runs at.

        A dtype without units of its own runs at the next wider format that has them:
        fp8 on an A100 is computed in bf16.
        """
        for name in _MATH_FALLBACK.get(dtype, (dtype,)):
            if name in self.peaks:
                return self.peaks[name]
        raise SpecError(f"{self.id}: no peak for dtype {dtype!r}; known are {', '.join(self.peaks)}")

    def peak_flops_per_s(self, dtype: str) -> float:
        """Dense peak for math in a dtype. [flop/s]"""
        return self.peak_fact(dtype).value

    def facts(self) -> dict[str, Fact]:
        """Every known number by name, for tables of sources."""
        rows = {
            "memory capacity": self.capacity,
            "memory reported": self.reported,
            "memory bandwidth": self.bandwidth,
            **{f"peak {dtype}": fact for dtype, fact in self.peaks.items()},
            "link bandwidth": self.link.bandwidth,
            "link per peer": self.link.per_peer,
            "host link": self.host_link,
            "network": self.network,
            "processors": self.processors,
            "cache": self.cache,
            "clock": self.clock,
            "power": self.power,
            "purchase": self.purchase,
        }
        return {name: fact for name, fact in rows.items() if fact is not None}


_WIDE = ("bf16", "fp16", "fp32")
_MATH_FALLBACK = {
    "fp64": ("fp64",),
    "fp32": ("fp32", "tf32", "bf16"),
    "tf32": ("tf32", *_WIDE),
    "bf16": _WIDE,
    "fp16": ("fp16", "bf16", "fp32"),
    "fp8": ("fp8", *_WIDE),
    "int8": ("int8", "fp8", *_WIDE),
    "fp6": ("fp6", "fp8", *_WIDE),
    "fp4": ("fp4", "fp8", *_WIDE),
    "int4": ("int4", *_WIDE),
}


def load_device(name: str | Device) -> Device:
    """Return a device by id, alias or the path of your own YAML file.

    Parameters
    ----------
    name : str
        ``"h100-sxm"``, an alias, or a path ending in ``.yaml``: of a device or of a profile that
        holds one.

    Raises
    ------
    SpecError
        If the name is not known (with the nearest one) or the file is not valid.

    Examples
    --------
    >>> load_device("h100-sxm").bandwidth_bytes_per_s / 1e12
    3.35
    """
    if isinstance(name, Device):
        return name
    text = str(name)
    if text.endswith((".yaml", ".yml")):
        return _device_from(Path(text), own=True)
    files = spec_files("hardware_specs")
    key = text.lower().replace("_", "-")
    if key in files:
        return _shipped_device(files[key])
    aliases = _aliases()
    if key in aliases:
        return _shipped_device(files[aliases[key]])
    raise unknown_name("device", text, [*files, *aliases], hint="or the path of your own .yaml file")


def device_ids() -> list[str]:
    """Ids of all shipped devices."""
    return list(spec_files("hardware_specs"))


@lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    return {
        alias.lower().replace("_", "-"): device_id
        for device_id, path in spec_files("hardware_specs").items()
        for alias in read_yaml(path).get("aliases", ())
    }


@cache
def _shipped_device(path: Path) -> Device:
    return _device_from(path)


def _device_from(path: Path, own: bool = False) -> Device:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    if own and data.get("own_device"):  # a profile, as python -m validate run writes it
        data = data["own_device"]
    check_file("device", data, path)
    if not own and data["id"] != path.stem:
        raise SpecError(f"{path}: id {data['id']!r} must equal the file's name")
    return device_of(data, path)


def device_of(data: Mapping, path: Path | str) -> Device:
    """Return the device that a checked file describes; ``path`` is for messages."""
    sources = sources_from(data["sources"])

    def fact(row, name):
        made = fact_from(row, sources, f"{path}: {name}") if row else None
        if made and made.value <= 0:
            raise SpecError(f"{path}: {name}: {made.printed} is not allowed; allowed are values above 0")
        return made

    memory, link = data["memory"], data["link"]
    named = ("processors", "cache", "clock", "power", "host_link", "network", "purchase")
    return Device(
        id=data["id"],
        name=data["name"],
        vendor=data["vendor"],
        architecture=data["architecture"],
        status=data["status"],
        aliases=tuple(data.get("aliases", ())),
        capacity=fact(memory["capacity"], "memory.capacity"),
        reported=fact(memory.get("reported"), "memory.reported"),
        bandwidth=fact(memory["bandwidth"], "memory.bandwidth"),
        peaks={dtype: fact(row, f"peaks.{dtype}") for dtype, row in data["peaks"].items()},
        link=Link(
            name=link["name"],
            topology=link["topology"],
            domain=link["domain"],
            bandwidth=fact(link.get("bandwidth"), "link.bandwidth"),
            per_peer=fact(link.get("per_peer"), "link.per_peer"),
        ),
        **{name: fact(data.get(name), name) for name in named},
        devices_per_node=data.get("devices_per_node", 8),
        note=data.get("note", ""),
        path=str(path),
    )
