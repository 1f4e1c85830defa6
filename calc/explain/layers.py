"""The layers that keep cache, with symbols for their sizes."""

from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import sympy

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.trace import Trace
from calc.specs.model import Layer, Part
from calc.work.paging import LayerCaches, layer_caches

#: sizes that decide the cache, in words
_WORDS = {
    "n_kv_heads": "KV heads", "d_head": "width of a head", "d_value": "width of a value head",
    "window": "tokens in the window", "chunk": "tokens in a chunk", "n_heads": "heads",
    "kv_lora_rank": "width of the cached latent", "d_rope": "width of the rotary key",
    "d_index": "width of the indexer's key", "n_key_heads": "key heads", "n_value_heads": "value heads",
    "d_key": "width of a key head", "d_conv": "width of the convolution", "d_inner": "inner width",
    "d_state": "width of a state", "d_model": "width of the hidden state",
    "n_groups": "groups of states", "ratio": "tokens of a compressed entry",
    "encoder_tokens": "positions of the encoder",
}  # fmt: skip


def attention_kinds(e: Estimate) -> Counter:
    """Kinds of attention in a model with the number of their layers."""
    return Counter(layer.attention for layer in e.model.layers if layer.attention)


class SizedLayers:
    """Kinds of attention with symbols for their sizes, and back to layers with any values.

    ``kinds`` are pairs (part, layers). Sizes named in ``numbers`` stay numbers. Symbols that
    differ between kinds end in the kind's number.
    """

    def __init__(self, t: Trace, e: Estimate, kinds, numbers=()):
        self.kinds = list(kinds)
        self.symbols, self._places = [], []
        for index, (part, count) in enumerate(self.kinds, 1):
            self._add(
                t, e, ("layers", index), f"L{self.ending(index)}", f"layers with {part.kind} attention", count
            )
            for name, value in part.sizes:
                if type(value) is int and value > 0 and name not in numbers:
                    shared = len({dict(other.sizes).get(name, value) for other, _ in self.kinds}) == 1
                    symbol = name if shared else name + self.ending(index)
                    self._add(t, e, (name, index), symbol, _WORDS.get(name, name), value)

    def ending(self, index: int) -> str:
        """Return what symbols of a kind end in."""
        return f"_{index}" if len(self.kinds) > 1 else ""

    def count(self, index: int) -> sympy.Symbol:
        """Return the symbol of the number of layers of a kind."""
        return self.symbols[self._places.index(("layers", index))]

    def _add(self, t: Trace, e: Estimate, place, symbol, words, value):
        self._places.append(place)
        self.symbols.append(t.symbol(symbol) or scenario.model_size(t, e, symbol, words, value))

    def model(self, values, only=None):
        """Return what the functions of cache need of a model, with these values of the symbols.

        With ``only`` it is one layer of the kind of that number.
        """
        found = dict(zip(self._places, values, strict=True))
        layers = []
        for index, (part, _) in enumerate(self.kinds, 1):
            sizes = {name: found.get((name, index), value) for name, value in part.sizes}
            if only in (None, index):
                count = found["layers", index] if only is None else 1
                layers.append((Layer(Part.of(part.kind, **sizes), None), count))
        return SimpleNamespace(distinct_layers=layers)


@dataclass(frozen=True, eq=False)
class CacheKind:
    """Layers that keep equal caches: their numbers, an attention kind that has them, its place there."""

    numbers: LayerCaches
    part: Part
    place: int
    alone: bool  # the only cache of that kind of attention

    @property
    def name(self) -> str:
        """What a row of it is called."""
        name = self.part.kind if self.alone else f"{self.part.kind}, {self.numbers.kind}"
        limit = "chunk" if self.numbers.kind == "chunked" else "window"
        return f"{name}, {limit} {self.numbers.reach}" if self.numbers.reach else name


def cache_kinds(e: Estimate, dtype_bytes) -> list[CacheKind]:
    """Return the kinds of cache of a model, equal ones of several kinds of attention together."""
    found: dict[tuple, CacheKind] = {}
    for part, count in attention_kinds(e).items():
        one = SimpleNamespace(distinct_layers=[(Layer(part, None), count)])
        rows = layer_caches(one, dtype_bytes, e.deployment.tp)
        for place, row in enumerate(rows):
            key = (row.kind, row.reach, str(row.bytes_per_token), str(row.state_bytes))
            found.setdefault(key, CacheKind(row, part, place, len(rows) == 1))
    totals = layer_caches(e.model, dtype_bytes, e.deployment.tp)
    return [CacheKind(row, kind.part, kind.place, kind.alone)
            for row, kind in zip(totals, found.values(), strict=True)]  # fmt: skip
