"""Ullage: does a model fit, how fast does it serve, what does it cost - from first principles.

Public names are loaded when first used, so that ``import calc`` itself costs nothing.

Examples
--------
>>> import calc
>>> e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4, weight_dtype="fp8"))
>>> e.fits
True
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "calc.specs.errors": ("SpecError", "unknown_name"),
    "calc.specs.device": ("Device", "load_device", "device_ids"),
    "calc.specs.model": ("Model",),
    "calc.specs.model_files": ("load_model", "model_ids"),
    "calc.specs.engine": ("load_engine", "engine_ids"),
    "calc.specs.quantization": ("WEIGHT_FORMATS", "KV_BYTES"),
    "calc.specs.units": (
        "parse_tokens", "parse_bytes", "parse_seconds", "format_bytes", "format_seconds", "significant",
    ),
    "calc.specs.workload": ("Workload",),
    "calc.specs.deployment": ("Deployment",),
    "calc.work.memory": ("kv_cache_bytes", "cache_bytes_per_token"),
    "calc.work.parameters": ("parameter_counts", "total_parameters", "active_parameters"),
    "calc.timing.roofline": ("roofline_time_s", "op_time_s"),
    "calc.timing.calibration": ("load_calibration",),
    "calc.economics.prices": ("all_prices", "device_price"),
    "calc.economics.cost": ("usd_per_mtok",),
    "calc.estimate": ("Estimate", "SLO", "estimate"),
    "calc.planning.search": ("plan", "Plan"),
    "calc.planning.launch": ("launch_command",),
    "calc.explain": ("explain", "Explanation"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME_OF), "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from calc.economics.cost import usd_per_mtok
    from calc.economics.prices import all_prices, device_price
    from calc.estimate import SLO, Estimate, estimate
    from calc.explain import Explanation, explain
    from calc.planning.launch import launch_command
    from calc.planning.search import Plan, plan
    from calc.specs.deployment import Deployment
    from calc.specs.device import Device, device_ids, load_device
    from calc.specs.engine import engine_ids, load_engine
    from calc.specs.errors import SpecError, unknown_name
    from calc.specs.model import Model
    from calc.specs.model_files import load_model, model_ids
    from calc.specs.quantization import KV_BYTES, WEIGHT_FORMATS
    from calc.specs.units import (
        format_bytes,
        format_seconds,
        parse_bytes,
        parse_seconds,
        parse_tokens,
        significant,
    )
    from calc.specs.workload import Workload
    from calc.timing.calibration import load_calibration
    from calc.timing.roofline import op_time_s, roofline_time_s
    from calc.work.memory import cache_bytes_per_token, kv_cache_bytes
    from calc.work.parameters import active_parameters, parameter_counts, total_parameters


class _Public(ModuleType):
    """This package: a submodule never hides the public function of the same name."""

    def __setattr__(self, name: str, value) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME_OF):
            super().__setattr__(name, value)

    def __getattr__(self, name: str):
        if name not in _HOME_OF:
            raise AttributeError(f"module 'calc' has no attribute {name!r}")
        value = getattr(import_module(_HOME_OF[name]), name)
        setattr(self, name, value)
        return value

    def __dir__(self):
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Public
