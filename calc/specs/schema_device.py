"""The shape of a device file, and the rows that other files have in common with it.

``calc.specs.schema`` checks files against it, and is what the loaders import.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.\-]*$")]
Day = Annotated[str, StringConstraints(pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$")]
Topology = Literal["switch", "mesh", "torus", "bridge", "pcie"]
DTYPES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4")


class Strict(BaseModel):
    """Rows that refuse keys they do not know, and values of another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class SourceRow(Strict):
    """Where figures were read."""

    title: str
    url: str = ""
    date: str = ""
    note: str = ""


class Alternative(Strict):
    """A figure that lost, and why."""

    value: float
    unit: str
    source: str | list[str] = ""
    reason: str


class FactRow(Strict):
    """One number as its source prints it."""

    value: float = Field(ge=0)
    unit: str
    kind: Literal["published", "measured", "derived", "secondary", "assumed"]
    source: str | list[str] = ""
    date: str = ""
    note: str = ""
    alternatives: list[Alternative] = []


class MemoryRows(Strict):
    """Memory of one device: the label, what the driver reports, and its bandwidth."""

    type: str = ""
    capacity: FactRow
    reported: FactRow | None = None
    bandwidth: FactRow


class LinkRows(Strict):
    """The scale-up link between devices of one node or rack, one direction."""

    name: str
    topology: Literal[Topology, "none"]
    domain: int = Field(ge=1, description="devices that reach each other over this link")
    bandwidth: FactRow | None = Field(None, description="per device to all peers, one direction")
    per_peer: FactRow | None = Field(None, description="to one peer, one direction, where it is less")


class DeviceFile(Strict):
    """One accelerator, per device (not per board, node or rack)."""

    id: Id
    name: str
    vendor: Id
    architecture: Id = Field(description="generation, e.g. hopper: the key of calibration families")
    status: Literal["available", "announced"]
    release: str = ""
    form_factor: str = ""
    compute_capability: str = ""
    aliases: list[str] = []
    note: str = ""
    sources: dict[str, SourceRow]
    memory: MemoryRows
    peaks: dict[Literal[DTYPES], FactRow] = Field(description="dense matrix peak per dtype")
    processors: FactRow | None = Field(None, description="SMs, CUs or cores")
    clock: FactRow | None = None
    cache: FactRow | None = Field(None, description="last-level cache")
    power: FactRow | None = None
    link: LinkRows
    host_link: FactRow | None = Field(None, description="to the host, one direction")
    network: FactRow | None = Field(None, description="per device to other nodes, one direction")
    purchase: FactRow | None = None
    devices_per_node: int = Field(8, ge=1)
