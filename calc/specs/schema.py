"""The shape of our YAML files, checked strictly: unknown keys refused, paths in errors.

Only the loaders import this module (and with it pydantic), when they read a file.
``python -m calc.specs.schema device`` prints the JSON Schema for an editor.
"""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from calc.specs.errors import SpecError, short
from calc.specs.schema_device import Day, DeviceFile, FactRow, Id, SourceRow, Strict, Topology


class ModelFile(Strict):
    """One model: names, where its shape was read, the fields of its config.json."""

    id: Id
    name: str
    aliases: list[str] = Field([])
    note: str = ""
    sources: dict[str, SourceRow]
    config_kind: Literal["published", "secondary", "assumed"]
    config_source: str | list[str]
    published: dict[Literal["parameters", "active_parameters", "cache_bytes_per_token"], FactRow] = Field({})
    config: dict[str, Any]


class PriceRow(Strict):
    """One price per device-hour as seen on a date."""

    device: Id
    value: float = Field(gt=0, lt=200)
    unit: Literal["USD/h"] = "USD/h"
    term: Literal["on-demand", "spot", "reserved", "capacity-block", "market"]
    region: str = ""
    date: Day = Field(description="when it was seen, e.g. 2026-08 or 2026-05-20")
    kind: Literal["published", "measured", "derived", "secondary", "assumed"]
    source: str | list[str]
    note: str = ""


class PriceFile(Strict):
    """The price rows of one provider."""

    provider: Id
    name: str
    sources: dict[str, SourceRow]
    prices: list[PriceRow]


_VERSIONS = r"^(any|(>=|<)\d+(\.\d+)*(,(>=|<)\d+(\.\d+)*)*)$"


class EngineRows(Strict):
    """Defaults and overheads of a serving engine."""

    memory_utilization: FactRow
    activation_fixed: FactRow
    activation_per_logit: FactRow
    activation_token_copies: FactRow
    activation_ff: FactRow
    embedding_on_host: FactRow
    activation_vision: FactRow
    activation_pipeline: FactRow
    non_torch_single: FactRow
    non_torch_parallel: FactRow
    non_torch_pipeline: FactRow
    cuda_graphs: FactRow
    block_tokens: FactRow
    max_sequences: FactRow
    max_batched_tokens: FactRow
    ignores_windows: FactRow | None = None


class SmallDevices(Strict):
    """Scheduler limits on devices with less memory than ``below``, or with a name among ``named``."""

    below: FactRow
    named: list[str] = Field([])
    max_sequences: FactRow
    max_batched_tokens: FactRow


class EngineProfile(Strict):
    """One engine in a range of versions, e.g. ``>=0.17,<0.18`` or ``any``."""

    small_devices: SmallDevices | None = None

    versions: str = Field(pattern=_VERSIONS)
    facts: EngineRows


class EngineFile(Strict):
    """One serving engine: how it budgets memory, and its profiles, newest first."""

    id: Id
    name: str
    budget: Literal["share-of-total", "share-of-free", "exact"]
    paging: Literal["groups", "plain"]
    note: str = ""
    sources: dict[str, SourceRow]
    profiles: list[EngineProfile] = Field(min_length=1)


class HostRows(Strict):
    """Host time and scheduling of an engine; see ``calc.timing.overheads``."""

    step_s: float = Field(ge=0, le=1)
    sequence_s: float = Field(ge=0, le=0.1)
    layer_s: float = Field(ge=0, le=0.1)
    exchange_s: float = Field(ge=0, le=0.1)
    together_s: float = Field(0.0, ge=0, le=0.1)
    request_s: float = Field(ge=0, le=10)
    launch_s: float = Field(0.0, ge=0, le=1e-2)
    first_use_s: float = Field(0.0, ge=0, le=1000)
    prompt_waits: float = Field(ge=0, le=20)
    decode_waits: float = Field(ge=0, le=200)
    burst: float = Field(ge=0, le=1)
    equal_prompt_waits: float = Field(ge=0, le=20)
    equal_decode_waits: float = Field(ge=0, le=200)
    equal_burst: float = Field(ge=0, le=1)


class RunErrorRow(Strict):
    """Errors of a metric on runs whose device or model took no part in the fit."""

    trust: Literal["calibrated", "family", "datasheet", "extrapolated"] = "calibrated"

    n: int = Field(ge=0)
    median_pct: float
    p90_pct: float
    low: float = Field(gt=0, le=1, description="10 % of measured values lie below predicted times this")
    high: float = Field(ge=1, description="10 % lie above predicted times this")


#: groups of kernels and exchanges that an engine may have its own of
OwnKernels = Literal[
    "prefill_attention", "decode_attention", "gemm", "quantised_gemm", "moe", "host_collective"
]


class OverheadProfile(Strict):
    """What an engine of a range of versions adds to its kernels on devices of some makers."""

    versions: str = Field(pattern=_VERSIONS)
    vendors: list[Id] = Field([])
    max_load: str | None = Field(
        None,
        pattern=_VERSIONS,
        description="versions whose maximum load it answers too",
    )
    kind: Literal["measured", "assumed"]
    host: HostRows
    kernels: dict[
        Literal[
            "gemm",
            "quantised_gemm",
            "moe",
            "prefill_attention",
            "decode_attention",
            "elementwise",
            "collective",
            "host_collective",
            "other",
        ],
        float,
    ] = Field({}, description="factors on the time of kernels")
    reach: dict[OwnKernels, float] = Field(
        {}, description="share of the roofline, or of the link, that the engine's own kernels reach"
    )
    errors: dict[Literal["tpot_s", "ttft_s"], RunErrorRow] = Field({})
    note: str = ""


class OverheadFile(Strict):
    """The overheads of one engine, newest versions first."""

    id: Id
    date: str = ""
    note: str = ""
    sources: dict[str, SourceRow]
    profiles: list[OverheadProfile] = Field(min_length=1)


class OpError(Strict):
    """How well a form fits: medians and 90th percentiles of the absolute error, and the bias."""

    n: int = Field(ge=0, description="points of the fit")
    fit_median_pct: float
    cv_median_pct: float = Field(description="shapes left out of the fit")
    cv_p90_pct: float
    bias_pct: float
    low: float = Field(gt=0, le=1, description="10 % of measured values lie below predicted times this")
    high: float = Field(ge=1, description="10 % lie above predicted times this")


class BeforeRow(Strict):
    """Errors on the same points without this file: medians of the absolute error, and how often known."""

    roofline_median_pct: float = Field(description="by the measured ceilings alone")
    default_median_pct: float | None = Field(None, description="by what speaks for the device otherwise")


class OpRows(Strict):
    """Parameters of one form for one kind of op in one format."""

    form: str = Field(pattern=r"^[a-z_]+/[0-9]+$")
    parameters: dict[str, float]
    kind: Literal["measured", "assumed"] = "measured"
    kernel: str = ""
    note: str = ""
    error: OpError | None = None
    before: BeforeRow | None = None
    range: dict[str, list[float]] = Field({}, description="smallest and largest size that was fitted")


class Adjustment(Strict):
    """Parameters changed in what a file takes over, where a form has them, and why."""

    ops: list[str] = Field([], description="op kinds; all when not given")
    formats: list[str] = Field([], description="formats; all when not given")
    devices: list[Id] = Field([], description="devices; all of the families when not given")
    set: dict[str, float] = Field({}, description="parameter -> value")
    scale: dict[str, float] = Field({}, description="parameter -> factor")
    kind: Literal["measured", "assumed"]
    source: str | list[str] = ""
    note: str


class MachineRows(Strict):
    """Fingerprint of the machine that a profile was measured on."""

    kind: Literal["cpu", "cuda", "rocm", "mps"]
    name: str
    processors: int = Field(ge=1)
    memory_bytes: float = Field(gt=0)
    cache_bytes: float = Field(ge=0, description="last-level cache that it reports, 0 where unknown")
    threads: int = Field(ge=1, description="host threads that the kernels ran on")
    host: str = Field("", description="name of the host's processor")
    driver: str = ""


class ProtocolRows(Strict):
    """How a profile was measured, and how steady the machine was."""

    statistic: str
    budget_s: float = Field(gt=0)
    wall_s: float = Field(ge=0)
    rounds: int = Field(ge=0)
    clock: str
    steady: bool
    drift_pct: float
    stalls: int = Field(ge=0, description="visits thrown away and repeated")
    load_before: float
    load_after: float
    stopped: str = Field("", description="why it ended early; empty where it did not")
    note: str = ""


class AcceptanceRow(Strict):
    """One step of a small decoder that took no part in the fit, measured and predicted. [s]"""

    decoder: str
    phase: Literal["prefill", "decode"]
    batch: int = Field(ge=1)
    tokens: int = Field(ge=1, description="new tokens of each sequence")
    past: int = Field(ge=0, description="cached tokens of each sequence")
    measured_s: float = Field(gt=0)
    predicted_s: float = Field(gt=0)
    low_s: float = Field(gt=0, description="lower end of the 80 % interval")
    high_s: float = Field(gt=0, description="upper end of the 80 % interval")
    roofline_s: float = Field(gt=0, description="by the measured ceilings alone")
    median_s: float = Field(0.0, ge=0, description="median of the visits; measured_s is their minimum")
    trust: Literal["calibrated", "family", "datasheet", "extrapolated"]


class SkippedRow(Strict):
    """A probe or case that was not measured, or whose kernel was wrong, and why."""

    probe: str
    reason: str
    case: str = ""


class CalibrationFile(Strict):
    """Kernel parameters per op kind and format, for one device, a family of devices, or any."""

    id: Id
    name: str
    trust: Literal["calibrated", "family", "datasheet"]
    device: str = ""
    families: list[Id] = Field([], description="architectures that a family file speaks for")
    links: list[Topology] = Field([], description="topologies whose collectives a link file speaks for")
    based_on: str = Field("", description="id of the file whose parameters a family takes over")
    without: list[str] = Field([], description="formats that are not taken over")
    adjust: list[Adjustment] = Field([])
    widen: float = Field(1.0, ge=1, le=20, description="exponent on the ends of the interval")
    date: str = ""
    software: str = ""
    note: str = ""
    sources: dict[str, SourceRow]
    ops: dict[str, dict[str, OpRows]] = Field({}, description="op kind -> format -> parameters")
    # what python -m validate run adds
    profile: Literal[1] | None = Field(None, description="version of the fields below")
    machine: MachineRows | None = None
    versions: dict[str, str] = Field({})
    protocol: ProtocolRows | None = None
    ceilings: dict[str, float] = Field(
        {}, description="measured, e.g. copy_bytes_per_s, gemm_bf16_flops_per_s"
    )
    acceptance: list[AcceptanceRow] = Field([])
    skipped: list[SkippedRow] = Field([])
    points: str = Field("", description="file of the measured points, beside this one")
    own_device: DeviceFile | None = Field(None, description="the machine as a device, where none is shipped")


FILES = {
    "device": DeviceFile,
    "model": ModelFile,
    "prices": PriceFile,
    "engine": EngineFile,
    "calibration": CalibrationFile,
    "overheads": OverheadFile,
}


def check_file(kind: str, data: dict, path: Path):
    """Return the validated file, or raise SpecError naming the first wrong field.

    Parameters
    ----------
    kind : str
        A key of ``FILES``: ``"device"``, ``"model"``, ``"prices"``, ``"engine"`` ...
    data : dict
        What the YAML file holds.
    path : Path
        For the message; an ``id`` must equal the file's name.
    """
    try:
        checked = FILES[kind].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(short(str(part)) for part in first["loc"])
        value = first.get("input")
        given = "" if isinstance(value, dict | list) else f" (got {short(repr(value))})"
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise SpecError(f"{path}: {field}: {message}{given}") from None
    return checked


if __name__ == "__main__":
    print(json.dumps(FILES[sys.argv[1]].model_json_schema(), indent=2))
