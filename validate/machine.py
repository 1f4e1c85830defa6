"""The machine: its fingerprint, software, load and clocks, which are read and never set."""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import calc
from validate.profile import Fingerprint


def device_facts(torch, bench) -> dict:
    """Return what torch knows of the device, as plain data (runs in the worker)."""
    kind = bench.kind
    facts = {"kind": kind, "torch": torch.__version__, "name": host_name(), "driver": ""}
    if kind in ("cuda", "rocm"):
        about = torch.cuda.get_device_properties(bench.device)
        facts |= {
            "name": about.name, "processors": about.multi_processor_count, "memory_bytes": about.total_memory,
            "cache_bytes": getattr(about, "L2_cache_size", 0), "driver": _driver(),
            "toolkit": torch.version.hip or torch.version.cuda or "",
        }  # fmt: skip
    elif kind == "mps":
        facts |= {"processors": 1, "memory_bytes": host_memory_bytes(), "cache_bytes": 0}
    else:
        threads = torch.get_num_threads()
        facts |= {"processors": threads, "memory_bytes": host_memory_bytes(), "cache_bytes": cache_bytes()}
    return {**facts, "threads": torch.get_num_threads(), "pool_bytes": bench.pool_bytes}


def pool_size(torch, device: str) -> float:
    """Return the bytes of inputs to rotate through: past the last-level cache, a small part of memory."""
    if device.startswith("cuda"):
        return min(torch.cuda.mem_get_info()[0] / 16, 4e9)
    return min(free_memory_bytes() / 24, max(2 * cache_bytes(), 2.5e8))


def fingerprint(facts: Mapping) -> Fingerprint:
    """Return the fingerprint of a machine from what the worker said."""
    return Fingerprint(
        kind=facts["kind"], name=facts["name"], processors=int(facts["processors"]),
        memory_bytes=float(facts["memory_bytes"]), cache_bytes=float(facts["cache_bytes"]),
        threads=int(facts["threads"]), host=host_name(), driver=facts.get("driver", ""),
    )  # fmt: skip


def versions(facts: Mapping) -> dict[str, str]:
    """Return the versions of what ran."""
    found = {"torch": facts["torch"], "python": platform.python_version(), "ullage": calc.__version__}
    if facts.get("toolkit"):
        found["rocm" if facts["kind"] == "rocm" else "cuda"] = facts["toolkit"]
    return found


def run_id(machine: Fingerprint, torch_version: str) -> str:
    """Return the name of a machine's files: device, and a hash of what changes its times.

    Examples
    --------
    >>> run_id(Fingerprint("cuda", "NVIDIA H200", 132, 150e9, 5e7, 8), "2.11.0")[:12]
    'nvidia-h200-'
    """
    parts = (
        machine.kind,
        machine.name,
        machine.processors,
        machine.threads,
        round(machine.memory_bytes / 1e9),
    )
    minor = ".".join(torch_version.split(".")[:2])
    digest = hashlib.sha256(repr((*parts, machine.host, minor)).encode()).hexdigest()[:8]
    return f"{slug(machine.name)}-{digest}"


def slug(name: str) -> str:
    """Return a name as an id.

    Examples
    --------
    >>> slug("Intel(R) Xeon(R) Processor @ 2.60GHz")
    'intel-xeon-processor-2.60ghz'
    """
    plain = re.sub(r"\((r|tm)\)", "", name.lower())
    return re.sub(r"[^a-z0-9.]+", "-", plain).strip("-.")[:48] or "machine"


def shipped_device(name: str) -> str:
    """Return the id of the shipped device of a name; empty where there is none."""
    for candidate in (name, name.lower().replace(" ", "-")):
        try:
            return calc.load_device(candidate).id
        except calc.SpecError:
            continue
    return ""


def host_name() -> str:
    """Return the name of the host's processor."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine() or "cpu"


def vendor(name: str) -> str:
    """Return the maker that a processor's name names.

    Examples
    --------
    >>> vendor("AMD EPYC 9654"), vendor("Apple M2"), vendor("Neoverse")
    ('amd', 'apple', 'unknown')
    """
    known = ("nvidia", "amd", "intel", "apple", "ampere", "qualcomm")
    return next((maker for maker in known if maker in name.lower()), "unknown")


def host_memory_bytes() -> float:
    """Return the memory of the host, or the limit of this process's group where it is less. [byte]"""
    limits = [_meminfo("MemTotal")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(path)
        if text.isdigit():
            limits.append(float(text))
    found = [limit for limit in limits if limit > 0]
    return min(found) if found else float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def free_memory_bytes() -> float:
    """Return the memory of the host that is available. [byte]"""
    return _meminfo("MemAvailable") or host_memory_bytes() / 2


def _meminfo(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", _text("/proc/meminfo"))
    return 1024.0 * int(found[1]) if found else 0.0


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def cache_bytes() -> float:
    """Return the size of the host's last-level cache, 0 where it does not say. [byte]"""
    sizes = [_text(str(path)) for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    numbers = [float(size[:-1]) * units[size[-1]] for size in sizes if size and size[-1] in units]
    return max(numbers, default=0.0)


def core_cache_bytes() -> float:
    """Return the size of the second-level cache of a core, 2 MiB where the host does not say. [byte]"""
    size = _text("/sys/devices/system/cpu/cpu0/cache/index2/size")
    return float(size[:-1]) * 2**10 if size.endswith("K") else 2.0**21


def load() -> float:
    """Return the load average of the last minute, 0 where the system has none."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def default_threads() -> int:
    """Return the host threads to measure with: one fewer than there are cores, so that one is left."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return max(1, cores - 1)


def clocks() -> str:
    """Return clocks, temperature and power as the driver or kernel tells them; empty where it does not."""
    query = [
        "nvidia-smi",
        "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw",
        "--format=csv,noheader",
    ]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
        return found.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        speeds = re.findall(r"cpu MHz\s*:\s*([\d.]+)", _text("/proc/cpuinfo"))
        return f"{max(map(float, speeds)):.0f} MHz" if speeds else ""


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
        return found.stdout.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return ""
