"""Tracing: the calculator's own functions, called once with numbers and once with symbols.

A ``Trace`` is the glossary of one explanation. ``given`` adds a symbol with its value and
origin; ``define`` calls a numeric function with the values of symbols and with the symbols
themselves, and keeps both: the number, and the formula as a tree in the order of the code.
No formula is written here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from calc.explain.explanation import GIVEN, Equation, Term
from calc.explain.quantities import DIGITS, DIGITS_ROUNDED, in_formula, shown
from calc.explain.render import Printer, pruned, quantity_latex, symbol_latex
from calc.specs.facts import Fact


@dataclass(frozen=True, eq=False)
class Definition:
    """A symbol that a numeric function gives from other symbols."""

    symbol: sympy.Symbol
    function: Callable
    arguments: tuple
    tree: sympy.Basic


class Trace:
    """Symbols of one explanation: their values, words, units, origins and formulas.

    Examples
    --------
    >>> from calc.serving.batching import e2e_latency_s
    >>> t = Trace()
    >>> first = t.given("TTFT", "time to first token", 0.2, "s")
    >>> each = t.given("TPOT", "time per token after it", 0.01, "s")
    >>> output = t.given("O", "output tokens", 101, "tokens")
    >>> total = t.define("T", "request", "s", e2e_latency_s, first, each, output)
    >>> print(t.equation(total).formula)
    T = TTFT + TPOT * (O - 1)
    >>> print(t.equation(total).substituted)
    T = 200 ms + 10 ms * (101 tokens - 1) = 1.2 s
    """

    def __init__(self):
        self.values: dict[sympy.Symbol, object] = {}
        self.definitions: dict[sympy.Symbol, Definition] = {}
        self._terms: dict[sympy.Symbol, dict] = {}

    def given(
        self, symbol, name, value, unit, *, kind=GIVEN, source="the scenario", url="", date="", note=""
    ):
        """Return the symbol of an input."""
        new = self._new(symbol, name, value, unit)
        self._terms[new] |= {"kind": kind, "source": source, "url": url, "date": date, "note": note}
        return new

    def derived(self, symbol, name, value, unit, note):
        """Return the symbol of a number that other parts of the calculator derive."""
        return self.given(symbol, name, value, unit, kind="derived", source="", note=note)

    def fact(self, symbol, name, fact: Fact, note=""):
        """Return the symbol of a fact, with its kind, sources and date."""
        printed = fact.printed.removesuffix(" count").removesuffix(" ratio")
        differs = printed and printed != shown(fact.value, fact.unit)
        notes = (note, f"printed as {printed}" if differs else "", fact.note)
        return self.given(
            symbol, name, fact.value, fact.unit, kind=fact.kind, **origin(fact.sources, fact.date),
            note="; ".join(text for text in notes if text),
        )  # fmt: skip

    def define(self, symbol, name, unit, function, *arguments, fold=False, note=""):
        """Return the symbol of ``function(*arguments)``; ``fold`` lets sympy simplify its formula."""
        value = function(*(self.values.get(arg, arg) if _is_symbol(arg) else arg for arg in arguments))
        with sympy.evaluate(fold):
            tree = sympy.sympify(function(*arguments))
        tree = self._ordered(pruned(tree), everything=fold)
        new = self._new(symbol, name, value, unit)
        self._terms[new] |= {"kind": "derived", "source": "", "note": note, "equation": True}
        self.definitions[new] = Definition(new, function, arguments, tree)
        return new

    def value(self, symbol: str):
        """Return the value of a symbol by its name."""
        return self.values[sympy.Symbol(symbol)]

    def symbol(self, name: str) -> sympy.Symbol | None:
        """Return the symbol of that name if the glossary has it."""
        return sympy.Symbol(name) if sympy.Symbol(name) in self.values else None

    def _new(self, symbol: str, name: str, value, unit: str) -> sympy.Symbol:
        new = sympy.Symbol(symbol)
        if new in self.values:
            raise ValueError(f"symbol {symbol} has two meanings: {self._terms[new]['name']} and {name}")
        self.values[new] = value = value.item() if hasattr(value, "item") else value
        self._terms[new] = {
            "symbol": symbol, "symbol_latex": symbol_latex(symbol), "name": name,
            "value": float(value), "unit": unit, "shown": shown(float(value), unit),
        }  # fmt: skip
        return new

    def _ordered(self, tree, everything: bool):
        """Put arguments that sympy sorted into the order of the glossary: min, max, or all."""
        if not tree.args:
            return tree
        args = [self._ordered(arg, everything) for arg in tree.args]
        sorts = isinstance(tree, sympy.Max | sympy.Min) or (everything and (tree.is_Add or tree.is_Mul))
        if sorts:
            ranks = {symbol: rank for rank, symbol in enumerate(self.values)}
            first = [min((ranks[symbol] for symbol in arg.free_symbols), default=-1) for arg in args]
            divides = [arg.is_Pow and arg.exp == -1 for arg in args]
            args = [
                arg for *_, arg in sorted(zip(divides, first, args, strict=True), key=lambda row: row[:2])
            ]
        with sympy.evaluate(False):
            return tree.func._from_args(args) if isinstance(tree, sympy.Max | sympy.Min) else tree.func(*args)

    def term(self, symbol: sympy.Symbol) -> Term:
        """Return the glossary entry of a symbol."""
        return Term(**self._terms[symbol])

    def equation(self, symbol: sympy.Symbol) -> Equation:
        """Return the formula of a defined symbol, with symbols and with numbers."""
        tree, entry = self.definitions[symbol].tree, self._terms[symbol]
        left, tex, result = entry["symbol"], entry["symbol_latex"], entry["shown"]
        digits = DIGITS_ROUNDED if tree.has(sympy.floor, sympy.ceiling) else DIGITS
        numbers = Printer(lambda leaf: self._number(leaf, digits)).print(tree)
        numbers_tex = Printer(lambda leaf: self._number_latex(leaf, digits), latex=True).print(tree)
        symbols_tex = Printer(lambda leaf: self._terms[leaf]["symbol_latex"], latex=True).print(tree)
        return Equation(
            symbol=left,
            formula=f"{left} = {Printer(str).print(tree)}",
            formula_latex=f"{tex} = {symbols_tex}",
            substituted=f"{left} = {numbers} = {result}",
            substituted_latex=f"{tex} = {numbers_tex} = {quantity_latex(result)}",
            value=entry["value"],
            unit=entry["unit"],
            shown=result,
        )

    def _number(self, leaf: sympy.Symbol, digits: int) -> str:
        return in_formula(self._terms[leaf]["value"], self._terms[leaf]["unit"], digits)

    def _number_latex(self, leaf: sympy.Symbol, digits: int) -> str:
        entry = self._terms[leaf]
        return rf"\underbrace{{{quantity_latex(self._number(leaf, digits))}}}_{{{entry['symbol_latex']}}}"

    def reached(self, *groups) -> list[sympy.Symbol]:
        """Return the symbols of groups and those their formulas use, group by group, breadth first."""
        order: dict[sympy.Symbol, None] = {}
        for group in groups:
            waiting = list(group)
            for symbol in waiting:  # grows while it is walked
                if symbol not in order and symbol in self.definitions:
                    waiting += _leaves(self.definitions[symbol].tree)
                order[symbol] = None
        return list(order)


def origin(sources, date="") -> dict[str, str]:
    """Return source, url and date of a term from a fact's sources."""
    dates = [date, *(source.date for source in sources)]
    return {
        "source": "; ".join(source.title for source in sources),
        "url": next((source.url for source in sources if source.url), ""),
        "date": next((text for text in dates if text), ""),
    }


def _leaves(tree) -> list[sympy.Symbol]:
    """Symbols of a tree in the order in which it is written."""
    if isinstance(tree, sympy.Symbol):
        return [tree]
    return [leaf for arg in tree.args for leaf in _leaves(arg)]


def _is_symbol(value) -> bool:
    return isinstance(value, sympy.Symbol)
