"""Whether a run would be worth trusting now: what speaks against it, one line each."""

from collections.abc import Sequence

import calc
from validate.checks.accelerators import Accelerator
from validate.checks.host import Host

#: load above this share of the cores makes times depend on what else runs
LOAD_SHARE = 0.3
LEAST_DISK_BYTES, LEAST_MEMORY_SHARE = 1e9, 0.2
#: a device above these is used by somebody, or too hot to hold its clock
BUSY_PCT, MOST_CELSIUS, LEAST_FREE_SHARE = 5.0, 85.0, 0.9


def warnings_of(host: Host, devices: Sequence[Accelerator], threads: int | None) -> list[str]:
    """Return what speaks against a run now; none means that it would be worth trusting."""
    found = [*_host(host), *[line for device in devices for line in _device(device)]]
    only_cpu = all(device.place == "cpu" for device in devices)
    if only_cpu and threads and host.cores > 1 and threads >= host.cores:
        found.append(
            f"{threads} threads on {host.cores} cores: a thread that waits for a core slows every call; "
            "leave one free (run --threads)"
        )
    return found


def _host(host: Host) -> list[str]:
    found = []
    if host.load > LOAD_SHARE * host.cores:
        now = f"load {host.load:.1f} on {host.cores} cores"
        found.append(f"{now}: above {LOAD_SHARE:g} of them; wait, or stop what else runs")
    if host.free_disk_bytes < LEAST_DISK_BYTES:
        found.append(f"{calc.format_bytes(host.free_disk_bytes)} of disk are free; 1 GB is wanted")
    if host.free_memory_bytes < LEAST_MEMORY_SHARE * host.memory_bytes:
        free, total = (calc.format_bytes(each) for each in (host.free_memory_bytes, host.memory_bytes))
        found.append(f"{free} of {total} of memory are free; a fifth is wanted")
    if host.governor == "powersave":
        found.append("the processor's governor is powersave: clocks follow the load")
    return found


def _device(device: Accelerator) -> list[str]:
    if device.place == "cpu":
        return []
    found, state = [], device.state or {}
    if device.memory_bytes and device.free_bytes < LEAST_FREE_SHARE * device.memory_bytes:
        used = calc.format_bytes(device.memory_bytes - device.free_bytes)
        found.append(f"{device.place}: {used} are taken by other programs")
    if state.get("utilization.gpu", 0) > BUSY_PCT:
        found.append(f"{device.place}: {state['utilization.gpu']:.0f} % busy with other programs")
    if state.get("temperature.gpu", 0) > MOST_CELSIUS:
        found.append(
            f"{device.place}: {state['temperature.gpu']:.0f} degrees; clocks fall above {MOST_CELSIUS:.0f}"
        )
    return found
