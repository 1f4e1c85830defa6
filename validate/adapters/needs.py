"""What an adapter needs before it can run: packages, an accelerator, a generation of it."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec


def missing(package: str, pip_name: str = "", capability: tuple[int, int] = (0, 0)) -> str | None:
    """Return in one line why kernels of a package cannot run here, None where they can.

    Parameters
    ----------
    package, pip_name : str
        What is imported, and what pip calls it where that differs.
    capability : tuple
        Least compute capability of an NVIDIA device.

    Examples
    --------
    >>> missing("no_such_package")
    'no_such_package is not installed: pip install no_such_package'
    """
    for name, pip in ((package, pip_name or package), ("torch", "'ullage[validate]'")):
        if find_spec(name) is None:
            return f"{name} is not installed: pip install {pip}"
    return no_accelerator(capability) or import_error(package)


def no_accelerator(capability: tuple[int, int] = (0, 0)) -> str | None:
    """Return why there is no accelerator for kernels, None where there is one."""
    import torch

    if not torch.cuda.is_available():
        return "no CUDA or ROCm device"
    if torch.version.hip is None and torch.cuda.get_device_capability() < capability:
        major, minor = torch.cuda.get_device_capability()
        return f"compute capability {major}.{minor}; needs {capability[0]}.{capability[1]}"
    return None


def import_error(package: str, names: Sequence[str] = ()) -> str | None:
    """Return why a package that is there does not load, or lacks a name; None where it does.

    Examples
    --------
    >>> import_error("math", ["no_such_function"])
    'math has no no_such_function: another version is needed'
    """
    try:
        module = import_module(package)
    except Exception as error:  # a compiled package may raise anything where versions differ
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"{package} does not load: {first}"
    absent = [name for name in names if not hasattr(module, name)]
    return f"{package} has no {absent[0]}: another version is needed" if absent else None


def interprets_triton() -> bool:
    """Whether Triton runs its kernels on the host, element by element: for tests, never for times."""
    return os.environ.get("TRITON_INTERPRET") == "1"
