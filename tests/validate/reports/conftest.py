"""A profile as a run leaves it behind, made from a shipped calibration and times it would predict."""

from dataclasses import replace

import numpy as np
import pytest

import calc
from calc.timing.calibration import calibration_for, load_calibration
from calc.timing.step_time import timed_op
from validate.collectives.exchanges import payloads
from validate.collectives.fits import collective_op
from validate.profile import (
    Accepted,
    Fingerprint,
    Point,
    PointsFile,
    Profile,
    Protocol,
    Skipped,
    write_profile,
)
from validate.profile_fit import op_of

DEVICE = "h200-sxm"
OPS = {"allreduce": "bf16", "alltoall": "bf16", "gemm": "bf16"}


def machine(**changed) -> Fingerprint:
    known = {
        "kind": "cuda",
        "name": "NVIDIA H200",
        "processors": 132,
        "memory_bytes": 150e9,
        "cache_bytes": 6e7,
    }
    return Fingerprint(**(known | {"threads": 8, "host": "Example 9000", "driver": "580.1"} | changed))


def protocol(**changed) -> Protocol:
    known = Protocol("min_of_block_medians", 300.0, 284.0, 7, "graph", True, 1.2, 0, 0.3, 0.4)
    return replace(known, **changed)


def step(phase: str, measured: float, predicted: float) -> Accepted:
    return Accepted("dense", phase, 1, 1, 128, measured, predicted, 0.8 * predicted, 1.2 * predicted,
                    0.5 * measured, "calibrated", measured)  # fmt: skip


@pytest.fixture
def points():
    """Points 10 % slower than predicted, one wrong, one that never ran."""
    calibration, found = calibration_for(calc.load_device(DEVICE)), []
    for kind in ("allreduce", "alltoall"):
        bare = [
            Point(
                case=f"{kind} <{n}>", probe="collective", op=kind, format="bf16", kernel="nccl", dtype="bf16",
                sizes={"world": 2, "elements": n}, n=5, when="now",
            )
            for n in payloads(256, 64e6, 8, 2)
        ]  # fmt: skip
        seconds = timed_op(collective_op(bare), calc.load_device(DEVICE), calibration).seconds
        found += [replace(p, seconds_min=1.1 * float(s)) for p, s in zip(bare, seconds, strict=True)]
    bare = [
        Point(
            case=f"gemm bf16 m={m}", probe="gemm", op="gemm", format="bf16", kernel="linear", dtype="bf16",
            sizes={"m": m, "n": 4096, "k": 4096}, n=5, when="now",
        )
        for m in (1, 16, 256, 4096)
    ]  # fmt: skip
    seconds = timed_op(op_of(bare), calc.load_device(DEVICE), calibration, cold=True).seconds
    found += [replace(p, seconds_min=1.1 * float(s)) for p, s in zip(bare, seconds, strict=True)]
    wrong = replace(found[0], case="wrong one", flag="wrong", seconds_min=0.0)
    return [*found, wrong, replace(wrong, case="too late", flag="no-time")]


@pytest.fixture
def profile(tmp_path, points):
    """Return a function that writes a profile and its points and returns the profile's path."""

    def write(name="nvidia-h200-0a1b2c3d", with_points=True, scale=1.0, **changed):
        ops = {}
        for kind, fmt in OPS.items():
            fit = load_calibration(DEVICE).ops[kind][fmt]
            parameters = dict(fit.parameters) | {"fixed_s": scale * fit.parameters["fixed_s"]}
            row = {"form": fit.form.name, "kernel": fit.kernel, "parameters": parameters}
            row |= {"error": dict(fit.error), "range": {k: list(v) for k, v in fit.range.items()}}
            ops[kind] = {fmt: row | {"before": {"roofline_median_pct": 61.0, "default_median_pct": 12.5}}}
        known = {
            "id": name, "name": "NVIDIA H200, measured kernels", "device": DEVICE, "date": "2026-11-22",
            "machine": machine(), "versions": {"torch": "2.11.0"}, "protocol": protocol(),
            "ceilings": {"copy_bytes_per_s": 4.3e12, "gemm_bf16_flops_per_s": 7.9e14}, "ops": ops,
            "acceptance": (step("decode", 1e-3, 1.1e-3), step("prefill", 2e-3, 1.4e-3)),
            "skipped": (Skipped("sdpa", "No viable backend <cudnn>"),), "points": f"{name}.points.csv",
        }  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        write_profile(Profile(**(known | changed)), path)
        if with_points:
            file = PointsFile(tmp_path / f"{name}.points.csv")
            for point in points:
                file.append(point)
        return str(path)

    load_calibration.cache_clear()
    yield write
    load_calibration.cache_clear()


@pytest.fixture
def medians():
    """Return the median of absolute errors in percent."""
    return lambda rows: float(np.median([abs(row.error_pct) for row in rows]))
