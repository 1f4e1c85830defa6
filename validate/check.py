"""``python -m validate check``: what this machine can measure, and whether it would be worth trusting."""

import argparse
import json
from dataclasses import asdict

import calc
from calc.cli.text import table
from validate.adapters import statuses
from validate.checks.accelerators import Accelerator, accelerators
from validate.checks.host import Host, host
from validate.checks.trials import WRONG, Trial, trials
from validate.checks.verdict import warnings_of

SCHEMA_VERSION = 1
NO_TORCH = "torch is not installed, nothing can be measured: pip install 'ullage[validate]'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = "example: python -m validate check --json; exit code 1 where a run would not be trusted"
    parser.add_argument(
        "--out", default=".", metavar="FOLDER", help="where results would go (its disk counts)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 0 where a run would be worth trusting now, else 1."""
    record = checked(args.out)
    print(json.dumps(record, indent=2, allow_nan=False) if args.json else as_text(record))
    return 0 if record["trustworthy"] else 1


def checked(folder: str = ".") -> dict:
    """Return everything that was found, as plain data."""
    here, torch = host(folder), _torch()
    devices = accelerators(torch, here) if torch else []
    threads = torch.get_num_threads() if torch else None
    tried = [trial for device in devices for trial in trials(torch, device.place)]
    against = warnings_of(here, devices, threads) if torch else [NO_TORCH]
    against += [f"{t.place}: {t.what} {t.name}: {t.reason}" for t in tried if t.reason.startswith(WRONG)]
    return {
        "schema_version": SCHEMA_VERSION,
        "trustworthy": not against,
        "warnings": against,
        "host": asdict(here) | {"threads": threads},
        "torch": _build(torch),
        "devices": [asdict(device) for device in devices],
        "trials": [asdict(trial) for trial in tried],
        "adapters": [status._asdict() for status in statuses()],
    }


def _torch():
    try:
        import torch
    except ImportError:
        return None
    return torch


def _build(torch) -> dict | None:
    if torch is None:
        return None
    return {"version": torch.__version__, "cuda": torch.version.cuda, "hip": torch.version.hip}


def as_text(record: dict) -> str:
    """Return the record for people."""
    parts = [_host_text(record), _device_table(record), _trial_table(record), _adapter_table(record)]
    return "\n\n".join([part for part in parts if part] + [_verdict_text(record)])


def _host_text(record: dict) -> str:
    at, build = Host(**{k: v for k, v in record["host"].items() if k != "threads"}), record["torch"]
    memory = f"{calc.format_bytes(at.free_memory_bytes)} of {calc.format_bytes(at.memory_bytes)} free"
    lines = [f"host   {at.processor}, {at.cores} cores, load {at.load:.2f}, {memory}"]
    lines.append(f"disk   {calc.format_bytes(at.free_disk_bytes)} free")
    if build is None:
        return "\n".join([*lines, f"torch  {NO_TORCH}"])
    with_ = (
        f"CUDA {build['cuda']}" if build["cuda"] else f"ROCm {build['hip']}" if build["hip"] else "CPU only"
    )
    return "\n".join([*lines, f"torch  {build['version']} ({with_}), {record['host']['threads']} threads"])


def _device_table(record: dict) -> str:
    rows = []
    for each in record["devices"]:
        at = Accelerator(**each)
        free = calc.format_bytes(at.free_bytes) if at.free_bytes else "-"
        total = calc.format_bytes(at.memory_bytes) if at.memory_bytes else "-"
        rows.append([at.place, at.name, at.spec or "-", at.processors or "-", free, total, _clock(at)])
    header = ["device", "name", "known as", "processors", "free", "memory", "state"]
    return table(header, rows, right=(3, 4, 5)) if rows else ""


def _clock(at: Accelerator) -> str:
    state = at.state or {}
    parts = []
    if "clocks.sm" in state and "clocks.max.sm" in state:
        parts.append(f"{state['clocks.sm']:.0f} of {state['clocks.max.sm']:.0f} MHz")
    parts += [f"{state[name]:.0f} {unit}" for name, unit in _UNITS.items() if name in state]
    return ", ".join(parts) or "-"


_UNITS = {"temperature.gpu": "degrees", "power.draw": "W", "utilization.gpu": "% busy"}


def _trial_table(record: dict) -> str:
    tried = [Trial(**each) for each in record["trials"]]
    rows = [[t.place, t.what, t.name.lower(), t.reason or "works"] for t in tried]
    return table(["device", "tried", "", "result"], rows) if rows else ""


def _adapter_table(record: dict) -> str:
    rows = [[each["name"], each["title"], each["reason"] or "available"] for each in record["adapters"]]
    return table(["adapter", "what", "result"], rows)


def _verdict_text(record: dict) -> str:
    if record["trustworthy"]:
        return "A run would be worth trusting now."
    return "\n".join(["A run would not be worth trusting now:", *(f"  - {w}" for w in record["warnings"])])
