"""Explanation: what an explained number consists of, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar

from calc.record import plain

#: where a number comes from: the kinds of a Fact, and what the user gave
GIVEN = "given"


@dataclass(frozen=True)
class Term:
    """One symbol of the formulas: its value in SI units and where it comes from.

    ``kind`` is that of a Fact (published, measured, derived, secondary, assumed) or
    ``given`` for what the scenario says; ``equation`` is True where one of the
    explanation's equations derives it.
    """

    symbol: str
    symbol_latex: str
    name: str
    value: float
    unit: str
    shown: str
    kind: str
    source: str = ""
    url: str = ""
    date: str = ""
    note: str = ""
    equation: bool = False


@dataclass(frozen=True)
class Equation:
    """One formula, with symbols and with numbers, as text and as LaTeX.

    ``formula`` reads ``left = right``; its right side is also valid Python in the symbols.
    """

    symbol: str
    formula: str
    formula_latex: str
    substituted: str
    substituted_latex: str
    value: float
    unit: str
    shown: str


@dataclass(frozen=True)
class Part:
    """One row of a breakdown; the rows of an explanation sum to its value.

    ``details`` holds what is known of the row: calls, flops and bytes of an operation and
    what limits it (``bound``), bits of a weight format, layers.
    """

    name: str
    value: float
    unit: str
    shown: str
    note: str = ""
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanation:
    """Why a number is what it is: formula, formula with numbers, inputs, parts, limits.

    ``formula`` and its three sisters are the first of ``equations``; the others derive the
    intermediate values it uses. ``terms`` are all symbols, in order of appearance.
    """

    schema_version: ClassVar[int] = 1

    metric: str
    title: str
    value: float
    unit: str
    shown: str
    equations: tuple[Equation, ...]
    terms: tuple[Term, ...]
    parts: tuple[Part, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        """The formula as plain text, e.g. ``T = t_first + t_next * (O - 1)``."""
        return self.equations[0].formula

    @property
    def formula_latex(self) -> str:
        """The formula in LaTeX."""
        return self.equations[0].formula_latex

    @property
    def substituted(self) -> str:
        """The formula with numbers and units in place of symbols, and its result."""
        return self.equations[0].substituted

    @property
    def substituted_latex(self) -> str:
        """The formula with numbers, each above its symbol, in LaTeX."""
        return self.equations[0].substituted_latex

    def to_text(self) -> str:
        """Return the explanation as text of at most 100 columns; only addresses are longer."""
        from calc.explain.text import explanation_text

        return explanation_text(self)

    def to_dict(self) -> dict:
        """Return the explanation as plain data for JSON, with ``schema_version``."""
        head = ("formula", "formula_latex", "substituted", "substituted_latex")
        record = {"schema_version": self.schema_version, **asdict(self)}
        record.update({name: getattr(self, name) for name in head})
        return plain(record)
