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

__version__ = "0.1.0"

_HOMES = {
    "calc.specs.errors": ("SpecError", "unknown_name"),
    "calc.specs.device": ("Device", "load_device", "device_ids"),
    "calc.specs.model": ("Model",),
    "calc.specs.model_files": ("load_model", "model_ids"),
    "calc.specs.engine": ("load_engine", "engine_ids", "engine_of"),
    "calc.specs.quantization": ("WEIGHT_FORMATS", "KV_BYTES"),
    "calc.specs.units": (
        "parse_tokens", "parse_bytes", "parse_seconds", "format_bytes", "format_seconds", "significant",
    ),
    "calc.specs.workload": ("Workload",),
    "calc.specs.lengths": ("Lengths",),
    "calc.serving.requests": ("Requests", "poisson_requests"),
    "calc.serving.trace": ("read_trace",),
    "calc.serving.scenario": ("steps_of",),
    "calc.serving.simulate": ("Simulation", "ready", "simulate_requests"),
    "calc.serving.replay": ("simulate", "fewest_replicas", "Fleet"),
    "calc.serving.open_loop.answer": ("OpenLoop",),
    "calc.specs.speculation": ("Speculation",),
    "calc.serving.speculation": ("speculate", "Speculated"),
    "calc.serving.disaggregation": ("disaggregate", "Disaggregated"),
    "calc.specs.deployment": ("Deployment",),
    "calc.work.memory": ("kv_cache_bytes", "cache_bytes_per_token"),
    "calc.work.finetuning": ("finetuning_memory", "FineTuning", "FinetuningMemory"),
    "calc.work.parameters": ("parameter_counts", "total_parameters", "active_parameters"),
    "calc.timing.roofline": ("roofline_time_s", "op_time_s"),
    "calc.timing.calibration": ("load_calibration", "calibration_for"),
    "calc.timing.overheads": ("load_overheads",),
    "calc.economics.prices": ("all_prices", "device_price"),
    "calc.economics.cost": ("usd_per_mtok",),
    "calc.estimate": ("Estimate", "SLO", "estimate", "memory", "ways_to_fit"),
    "calc.work.ways": ("fit_sentence",),
    "calc.work.budget": ("Memory",),
    "calc.record": ("plain", "memory_record", "overheads_line", "overheads_record"),
    "calc.planning.search": ("plan", "Plan"),
    "calc.planning.solve": ("solve", "Solution"),
    "calc.planning.launch": ("launch_command",),
    "calc.explain": ("explain", "Explanation"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*sorted(_HOME_OF), "__version__"]


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
