"""Kernels of other packages, each with the arguments of a kernel that a probe times.

One file an adapter, with three names:

``TITLE``
    what it is, in a few words;
``available()``
    None where it can run here, else the reason why not in one line;
``kernels()``
    kernel that it replaces, as a probe's ``replaces`` names it -> its own callable.

And, where they are needed:

``KINDS``
    kinds of device that it runs on, ``("cuda", "rocm")`` where it does not say;
``OVERWRITES``
    names of kernels that overwrite their inputs: those are checked on copies;
``takes(kernel, sizes)``
    whether a kernel can run a case of these sizes;
``prepared(kernel, args)``, ``plain(kernel, args)``
    inputs as the kernel wants them (quantised weights), and back for the reference.

Nothing is imported before it is asked for: this package needs neither torch nor any of them.
To add one: write the file, add its name to ``ADAPTERS``.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import calc

#: names of the adapters: files of this folder
ADAPTERS = ("triton_experts", "triton_norm", "liger", "flashinfer", "flash_attention", "torchao")


class Status(NamedTuple):
    """One adapter on this machine: ``reason`` is None where it can run."""

    name: str
    title: str
    reason: str | None


def adapter(name: str) -> ModuleType:
    """Return an adapter by name.

    Raises
    ------
    SpecError
        If there is none.

    Examples
    --------
    >>> adapter("liger").TITLE
    'fused norm, rope and SwiGLU of liger-kernel'
    """
    if name not in ADAPTERS:
        raise calc.unknown_name("adapter", name, ADAPTERS)
    return import_module(f"validate.adapters.{name}")


def statuses() -> list[Status]:
    """Return every adapter, and why those that cannot run here cannot."""
    found = []
    for name in ADAPTERS:
        module = adapter(name)
        found.append(Status(name, module.TITLE, module.available()))
    return found


def kernels(name: str) -> Mapping[str, Callable]:
    """Return the kernels of an adapter.

    Raises
    ------
    SpecError
        If it cannot run here; the message says why.
    """
    module = adapter(name)
    if reason := module.available():
        raise calc.SpecError(f"adapter {name}: {reason}")
    return module.kernels()
