"""Modules that need torch or triton are left out of the examples where these are not installed."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["validate/blocks/*"]
if not find_spec("triton"):
    collect_ignore_glob.append("validate/adapters/triton_kernels.py")
