"""The machine as a device: measured memory, bandwidth and peaks, so that calc can predict on it."""

from collections.abc import Iterable, Mapping

from calc.specs.device import Device, device_of
from calc.specs.schema import check_file
from validate.machine import vendor
from validate.profile import Fingerprint, Point

#: dtypes whose best product is a peak; the largest arrays that count as memory [byte]
PEAKS, MEMORY = ("fp32", "bf16", "fp16", "fp8", "int8"), ("read", "copy", "triad")


def ceilings_of(points: Iterable[Point]) -> dict[str, float]:
    """Return the best rates that were measured: memory passes of large arrays, products by dtype."""
    found: dict[str, float] = {}
    points = [point for point in points if point.plain]
    largest = max((point.bytes for point in points if point.probe in MEMORY), default=0.0)
    for point in points:
        if point.probe in MEMORY and point.bytes >= largest / 8:
            name, rate = f"{point.probe}_bytes_per_s", point.bytes / point.seconds_min
        elif point.probe == "gemm":
            name, rate = f"gemm_{point.dtype}_flops_per_s", point.flops / point.seconds_min
        else:
            continue
        found[name] = max(found.get(name, 0.0), rate)
    return found


def own_device(device_id: str, machine: Fingerprint, ceilings: Mapping[str, float], date: str) -> dict:
    """Return the device file of a machine; every figure is measured or reported by it."""
    rates = [ceilings[f"{name}_bytes_per_s"] for name in MEMORY if f"{name}_bytes_per_s" in ceilings]
    peaks = {
        dtype: ceilings[f"gemm_{dtype}_flops_per_s"]
        for dtype in PEAKS
        if f"gemm_{dtype}_flops_per_s" in ceilings
    }

    def fact(value: float, unit: str, note: str) -> dict:
        return {"value": value, "unit": unit, "kind": "measured", "source": "run", "date": date, "note": note}

    data = {
        "id": device_id,
        "name": machine.name,
        "vendor": vendor(machine.name + machine.host),
        "architecture": machine.kind if machine.kind == "cpu" else "unknown",
        "status": "available",
        "sources": {"run": {"title": "python -m validate run on this machine", "date": date}},
        "memory": {
            "capacity": fact(machine.memory_bytes / 1e9, "GB", "what the machine reports"),
            "bandwidth": fact(max(rates) / 1e9, "GB/s", "best of read, copy and triad"),
        },
        "peaks": {d: fact(v / 1e12, "TFLOP/s", "best matrix product") for d, v in peaks.items()},
        "processors": fact(machine.processors, "count", f"{machine.threads} host threads"),
        "link": {"name": "none", "topology": "none", "domain": 1},
        "devices_per_node": 1,
    }
    if machine.cache_bytes:
        data["cache"] = fact(machine.cache_bytes / 2**20, "MiB", "last-level cache that it reports")
    return data


def device_from(data: Mapping, where: str = "own device") -> Device:
    """Return the Device of such a file."""
    check_file("device", dict(data), where)
    return device_of(data, where)
