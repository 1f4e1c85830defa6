"""Calibrations: how far real kernels fall short of the roofline, per op kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from calc.specs.errors import SpecError, short, unknown_name
from calc.specs.facts import Fact, fact_from, sources_from, spec_files
from calc.specs.strict_yaml import read_yaml


@dataclass(frozen=True, eq=False)
class OpParameters:
    """Fixed cost and efficiencies of one op kind, with the facts they come from."""

    form: str
    facts: Mapping[str, Fact]
    fixed_s: float
    e_compute: float = 1.0
    e_memory: float = 1.0
    e_link: float = 1.0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Parameters per op kind, the trust they deserve and the width of the 80 % interval."""

    id: str
    name: str
    trust: str
    spread: float
    ops: Mapping[str, OpParameters]
    note: str = ""
    path: str = ""

    def parameters(self, kind: str) -> OpParameters:
        """Return the parameters of an op kind.

        Raises
        ------
        SpecError
            If the calibration has none for the kind.
        """
        if kind not in self.ops:
            raise unknown_name(f"op kind in calibration {self.id}", kind, self.ops)
        return self.ops[kind]


@cache
def load_calibration(name: str = "default") -> Calibration:
    """Return a calibration by id or from the path of a YAML file.

    Parameters
    ----------
    name : str
        ``"default"``, another id of ``calibrations/devices``, or a path.

    Raises
    ------
    SpecError
        If the name is not known, the file is not valid or an efficiency exceeds 1.

    Examples
    --------
    >>> load_calibration().trust
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


#: kinds of op whose time follows the link, not the roofline
COLLECTIVES = ("allreduce",)
_RATIOS = {"compute_efficiency": "e_compute", "memory_efficiency": "e_memory", "link_efficiency": "e_link"}


def _calibration_from(path: Path) -> Calibration:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("calibration", data, path)
    sources = sources_from(data["sources"])
    ops = {}
    for kind, rows in data["ops"].items():
        facts = {
            key: fact_from(row, sources, f"{path}: ops.{kind}.{key}")
            for key, row in rows.items()
            if key != "form" and row is not None
        }
        if (rows["form"] == "ring/1") != (kind in COLLECTIVES):
            raise SpecError(
                f"{path}: ops.{short(kind)}.form: {rows['form']} is for {', '.join(COLLECTIVES)} only"
            )
        ratios = {_RATIOS[key]: fact.value for key, fact in facts.items() if key in _RATIOS}
        too_high = [key for key, fact in facts.items() if key in _RATIOS and not 0 < fact.value <= 1]
        if too_high:
            raise SpecError(
                f"{path}: ops.{kind}.{too_high[0]}: {facts[too_high[0]].value} must be above 0 and at most 1"
            )
        ops[kind] = OpParameters(rows["form"], facts, facts["fixed"].value, **ratios)
    spread = fact_from(data["spread"], sources, f"{path}: spread").value
    if spread < 1:
        raise SpecError(f"{path}: spread: {spread} must be at least 1")
    return Calibration(
        id=data["id"],
        name=data["name"],
        trust=data["trust"],
        spread=spread,
        ops=ops,
        note=data.get("note", ""),
        path=str(path),
    )
