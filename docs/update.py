"""Refresh the terminal sessions in README.md and docs/*.md: every figure there is real output.

``python docs/update.py`` runs each ``$ command`` of the ```console blocks and writes what it
printed, and writes the table of docs/calibrations.md from the files in calibrations/devices;
``--check`` changes nothing and exits with 1 when something is out of date.
"""

import argparse
import difflib
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
KINDS = {
    "gemm": "matrix products",
    "prefill_attention": "prefill attention",
    "decode_attention": "decode attention",
    "moe": "experts",
    "allreduce": "collectives",
}
TABLE = re.compile(r"(<!-- calibrations -->)(.*?)(<!-- end -->)", re.DOTALL)
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def pages() -> list[Path]:
    """Return the pages that may hold sessions."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def refreshed(text: str) -> str:
    """Return a page with each session replayed and each table written anew."""
    text = TABLE.sub(lambda match: f"{match[1]}\n{calibration_table()}{match[3]}", text)
    return BLOCK.sub(lambda match: f"```console\n{_session(match[1])}```", text)


def calibration_table() -> str:
    """Return the table of devices with the calibration, the labels and the evidence used for each."""
    import calc
    from calc.timing.calibration import calibration_for

    lines = ["| device | calibration | " + " | ".join(KINDS.values()) + " | evidence |"]
    lines.append("|---" * (len(KINDS) + 3) + "|")
    for name in calc.device_ids():
        calibration = calibration_for(calc.load_device(name))
        fits = [calibration.fit(kind, "bf16") for kind in KINDS]
        labels = " | ".join(fit.trust for fit in fits)
        lines.append(f"| {name} | {calibration.id} | {labels} | {_evidence(calibration, fits[:3])} |")
    return "\n".join(lines) + "\n"


def _evidence(calibration, fits) -> str:
    if calibration.device:
        return "measured"
    notes = dict.fromkeys(note for fit in fits for note in fit.note.split("; ") if note)
    return "; ".join(notes).replace("|", "/") or calibration.note


def _session(block: str) -> str:
    commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
    return "\n".join(f"$ {command}\n{_output(command)}" for command in commands)


def _output(command: str) -> str:
    command, _, exit_note = command.partition("; echo ")
    words = shlex.split(command)
    if words[0] != "ullage":
        raise SystemExit(f"only ullage commands are replayed, found: {command}")
    done = subprocess.run(
        [sys.executable, "-m", "calc", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).rstrip("\n").splitlines()
    if exit_note:
        lines.append(str(done.returncode))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main() -> int:
    """Refresh or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    args, stale = parser.parse_args(), 0
    for page in pages():
        old = page.read_text(encoding="utf-8")
        new = refreshed(old)
        if new == old:
            continue
        stale += 1
        if args.check:
            print("".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), str(page), "now")))
        else:
            page.write_text(new, encoding="utf-8")
            print(f"updated {page.relative_to(ROOT)}")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
