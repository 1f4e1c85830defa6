"""The devices that torch can use, and the state that the driver reports; nothing is ever set."""

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from validate.machine import shipped_device

#: fields asked of nvidia-smi, in this order
FIELDS = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "power.draw", "utilization.gpu")


@dataclass(frozen=True)
class Accelerator:
    """One device; ``spec`` is the shipped device of that name, empty where there is none."""

    place: str  # cpu, cuda:0, mps
    name: str
    spec: str = ""
    memory_bytes: float | None = None
    free_bytes: float | None = None
    processors: int | None = None
    capability: str = ""
    state: Mapping[str, float] | None = None


def accelerators(torch, host) -> list[Accelerator]:
    """Return the devices that torch can use, the host's processor last.

    Parameters
    ----------
    torch : module
    host : Host
    """
    found = [_cuda(torch, index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append(Accelerator("mps", host.processor, shipped_device(host.processor)))
    cpu = Accelerator("cpu", host.processor, "", host.memory_bytes, host.free_memory_bytes, host.cores)
    return [*found, cpu]


def _cuda(torch, index: int) -> Accelerator:
    properties = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    return Accelerator(
        f"cuda:{index}", properties.name, shipped_device(properties.name), float(total), float(free),
        properties.multi_processor_count, f"{properties.major}.{properties.minor}", state_of(index),
    )  # fmt: skip


def state_of(index: int) -> dict[str, float] | None:
    """Return clocks, temperature, power and use of an NVIDIA device; None where nothing tells."""
    if not shutil.which("nvidia-smi"):
        return None
    query = [
        "nvidia-smi",
        f"--id={index}",
        f"--query-gpu={','.join(FIELDS)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return state_from(done.stdout)


def state_from(line: str) -> dict[str, float] | None:
    """Return the state from a line of nvidia-smi; figures that a device does not tell are left out.

    Examples
    --------
    >>> state_from("345, 1980, 31, 76.62, 0")["clocks.sm"], state_from("345, 1980, 31, [N/A], 0").keys()
    (345.0, dict_keys(['clocks.sm', 'clocks.max.sm', 'temperature.gpu', 'utilization.gpu']))
    """
    cells = [cell.strip() for cell in line.strip().split(",")]
    if len(cells) != len(FIELDS):
        return None
    pairs = zip(FIELDS, cells, strict=True)
    return {name: float(cell) for name, cell in pairs if cell.replace(".", "", 1).isdigit()}
