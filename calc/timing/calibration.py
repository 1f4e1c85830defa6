"""Calibrations: how far real kernels fall short of the roofline, per op kind and format."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np

from calc.specs.device import Device
from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Source, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml
from calc.timing.forms import Form, form

#: from best to weakest
TRUST = ("calibrated", "family", "datasheet", "extrapolated")
#: standard deviations between the median and the ends of an 80 % interval
Z80 = 1.2816
#: how much wider the spread is where another device's or format's parameters stand in
WIDEN = 1.3
#: format -> formats that kernels treat alike
_SAME = {"fp16": ("bf16",)}
#: format -> formats whose parameters stand in for it, nearest first
_STAND_INS = {
    "fp8": ("fp8-block", "int8", "bf16"),
    "fp8-block": ("fp8", "bf16"),
    "int8": ("fp8", "bf16"),
    "mxfp8": ("fp8-block", "fp8", "bf16"),
    "nvfp4": ("mxfp4", "fp8", "bf16"),
    "mxfp4": ("int4", "bf16"),
    "int4": ("mxfp4", "bf16"),
    "kimi-delta-rule": ("gated-delta-rule",),
    "lightning": ("gated-delta-rule",),
    "mamba2": ("gated-delta-rule",),
    "mamba1": ("gated-delta-rule",),
    "causal-conv1d-fn-mamba2": ("causal-conv1d-fn",),
    "causal-conv1d-update-mamba2": ("causal-conv1d-update",),
}


@dataclass(frozen=True, eq=False)
class OpFit:
    """Parameters of one form for one op kind and format, with error and fitted range.

    ``low`` and ``high`` are the factors between which 80 % of measured values lie;
    ``trust`` says how far the fit speaks for the device at hand.
    """

    form: Form
    parameters: Mapping[str, float]
    trust: str
    format: str
    low: float
    high: float
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    kernel: str = ""
    note: str = ""
    kind: str = "measured"
    error: Mapping[str, float] | None = None
    sources: tuple[Source, ...] = ()

    @property
    def sigma(self) -> float:
        """Spread of the logarithm of measured over predicted, as a standard deviation."""
        return math.log(self.high / self.low) / (2 * Z80)

    def is_outside(self, shape: Mapping, slack: float = 2.0):
        """Whether any size lies more than ``slack`` times beyond the fitted range."""
        outside = False
        for name, (low, high) in self.range.items():
            if name in shape:
                size = shape[name]
                outside = outside | (np.asarray(size) > slack * high) | (np.asarray(size) < low / slack)
        return outside


@dataclass(frozen=True, eq=False)
class Calibration:
    """Parameters per op kind and format for one device, from the best file that speaks for it."""

    id: str
    name: str
    trust: str
    ops: Mapping[str, Mapping[str, OpFit]]
    note: str = ""
    path: str = ""
    device: str = ""  # the one it was measured on; none for families and defaults

    def fit(self, kind: str, fmt: str) -> OpFit:
        """Return the fit of an op kind in a format, or in the nearest format that has one.

        Raises
        ------
        SpecError
            If the calibration has none for the kind.
        """
        formats = self.ops.get(kind)
        if not formats:
            raise unknown_name(f"op kind in calibration {self.id}", kind, self.ops)
        for name in (fmt, *_SAME.get(fmt, ()), "any"):
            if found := _named(formats, name):
                return found
        for name in _STAND_INS.get(fmt, ()):
            if found := _named(formats, name):
                return _at_most(found, "family")
        return _at_most(next(iter(formats.values())), "family")


def calibration_for(device: Device, name: "str | Calibration" = "default") -> Calibration:
    """Return the calibration of a device.

    Parameters
    ----------
    device : Device
    name : str or Calibration
        ``"default"`` the best there is: the device's own file, else that of its family, else
        the datasheet defaults; ``"family"`` never its own file; ``"datasheet"`` the defaults
        only; else an id of ``calibrations/devices``, the path of a file or a Calibration.

    Notes
    -----
    Kinds of op that a file does not hold are taken from the next weaker one, with its label.
    A file that was measured on another device speaks for this one as a family does.

    Examples
    --------
    >>> from calc.specs.device import load_device
    >>> calibration_for(load_device("h100-sxm")).trust
    'calibrated'
    """
    base = load_calibration("datasheet")
    if name == "datasheet":
        return base
    family = _family(device)
    if name == "family":
        return _over(family, base) if family else base
    if name != "default":
        given = name if isinstance(name, Calibration) else load_calibration(name)
        return _over(given if given.device in ("", device.id) else _borrowed(given), base)
    own = load_calibration(device.id) if device.id in spec_files("calibrations", "devices") else None
    result = _over(family, base) if family else base
    return _over(own, result) if own else result


def _named(formats: Mapping[str, OpFit], name: str) -> OpFit | None:
    """Return the fit of a format, or of the kernel that has a rule's name in its own."""
    if name in formats:
        return formats[name]
    carrying = (fit for key, fit in formats.items() if name.endswith("-rule") and name in key)
    return next(carrying, None)


def _borrowed(given: Calibration) -> Calibration:
    ops = {kind: {f: _at_most(fit, "family") for f, fit in fits.items()} for kind, fits in given.ops.items()}
    return replace(given, trust=max(given.trust, "family", key=TRUST.index), ops=ops)


def _at_most(fit: OpFit, trust: str) -> OpFit:
    """Return a fit with its label no better than ``trust``, its spread wider if that is worse."""
    return fit if TRUST.index(fit.trust) >= TRUST.index(trust) else _widened(fit, WIDEN, trust)


def _over(upper: Calibration, lower: Calibration) -> Calibration:
    return replace(upper, ops={**lower.ops, **upper.ops})


@cache
def _families() -> dict[str, str]:
    return {
        architecture: key
        for key, path in spec_files("calibrations", "devices").items()
        if key.startswith("family-")
        for architecture in read_yaml(path).get("families", ())
    }


def _family(device: Device) -> Calibration | None:
    key = _families().get(device.architecture)
    return load_calibration(key) if key else None


@cache
def load_calibration(name: str) -> Calibration:
    """Return a calibration file by id or path, as it is.

    Parameters
    ----------
    name : str
        An id of ``calibrations/devices``, or a path.

    Raises
    ------
    SpecError
        If the name is not known, the file is not valid or a parameter is out of bounds.

    Examples
    --------
    >>> load_calibration("datasheet").trust
    'datasheet'
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    else:
        files = spec_files("calibrations", "devices")
        if name not in files:
            raise unknown_name("calibration", name, files, hint="or the path of a .yaml file")
        path = files[name]
    return _calibration_from(path)


def _calibration_from(path: Path) -> Calibration:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("calibration", data, path)
    sources = tuple(sources_from(data["sources"]).values())
    trust, widen, ops = data["trust"], data.get("widen", 1.0), {}
    if data.get("based_on"):
        other = load_calibration(data["based_on"])
        ops = {
            kind: {f: _widened(fit, widen, trust) for f, fit in fits.items()}
            for kind, fits in other.ops.items()
        }
    for kind, formats in data.get("ops", {}).items():
        fits = {fmt: _fit_from(path, kind, fmt, row, trust, sources) for fmt, row in formats.items()}
        ops[kind] = {fmt: _widened(fit, widen, trust) for fmt, fit in fits.items()}
    return Calibration(
        data["id"], data["name"], trust, ops, data.get("note", ""), str(path), data.get("device", "")
    )


def _widened(fit: OpFit, widen: float, trust: str) -> OpFit:
    return replace(fit, low=fit.low**widen, high=fit.high**widen, trust=trust)


def _fit_from(path: Path, kind: str, fmt: str, row: Mapping, trust: str, sources) -> OpFit:
    where = f"{path}: ops.{kind}.{fmt}"
    shape = form(row["form"])
    given = row["parameters"]
    expected = {parameter.name for parameter in shape.parameters}
    if set(given) != expected:
        wrong = ", ".join(sorted(set(given) ^ expected))
        raise SpecError(
            f"{where}: parameters of {shape.name} are {', '.join(sorted(expected))}; differing: {wrong}"
        )
    for parameter in shape.parameters:
        value = given[parameter.name]
        if not (value >= 0 and value <= parameter.high * 1.0001):
            raise SpecError(f"{where}.{parameter.name}: {value} must be from 0 to {parameter.high:g}")
    error = row.get("error") or {}
    return OpFit(
        form=shape,
        parameters=dict(given),
        trust=trust,
        format=fmt,
        low=error.get("low", 1 / 1.4),
        high=error.get("high", 1.4),
        range={name: (ends[0], ends[1]) for name, ends in (row.get("range") or {}).items()},
        kernel=row.get("kernel", ""),
        note=row.get("note", ""),
        kind=row.get("kind", "measured"),
        error=row.get("error"),
        sources=sources,
    )
