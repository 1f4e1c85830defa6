"""The host as it is now: processor, load, memory, disk."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from validate import machine

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True)
class Host:
    """The machine around the devices, at the moment of asking."""

    processor: str
    cores: int
    load: float
    memory_bytes: float
    free_memory_bytes: float
    free_disk_bytes: float
    governor: str = ""


def host(folder: str = ".") -> Host:
    """Return the host; ``folder`` is on the disk that results go to, whether or not it exists yet."""
    path = Path(folder).resolve()
    there = next(each for each in (path, *path.parents) if each.exists())
    return Host(
        processor=machine.host_name(),
        cores=usable_cores(),
        load=machine.load(),
        memory_bytes=machine.host_memory_bytes(),
        free_memory_bytes=machine.free_memory_bytes(),
        free_disk_bytes=float(shutil.disk_usage(there).free),
        governor=_GOVERNOR.read_text(encoding="utf-8").strip() if _GOVERNOR.exists() else "",
    )


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
