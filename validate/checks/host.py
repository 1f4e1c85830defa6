"""The host as it is now: processor, load, memory, disk. Unknown figures are None."""

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Host:
    """The machine around the devices, at the moment of asking."""

    processor: str
    cores: int
    load: float
    memory_bytes: float | None
    free_memory_bytes: float | None
    free_disk_bytes: float
    governor: str = ""


def host(folder: str = ".") -> Host:
    """Return the host; ``folder`` is on the disk that results go to."""
    memory = memory_of(_text("/proc/meminfo"))
    return Host(
        processor=processor_of(_text("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        cores=usable_cores(),
        load=os.getloadavg()[0],
        memory_bytes=memory.get("MemTotal"),
        free_memory_bytes=memory.get("MemAvailable"),
        free_disk_bytes=float(shutil.disk_usage(_existing(folder)).free),
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
    )


def usable_cores() -> int:
    """Return the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_of(text: str) -> Mapping[str, float]:
    """Return the figures of ``/proc/meminfo`` in bytes.

    Examples
    --------
    >>> memory_of("MemTotal:  16 kB")["MemTotal"]
    16384.0
    """
    rows = (line.split() for line in text.splitlines())
    return {row[0].rstrip(":"): 1024 * float(row[1]) for row in rows if len(row) == 3 and row[2] == "kB"}


def processor_of(text: str) -> str:
    """Return the processor's name from ``/proc/cpuinfo``, empty where it has none.

    Examples
    --------
    >>> processor_of("processor : 0" + chr(10) + "model name : Example 9000")
    'Example 9000'
    """
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _existing(folder: str) -> Path:
    path = Path(folder).resolve()
    return next(each for each in (path, *path.parents) if each.exists())


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
