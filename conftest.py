"""What is collected for its examples: code that needs torch only where it is installed."""

from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent


def _imports_torch(path: Path) -> bool:
    """Whether a file imports torch as it is loaded, or in an example."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return any(line.startswith(("import torch", "from torch", "    >>> import torch")) for line in lines)


#: kernels have no examples, and must not be imported before a test says whether they are interpreted
collect_ignore = ["validate/adapters/triton_kernels.py"]
if not find_spec("torch"):
    files = (ROOT / "validate").rglob("*.py")
    collect_ignore += [str(path.relative_to(ROOT)) for path in files if _imports_torch(path)]
