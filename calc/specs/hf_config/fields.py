"""Reading a config.json: each field checked, each mistake one clear line."""

import math
import reprlib
from collections.abc import Callable, Collection, Mapping
from typing import Any

from calc.specs.errors import SpecError

_MISSING = object()
_LONGEST = 60  # characters of a wrong value that a message repeats
MOST_LAYERS = 2000


_SHORT = reprlib.Repr()  # never walks far into a value, however deep or long it is
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20
_SHORT.maxstring = _SHORT.maxother = _LONGEST + 2


def shown(value: Any) -> str:
    """Return a value as a message repeats it: one line, cut when long.

    Examples
    --------
    >>> shown([1, 2]), len(shown("x" * 1000))
    ('[1, 2]', 60)
    """
    text = _SHORT.repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


class Fields:
    """The fields of a config.json, read with their type and a clear error."""

    def __init__(self, config: Mapping[str, Any], where: str = "config.json"):
        self.config, self.where = config, where

    def __contains__(self, name: str) -> bool:
        return self.value(name) is not None

    def value(self, name: str) -> Any:
        """Return a field as it stands, or None where it is absent."""
        return self.config.get(name)

    def wrong(self, name: str, expected: str) -> SpecError:
        """Return the error for a field that is not as expected."""
        return SpecError(f"{self.where}: {name} must be {expected}, got {shown(self.value(name))}")

    def section(self, name: str) -> "Fields":
        """Return a nested section such as ``text_config``."""
        value = self.value(name)
        if value is None:
            raise SpecError(f"{self.where}: {name} is missing")
        if not isinstance(value, Mapping):
            raise self.wrong(name, "a section of fields")
        return type(self)(value, f"{self.where}: {name}")

    def count(self, *names: str, default: Any = _MISSING, least: int = 1, most: int = 10**7) -> Any:
        """Return the first of the fields that is present: a whole number within bounds."""
        for name in names:
            value = self.value(name)
            if value is None:
                continue
            if not _is_whole(value):
                raise self.wrong(name, "a whole number")
            if not least <= value <= most:
                raise self.wrong(name, f"from {least} to {most}")
            return int(value)
        return self._default(names, default)

    def ratio(self, name: str, most: float = 1000.0) -> float:
        """Return a positive number that need not be whole."""
        value = self.value(name)
        if value is None:
            return self._default((name,), _MISSING)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise self.wrong(name, f"a number above 0, at most {most:g}")
        return float(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a true/false field."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def text(self, name: str, default: Any = _MISSING) -> str:
        """Return a text field."""
        value = self.value(name)
        if value is None:
            return self._default((name,), default)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def items(self, name: str, default: Any = _MISSING) -> list:
        """Return a list field."""
        value = self.value(name)
        if value is None:
            return self._default((name,), default)
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "a list")
        return list(value)

    def counts(self, name: str, default: Any = _MISSING) -> list[int]:
        """Return a list of whole numbers from 0."""
        values = self.items(name, default)
        if not all(_is_whole(value) and value >= 0 for value in values):
            raise self.wrong(name, "a list of whole numbers")
        return [int(value) for value in values]

    def per_layer(self, name: str, n_layers: int, allowed: Collection, extra: int = 0) -> list | None:
        """Return a list with one of the allowed values a layer, or None where the field is absent.

        ``extra`` entries for next-token prediction layers may follow; they are cut off.
        """
        values = self.items(name, None)
        if values is None:
            return None
        if len(values) not in (n_layers, n_layers + extra):
            raise SpecError(f"{self.where}: {name} has {len(values)} entries for {n_layers} layers")
        for value in values:
            if isinstance(value, list | dict) or value not in allowed:
                names = ", ".join(str(one) for one in allowed)
                raise SpecError(f"{self.where}: {name} holds {shown(value)}; known are {names}")
        return values[:n_layers]

    def _default(self, names, default):
        if default is _MISSING:
            raise SpecError(f"{self.where}: {names[0]} is missing")
        return default


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or (math.isfinite(value) and value == int(value))


def n_layers_of(c: Fields) -> int:
    """Return the number of decoder layers; some configs have nothing but a list of them."""
    names = ("num_hidden_layers", "n_layer", "n_layers", "decoder_layers", "num_decoder_layers", "num_layers")
    if not any(name in c for name in names) and "layers_block_type" in c:
        return min(len(c.items("layers_block_type")), MOST_LAYERS)
    return c.count(*names, most=MOST_LAYERS)


def layer_kinds(
    c: Fields,
    n_layers: int,
    allowed: Collection[str],
    otherwise: Callable[[int], str],
    extra: int = 0,
) -> list[str]:
    """Return ``layer_types`` where the config has it, else what a rule says about each layer."""
    given = c.per_layer("layer_types", n_layers, allowed, extra)
    return given if given is not None else [otherwise(i) for i in range(n_layers)]
