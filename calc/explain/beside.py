"""A second model in one explanation: its symbols beside those of the first."""

from calc.explain.trace import Trace


class Beside(Trace):
    """The glossary of a trace; what has another value gets a symbol with an ending and says whose it is.

    What is the same (prompt tokens, ranks, blocks) keeps the symbol that it has.

    Examples
    --------
    >>> t = Trace()
    >>> _ = t.given("L", "layers", 32, "count"), t.given("tp", "ranks", 4, "count")
    >>> draft = Beside(t, "draft", "of what drafts")
    >>> draft.given("L", "layers", 16, "count"), draft.given("tp", "ranks", 4, "count")
    (L_draft, tp)
    """

    def __init__(self, trace: Trace, ending: str, whose: str):
        self.values, self.definitions, self._terms = trace.values, trace.definitions, trace._terms
        self._of, self._ending, self._whose = trace, f"_{ending}", whose

    def given(self, symbol, name, value, unit, **origin):
        """Return the symbol of an input, the one that it has already if it is the same."""
        return self._known(symbol, name, value) or super().given(symbol, name, value, unit, **origin)

    def define(self, symbol, name, unit, function, *arguments, **more):
        """Return the symbol of a formula, the one that it has already if words and value are the same."""
        value = function(*(self.values.get(arg, arg) if arg in self.values else arg for arg in arguments))
        known = self._known(symbol, name, value)
        return known or super().define(symbol, name, unit, function, *arguments, **more)

    def symbol(self, name: str):
        """Return the symbol of that name and ending if the glossary has it."""
        return super().symbol(name + self._ending)

    def value(self, symbol: str):
        """Return the value of a symbol, of the one with the ending where there is one."""
        own = self.symbol(symbol)
        return self._of.value(symbol) if own is None else self.values[own]

    def _known(self, symbol: str, name: str, value):
        for known in (self.symbol(symbol), self._of.symbol(symbol)):
            names = name, self._words(name)
            if known is not None and self.values[known] == value and self._terms[known]["name"] in names:
                return known
        return None

    def _new(self, symbol: str, name: str, value, unit: str):
        return super()._new(symbol + self._ending, self._words(name), value, unit)

    def _words(self, name: str) -> str:
        return f"{name}, {self._whose}"
