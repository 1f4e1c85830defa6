"""The validator's command line: ``python -m validate COMMAND``; one module per command.

Exit codes: 0 scored, 2 wrong usage or input, or nothing to score.
"""

import argparse
import os
import sys
from importlib import import_module

import calc

#: command -> what it does, and the module with ``add_arguments(parser)`` and ``run(args)``; None comes later
COMMANDS = {
    "memory": ("predictions beside an engine's start-up logs or fit labels", "validate.memory"),
    "score": ("predictions beside measured end-to-end runs", "validate.score"),
    "import": ("result files of benchmark tools as rows for score", "validate.importing"),
    "calibrate": ("fit an engine's overheads to result files", "validate.calibrate"),
    "kernels": ("predictions beside measured kernel latencies", "validate.kernels"),
    "run": ("check and measure the kernels of this machine, fit a calibration", "validate.run"),
    "fit": ("fit calibrations of devices to measured kernels", "validate.fit"),
    "defaults": ("fit general efficiencies to all measured kernels together", "validate.defaults"),
    "overheads": ("fit what engines add to their kernels to measured runs", "validate.overheads"),
    "accuracy": ("write docs/accuracy.md from calibrations and measured kernels", "validate.accuracy"),
    "report": ("describe the profile of a machine: errors, acceptance, trust", "validate.report"),
    "compare": ("times of two profiles or calibrations over the same operations", "validate.compare"),
    "check": ("check this machine before a run", "validate.check"),
    "collective": ("time exchanges between the devices of this machine", "validate.collective"),
}


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are one line on stderr with exit code 2."""

    def error(self, message: str):
        print(f"validate: {message}", file=sys.stderr)
        raise SystemExit(2)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    Examples
    --------
    >>> main([])
    usage: python -m validate COMMAND ...
    ...
    0
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        return _refused(str(calc.unknown_name("command", name, COMMANDS)))
    help_text, home = COMMANDS[name]
    if home is None:
        return _refused(f"{name} is not part of this release yet")
    command = import_module(home)
    parser = _Parser(prog=f"python -m validate {name}", description=help_text)
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args(rest))
    except calc.SpecError as error:
        return _refused(" ".join(str(error).split()))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = ["usage: python -m validate COMMAND ...", "", "commands:"]
    for name, (help_text, home) in COMMANDS.items():
        later = "" if home else " (not part of this release yet)"
        lines.append(f"  {name:<{width}}  {help_text}{later}")
    return "\n".join([*lines, "", "python -m validate COMMAND --help says more."])


def _refused(message: str) -> int:
    print(f"validate: {message}", file=sys.stderr)
    return 2
