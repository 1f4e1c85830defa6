"""What is collected for its examples: modules that need torch only where it is installed."""

from importlib.util import find_spec

#: kernels have no examples, and must not be imported before a test says whether they are interpreted
collect_ignore_glob = ["validate/adapters/triton_kernels.py"]
if not find_spec("torch"):
    collect_ignore_glob.append("validate/blocks/*")
