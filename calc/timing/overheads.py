"""What an engine adds to its kernels: host time, kernel choice, scheduling; fitted on measured runs.

Kernel tables are taken under CUDA graphs, one kernel at a time. An engine adds a host cost per
step, per sequence and per layer, prefers other kernels than those of the tables, and lets new
requests wait for its scheduler. These few numbers are fitted per engine, range of versions and
maker of the device (``python -m validate overheads``), never per model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.engine import covers
from calc.specs.errors import SpecError
from calc.specs.facts import Fact, sources_from, spec_files
from calc.specs.numeric import maximum, minimum, where
from calc.specs.strict_yaml import read_yaml
from calc.specs.workload import Workload
from calc.work.op import Op

#: kind of op -> kernel group that an engine has one factor for
KERNEL_GROUPS = {
    "gemm": "gemm",
    "bmm": "gemm",
    "moe": "moe",
    "prefill_attention": "prefill_attention",
    "prefill_mla": "prefill_attention",
    "encoder_attention": "prefill_attention",
    "decode_attention": "decode_attention",
    "decode_mla": "decode_attention",
    "elementwise": "elementwise",
    "embedding": "elementwise",
}
#: group of what exchanges data between devices, and of everything else
COLLECTIVE, OTHER = "collective", "other"
#: exchanges of devices on PCIe: boxes differ in it by a factor of ten and more
HOST_COLLECTIVE = "host_collective"
#: matrix products in other formats than these pass over their activations first, or not
PLAIN_FORMATS = ("bf16", "fp16", "fp32")
GROUPS = (
    "gemm",
    "quantised_gemm",
    "moe",
    "prefill_attention",
    "decode_attention",
    "elementwise",
    COLLECTIVE,
    HOST_COLLECTIVE,
    OTHER,
)
#: host numbers of a profile: name -> unit and meaning
HOST = {
    "step_s": ("s", "host time of a step that the device waits for"),
    "sequence_s": ("s", "host time per sequence in a step"),
    "layer_s": ("s", "gaps between kernels, per layer of a step"),
    "exchange_s": ("s", "wait for the slowest device, per exchange in a step"),
    "together_s": ("s", "host time of a step that several devices take together"),
    "request_s": ("s", "host time of a request before its prefill"),
    "launch_s": ("s", "host time per kernel that the prefill of a new request launches"),
    "first_use_s": ("s", "wait for kernels built at the first full step, mean over ten requests per place"),
    "prompt_waits": ("count", "prompts of its own length that a new request waits for"),
    "decode_waits": ("count", "decode steps between arrival and the first token that is seen"),
    "burst": ("ratio", "share of the prompts in flight that a new request waits for"),
    "equal_prompt_waits": ("count", "as prompt_waits, where all requests are equally long"),
    "equal_decode_waits": ("count", "as decode_waits, where all requests are equally long"),
    "equal_burst": ("ratio", "as burst, where all requests are equally long"),
}


#: kernels that an engine launches for one op of these kinds; assumed, one for all others: routing, sorting,
#: quantising, two products and their sum for experts, splits, rotation and copies for latent attention
LAUNCHES = {"moe": 10, "prefill_mla": 10}


def kernel_group(op: Op, device: Device) -> str:
    """Return the kernel group of an op on a device.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> kernel_group(Op("mlp.up_proj", "gemm", "fp8", format="fp8"), load_device("l4"))
    'quantised_gemm'
    """
    if op.is_collective:
        return HOST_COLLECTIVE if device.link.topology == "pcie" else COLLECTIVE
    if op.kind == "gemm" and op.format not in PLAIN_FORMATS:
        return "quantised_gemm"
    return KERNEL_GROUPS.get(op.kind, OTHER)


#: waits before a first token that come from how clients send requests
WAITS = ("prompt_waits", "decode_waits", "burst")


@dataclass(frozen=True)
class RunError:
    """How far measured runs lie from predictions: 80 % of measured over predicted, and medians.

    ``trust`` is the label that most of those predictions had: what weaker ones are held against.
    """

    n: int
    median_pct: float
    p90_pct: float
    low: float
    high: float
    trust: str = "calibrated"


@dataclass(frozen=True, eq=False)
class Overheads:
    """Overheads of one engine in a range of versions on devices of some makers.

    ``host`` maps the names of ``HOST`` to Facts, ``kernels`` the groups of ``GROUPS`` to
    factors on the time of their kernels (1 where not named), ``reach`` groups to the share of
    the roofline that the engine's own kernels reach at least. ``errors`` maps metrics to how far
    measured runs were off when their device or model took no part in the fit.
    """

    engine: str
    versions: str
    host: Mapping[str, Fact]
    kernels: Mapping[str, float]
    reach: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, RunError] = field(default_factory=dict)
    kind: str = "assumed"
    note: str = ""

    def factor(self, op: Op, device: Device) -> float:
        """Return the factor on the time of an op's kernels; 1 where none is known.

        Examples
        --------
        >>> from calc.specs.device import load_device
        >>> load_overheads("vllm").factor(Op("a", "no such kind", "bf16"), load_device("l4"))
        1.0
        """
        return self.kernels.get(kernel_group(op, device), 1.0)

    def waits(self, load: Workload) -> Mapping[str, Fact]:
        """Return the Facts of ``WAITS`` for a load.

        Requests of equal length that start together end together, so that prompts come in
        bursts. At the most that memory holds requests wait outside: a free place is taken at once.
        """
        if load.mode == "max_load":
            return {name: Fact(0.0, HOST[name][0], "derived", note="requests wait outside") for name in WAITS}
        prefix = "equal_" if load.equal_lengths else ""
        return {name: self.host[prefix + name] for name in WAITS}

    def __getattr__(self, name: str) -> float:
        host = self.__dict__.get("host", {})
        if name not in host:
            raise AttributeError(name)
        return host[name].value


def own_kernels_s(table_s, fixed_s, least_s, reach):
    """Time of kernels that reach at least a share of the roofline, else what tables say. [s]

    Parameters
    ----------
    table_s : number or array
        Time by the calibration, with the engine's factor. [s]
    fixed_s, least_s : number or array
        Fixed costs in it, and the least time that the datasheet allows. [s]
    reach : number or array
        Share of the roofline; 0 where the engine has no kernels of its own. [1]

    Examples
    --------
    >>> own_kernels_s(2e-3, 1e-5, 8e-4, 0.8), own_kernels_s(2e-3, 1e-5, 8e-4, 0.0)
    (0.00101, 0.002)
    """
    own = fixed_s + least_s / maximum(reach, 1e-12)
    return where(reach > 0, minimum(table_s, own), table_s)


def host_time_s(overheads, n_sequences, n_layers, n_exchanges):
    """Time of one step that is spent on no kernel. [s]

    Parameters
    ----------
    overheads : Overheads
        Or anything with ``step_s``, ``sequence_s``, ``layer_s``, ``exchange_s`` and ``together_s``.
    n_sequences, n_layers, n_exchanges : number or array
        Sequences in the step, layers they pass, and exchanges between devices.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> host = SimpleNamespace(step_s=1e-3, sequence_s=1e-5, layer_s=2e-6, exchange_s=0.0, together_s=5e-4)
    >>> print(f"{1e3 * host_time_s(host, 64, 80, 0):.1f} ms")
    1.8 ms
    """
    each = overheads.sequence_s * n_sequences + overheads.layer_s * n_layers
    together = where(n_exchanges > 0, overheads.together_s, 0.0)
    return overheads.step_s + together + each + overheads.exchange_s * n_exchanges


def launches(ops):
    """Kernels that a step launches, exchanges not counted. [count]

    Examples
    --------
    >>> launches([Op("moe.router", "gemm", "bf16", count=58), Op("moe.experts", "moe", "bf16", count=58)])
    638
    """
    return sum(op.count * LAUNCHES.get(op.kind, 1) for op in ops if not op.is_collective)


def handling_s(overheads, n_launches):
    """Host time of a request before its first token, beside the steps that it is part of. [s]

    Parameters
    ----------
    overheads : Overheads
        Or anything with ``request_s`` and ``launch_s``.
    n_launches : number or array
        Kernels that its prefill launches: the host is slower than a short prompt's kernels.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> print(f"{handling_s(SimpleNamespace(request_s=1e-3, launch_s=3e-5), 1600):.3f} s")
    0.049 s
    """
    return overheads.request_s + overheads.launch_s * n_launches


@cache
def load_overheads(
    engine: str, version: str | None = None, vendor: str | None = None, mode: str | None = None
) -> Overheads:
    """Return an engine's overheads for a version, a maker of devices and a mode of load.

    Without a version the first that fits.

    Examples
    --------
    >>> load_overheads("vllm", "0.6").versions
    '<0.8'
    >>> load_overheads("tensorrt-llm", "1.0", "nvidia", "max_load").versions
    '>=0.15,<1.0'
    """
    files = spec_files("calibrations", "overheads")
    if engine not in files:
        raise SpecError(f"engine: {engine!r} has no overheads; known are {', '.join(files)}")
    return _chosen(_checked(files[engine]), version, vendor, mode)


def profile_index(rows: Sequence[Mapping], version: str | None, vendor: str | None, mode: str | None) -> int:
    """Return which of an engine's profiles speaks for a version, a maker and a mode; -1 for none.

    Runs at maximum load come from clients in the engine's own process, and not from every
    version: a profile may name versions whose ``max_load`` it answers beside its own.

    Examples
    --------
    >>> rows = [{"versions": ">=1.0"}, {"versions": "<1.0", "max_load": ">=0.15"}]
    >>> [profile_index(rows, "1.2", "nvidia", mode) for mode in ("closed_loop", "max_load")]
    [0, 1]
    """
    fitting = _covering(rows, "max_load", version) if mode == "max_load" else []
    fitting = fitting or _covering(rows, "versions", version)
    return next((i for i in fitting if vendor in rows[i].get("vendors", ())), fitting[0] if fitting else -1)


def _covering(rows: Sequence[Mapping], key: str, version: str | None) -> list[int]:
    return [i for i, row in enumerate(rows) if row.get(key) and covers(row[key], version)]


def _chosen(data: Mapping, version: str | None, vendor: str | None, mode: str | None) -> Overheads:
    """Return the profile of a file that speaks for a version, a maker and a mode.

    One that names other makers lends its host numbers, as an assumption: neither its kernels
    nor its errors say anything about these devices.
    """
    engine, index = data["id"], profile_index(data["profiles"], version, vendor, mode)
    if index < 0:
        known = ", ".join(row["versions"] for row in data["profiles"])
        raise SpecError(f"engine_version: {version!r} of {engine} is not covered; known are {known}")
    row = data["profiles"][index]
    makers = row.get("vendors", ())
    if makers and vendor and vendor not in makers:
        note = f"host numbers as on devices of {', '.join(makers)}"
        row = {**row, "kind": "assumed", "kernels": {}, "reach": {}, "errors": {}, "note": note}
    return _overheads(engine, row, tuple(sources_from(data["sources"]).values()))


def overheads_of(
    deployment: Deployment, device: Device, path: str | None = None, mode: str | None = None
) -> Overheads:
    """Return the overheads of a deployment's engine on a device in a mode of load, or those of a file.

    Raises
    ------
    SpecError
        If the file is not one of overheads, or of another engine.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> overheads_of(Deployment(), load_device("h100-sxm")).engine
    'vllm'
    """
    version, vendor = deployment.engine_version, device.vendor.lower()
    if path is None:
        return load_overheads(deployment.engine, version, vendor, mode)
    data = _checked(Path(path))
    if data["id"] != deployment.engine:
        raise SpecError(f"overheads: {path} is of {data['id']}; allowed is a file of {deployment.engine}")
    return _chosen(data, version, vendor, mode)


def _overheads(engine: str, row: Mapping, sources) -> Overheads:
    kind, note = row["kind"], row.get("note", "")
    host = {
        name: Fact(
            row["host"].get(name, 0.0),
            unit,
            kind,
            sources if kind != "assumed" else (),
            f"{row['host'].get(name, 0.0):g} {unit}",
            note=note,
        )
        for name, (unit, _) in HOST.items()
    }
    errors = {metric: RunError(**error) for metric, error in row.get("errors", {}).items()}
    kernels, reach = (dict(row.get(name, {})) for name in ("kernels", "reach"))
    return Overheads(engine, row["versions"], host, kernels, reach, errors, kind, note)


@cache
def _checked(path) -> dict:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("overheads", data, path)
    return data
