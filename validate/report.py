"""``python -m validate report PROFILE``: errors, acceptance and machine of a profile, in words or a page."""

import argparse
import json
from pathlib import Path

import calc
from calc.specs.strict_yaml import read_yaml
from calc.timing.calibration import load_calibration
from validate.profile import Profile, read_points, read_profile, write_whole
from validate.reports.html import as_html
from validate.reports.predicted import predictions
from validate.reports.record import calibration_record, profile_record
from validate.reports.text import as_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.epilog = "example: python -m validate report profiles/nvidia-h200-3f9a12bc.yaml --html report.html"
    parser.add_argument("profile", metavar="PROFILE", help="file of a run, or a calibration's id or file")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--html", metavar="FILE", help="write a page with plots that needs no network")


def run(args: argparse.Namespace) -> int:
    """Print the report, or write the page."""
    profile = profile_or_none(args.profile)
    if profile is None and args.html:
        raise calc.SpecError(f"{args.profile}: --html needs a profile of python -m validate run, with points")
    points = _points(profile) if profile else []
    record = (
        profile_record(profile, points) if profile else calibration_record(load_calibration(args.profile))
    )
    if args.html:
        write_whole(Path(args.html), as_html(record, predictions(profile, points), profile.acceptance))
        print(f"wrote {args.html}")
        return 0
    print(json.dumps(record, indent=2, allow_nan=False) if args.json else as_text(record))
    return 0


def profile_or_none(name: str) -> Profile | None:
    """Return the profile in a file; None for a calibration that no run wrote.

    Raises
    ------
    SpecError
        If the file cannot be read or is not valid.
    """
    if not name.endswith((".yaml", ".yml")):
        return None
    return read_profile(name) if read_yaml(Path(name)).get("machine") else None


def _points(profile: Profile):
    return read_points(profile.points_path) if profile.points and profile.points_path.exists() else []
