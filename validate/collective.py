"""``torchrun --nproc-per-node N -m validate collective``: exchanges between the devices of a machine."""

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path

import calc
from calc.cli.text import table
from calc.timing.collectives import link_bytes_per_s
from validate.collectives.exchanges import EXCHANGES, payloads
from validate.collectives.fits import by_kind, calibration, calibration_text
from validate.collectives.group import BACKENDS, LAUNCH, Group
from validate.collectives.measure import Case, checked, measured, point_of
from validate.machine import shipped_device
from validate.plan import budget_seconds
from validate.profile import POINTS_SUFFIX, PointsFile, write_whole

#: largest payload where none is asked for [byte]
LARGEST = {"gloo": 64e6, "nccl": 256e6}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = f"example: {LAUNCH} --backend gloo --out profiles"
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="default: nccl where it works")
    parser.add_argument("--ops", default=",".join(EXCHANGES), help="kinds, with commas (default: all)")
    parser.add_argument("--sizes", type=int, default=16, help="payloads of each kind (default 16)")
    parser.add_argument("--smallest", default="256B", help="smallest payload (default 256B)")
    parser.add_argument("--largest", help="largest payload (default 64MB with gloo, 256MB with nccl)")
    parser.add_argument("--rounds", type=int, default=7, help="visits of each payload (default 7)")
    parser.add_argument("--budget", default="2m", help="time for all of it (default 2m)")
    parser.add_argument("--device", help="device whose link it is (default: the one that torch names)")
    parser.add_argument("--out", default="profiles", metavar="FOLDER", help="where both files are written")


def run(args: argparse.Namespace) -> int:
    """Check, time and fit; rank 0 prints and writes."""
    kinds, budget_s = _kinds(args.ops), budget_seconds(args.budget)
    group = Group(args.backend)
    try:
        cases = [checked(case, group) for case in _cases(kinds, args, group)]
        start = time.perf_counter()
        rounds = sum(1 for _ in measured(cases, group, args.rounds, budget_s))
        if group.leads:
            wall_s = time.perf_counter() - start
            print(f"{group.world} ranks, {group.backend}, {rounds} rounds in {wall_s:.0f} s")
            _report(cases, group, args)
        return 1 if any(case.flag for case in cases) else 0
    finally:
        group.close()


def _kinds(names: str) -> list[str]:
    for name in names.split(","):
        if name not in EXCHANGES:
            raise calc.unknown_name("op", name, EXCHANGES)
    return names.split(",")


def _cases(kinds, args, group: Group) -> list[Case]:
    low = calc.parse_bytes(args.smallest, "smallest")
    high = calc.parse_bytes(args.largest, "largest") if args.largest else LARGEST[group.backend]
    if not 2 * group.world <= low <= high:
        raise calc.SpecError(
            f"--smallest {args.smallest}: allowed are {2 * group.world} B to the largest payload"
        )
    sizes = payloads(low, high, args.sizes, group.world)
    return [Case(EXCHANGES[kind], elements) for kind in kinds for elements in sizes]


def _report(cases, group: Group, args) -> None:
    points, now = [point_of(case, group) for case in cases], datetime.now(UTC)
    software = f"torch {group.torch.__version__}, {group.backend}"
    out, stem = Path(args.out), f"collective-{group.backend}-{group.world}-{now:%Y%m%dT%H%M%S}"
    file = PointsFile(out / f"{stem}{POINTS_SUFFIX}")
    for point in points:
        file.append(point)
    for case in cases:
        if case.flag:
            print(
                f"{case.exchange.kind} of {2 * case.elements} B is {case.flag} and was not timed {case.error}"
            )
    print(f"wrote {file.path}")
    if by_kind(points):
        data = calibration(points, _device(args.device, group), now.date().isoformat(), software)
        print(_fit_table(data, points))
        write_whole(out / f"{stem}.yaml", calibration_text(data))
        print(f"wrote {out / f'{stem}.yaml'}")


def _device(name: str | None, group: Group):
    """Return the device that was named or that torch names, None where it or its link is not known."""
    if name:
        return calc.load_device(name)
    if group.place.type != "cuda":
        return None
    try:
        device = calc.load_device(shipped_device(group.torch.cuda.get_device_name(group.place)))
        link_bytes_per_s(device, group.world)
    except calc.SpecError:
        return None
    return device


def _fit_table(data: dict, points) -> str:
    rows = []
    for kind, members in by_kind(points).items():
        error = data["ops"].get(kind, {}).get("bf16", {}).get("error")
        smallest, largest = members[0], members[-1]
        rows.append([
            kind, len(members), calc.format_seconds(smallest.seconds_min),
            calc.format_seconds(largest.seconds_min), f"{largest.bytes / largest.seconds_min / 1e9:.2f} GB/s",
            f"{error['cv_median_pct']:.1f} %" if error else "too few to fit",
        ])  # fmt: skip
    header = ["op", "n", "smallest", "largest", "payload / time", "left out: median"]
    return table(header, rows, right=(1, 2, 3, 4, 5))
