"""Calibrations: how far real kernels fall short of the roofline, per op kind and format."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from calc.specs.device import Device, load_device
from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import Source, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml
from calc.timing.collectives import is_collective_kind
from calc.timing.forms import FORMS, Form, form

#: from best to weakest
TRUST = ("calibrated", "family", "datasheet", "extrapolated")
#: standard deviations between the median and the ends of an 80 % interval
Z80 = 1.2816
#: how much wider the spread is where another device's or format's parameters stand in
WIDEN = 1.3
#: factor within which 80 % are taken to lie where a file states no error
ASSUMED_SPREAD = 1.4
#: names of the parameters of all forms; an adjustment passes over forms that lack one
PARAMETERS = sorted({parameter.name for each in FORMS.values() for parameter in each.parameters})
#: what must be measured, where a form has it, before a vendor's default speaks as a family does
CORE = {"e_compute", "e_memory"}
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
    measured: frozenset[str] = frozenset()  # parameters that were set to what was measured

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
                size = size if isinstance(size, int | float) else np.asarray(size)
                outside = outside | (size > slack * high) | (size < low / slack)
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
    topology: str = ""  # of the links its collectives were measured on; none where unknown
    adjustments: tuple[Mapping, ...] = ()  # those that speak for single devices
    own_kinds: frozenset[str] = frozenset()  # kinds of op that a file of the user's own was measured on

    def fit(self, kind: str, fmt: str) -> OpFit:
        """Return the fit of an op kind in a format, or in the nearest format that has one.

        Kernels without a fit of their own (``deepep_ll_dispatch``) have that of their kind (``dispatch``).

        Raises
        ------
        SpecError
            If the calibration has none for the kind.
        """
        known = self.__dict__.setdefault("_found", {})  # asked for by every op of every step
        if (kind, fmt) not in known:
            known[kind, fmt] = self._search(kind, fmt)
        return known[kind, fmt]

    def _search(self, kind: str, fmt: str) -> OpFit:
        formats = self.ops.get(kind) or self.ops.get(kind.rsplit("_", 1)[-1])
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
    return _calibration_of(device, name)


@lru_cache(maxsize=256)
def _calibration_of(device: Device, name: "str | Calibration") -> Calibration:
    base = _with_links(load_calibration("datasheet"), device)
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


def _with_links(base: Calibration, device: Device) -> Calibration:
    """Return the defaults with the collectives of the device's topology, where a file has them."""
    key = _by_file("link-", "links").get(device.link.topology)
    return replace(base, ops={**base.ops, **load_calibration(key).ops}) if key else base


def _named(formats: Mapping[str, OpFit], name: str) -> OpFit | None:
    """Return the fit of a format, or of the kernel that has a rule's name in its own."""
    if name in formats:
        return formats[name]
    carrying = (fit for key, fit in formats.items() if name.endswith("-rule") and name in key)
    return next(carrying, None)


def _borrowed(given: Calibration) -> Calibration:
    ops = {kind: {f: _at_most(fit, "family") for f, fit in fits.items()} for kind, fits in given.ops.items()}
    trust = max(given.trust, "family", key=TRUST.index)
    return replace(given, trust=trust, ops=ops, own_kinds=frozenset())


def _at_most(fit: OpFit, trust: str) -> OpFit:
    """Return a fit with its label no better than ``trust``, its spread wider if that is worse."""
    return fit if TRUST.index(fit.trust) >= TRUST.index(trust) else _widened(fit, WIDEN, trust)


def _over(upper: Calibration, lower: Calibration) -> Calibration:
    return replace(upper, ops={**lower.ops, **upper.ops})


@cache
def _by_file(prefix: str, field: str) -> dict[str, str]:
    """Ids of family or link files by the architectures or topologies they speak for."""
    return {
        name: key
        for key, path in spec_files("calibrations", "devices").items()
        if key.startswith(prefix)
        for name in read_yaml(path).get(field, ())
    }


def _family(device: Device) -> Calibration | None:
    """Return the family's calibration as it is for one device.

    Collectives are taken over only from a relative with the same kind of link.
    """
    key = _by_file("family-", "families").get(device.architecture)
    if key is None:
        return None
    family = load_calibration(key)
    ops = family.ops
    if family.topology != device.link.topology:
        ops = {kind: fits for kind, fits in ops.items() if not is_collective_kind(kind)}
    for row in family.adjustments:
        if device.id in row["devices"]:
            ops = _adjusted(ops, row)
    return replace(family, ops=ops)


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
    sources = sources_from(data["sources"])
    trust, widen, topology, ops = data["trust"], data.get("widen", 1.0), "", {}
    if data.get("based_on"):
        other = load_calibration(data["based_on"])
        topology, ops = _topology(other), _taken_over(other, trust, widen, data.get("without", ()))
    everything = tuple(sources.values())
    for kind, formats in data.get("ops", {}).items():
        fits = {fmt: _fit_from(path, kind, fmt, row, trust, everything) for fmt, row in formats.items()}
        ops[kind] = {fmt: _widened(fit, widen, fit.trust) for fmt, fit in fits.items()}
    rows = [_adjustment_from(path, row, sources, ops) for row in data.get("adjust", ())]
    for row in rows:
        ops = ops if row["devices"] else _adjusted(ops, row)
    shipped = spec_files("calibrations", "devices").get(path.stem)
    is_shipped = shipped is not None and path.resolve() == shipped.resolve()
    return Calibration(
        data["id"], data["name"], trust, ops, data.get("note", ""), str(path), data.get("device", ""),
        topology, tuple(row for row in rows if row["devices"]),
        frozenset() if is_shipped else frozenset(data.get("ops", {})),
    )  # fmt: skip


def _topology(measured: Calibration) -> str:
    return load_device(measured.device).link.topology if measured.device else measured.topology


def _taken_over(other: Calibration, trust: str, widen: float, without) -> dict:
    """Fits of another file, less some formats, with labels no better than ``trust``."""
    return {
        kind: {
            fmt: _widened(fit, widen, max(fit.trust, trust, key=TRUST.index))
            for fmt, fit in fits.items()
            if fmt not in without
        }
        for kind, fits in other.ops.items()
        if set(fits) - set(without)
    }


def _adjustment_from(path: Path, row: Mapping, sources: Mapping, ops: Mapping) -> dict:
    """Return an adjustment with defaults and sources; refuse unknown ops, parameters and sources."""
    where = f"{path}: adjust ({row['note']})"
    cited = row.get("source", [])
    cited = [cited] if isinstance(cited, str) else cited
    if unknown := [name for name in cited if name not in sources]:
        raise unknown_name(f"source in {where}", unknown[0], sources)
    if row["kind"] == "measured" and not cited:
        raise SpecError(
            f"{where}: source: none is not allowed for measured; allowed are {', '.join(sources)}"
        )
    empty = {"ops": [], "formats": [], "devices": [], "set": {}, "scale": {}}
    result = {**empty, **row, "sources": tuple(sources[name] for name in cited)}
    if not any(True for _ in _touched(ops, result)):
        raise SpecError(f"{where}: ops, formats: none is taken over; known kinds are {', '.join(ops)}")
    for name in (*result["set"], *result["scale"]):
        if name not in PARAMETERS:
            raise unknown_name(f"parameter in {where}", name, PARAMETERS)
    return result


def _touched(ops: Mapping, row: Mapping):
    """Kind, format and fit of each op that an adjustment speaks of."""
    for kind, fits in ops.items():
        for fmt, fit in fits.items():
            if (not row["ops"] or kind in row["ops"]) and (not row["formats"] or fmt in row["formats"]):
                yield kind, fmt, fit


def _adjusted(ops: Mapping, row: Mapping) -> dict:
    """Return ops with the parameters of an adjustment changed."""
    result = {kind: dict(fits) for kind, fits in ops.items()}
    for kind, fmt, fit in _touched(ops, row):
        result[kind][fmt] = _adjusted_fit(fit, row)
    return result


def _adjusted_fit(fit: OpFit, row: Mapping) -> OpFit:
    """Return a fit with parameters changed, within the bounds of its form.

    It speaks as a family does once its shares of peak and bandwidth are measured; an assumed
    change takes that away.
    """
    bounds = {parameter.name: parameter for parameter in fit.form.parameters}
    new = {name: value for name, value in row["set"].items() if name in bounds}
    new |= {name: fit.parameters[name] * by for name, by in row["scale"].items() if name in bounds}
    if not new:
        return fit
    new = {name: min(max(value, bounds[name].low), bounds[name].high) for name, value in new.items()}
    if row["kind"] == "measured":
        measured = fit.measured | set(new)
        trust = min(fit.trust, "family", key=TRUST.index) if bounds.keys() & CORE <= measured else fit.trust
    else:
        measured, trust = fit.measured - set(new), max(fit.trust, "datasheet", key=TRUST.index)
    return replace(
        fit, parameters={**fit.parameters, **new}, trust=trust, kind=row["kind"], measured=measured,
        note="; ".join(note for note in (fit.note, f"{row['note']} ({row['kind']})") if note),
        sources=(*row["sources"], *fit.sources),
    )  # fmt: skip


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
    error, kind = row.get("error") or {}, row.get("kind", "measured")
    return OpFit(
        form=shape,
        parameters=dict(given),
        trust=trust if kind == "measured" else max(trust, "datasheet", key=TRUST.index),
        format=fmt,
        low=error.get("low", 1 / ASSUMED_SPREAD),
        high=error.get("high", ASSUMED_SPREAD),
        range={name: (ends[0], ends[1]) for name, ends in (row.get("range") or {}).items()},
        kernel=row.get("kernel", ""),
        note=row.get("note", ""),
        kind=kind,
        error=row.get("error"),
        sources=sources,
    )
