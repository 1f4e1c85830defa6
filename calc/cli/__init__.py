"""The command line: ``ullage plan | estimate | explain | list | show | serve | validate | calibrate``."""

from calc.cli.commands import main

__all__ = ["main"]
