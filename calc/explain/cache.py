"""Explanations of the KV cache: of a sequence as the engine reserves it, and of a token."""

from dataclasses import dataclass, field, replace

import sympy

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.explanation import Part
from calc.explain.layers import CacheKind, SizedLayers, attention_kinds, cache_kinds
from calc.explain.metrics import Answer
from calc.explain.quantities import shown
from calc.explain.trace import Trace
from calc.specs.numeric import maximum
from calc.work.attention import attention
from calc.work.memory import cache_bytes_per_sequence, precision_of, request_tokens
from calc.work.memory import cache_bytes_per_token as per_token
from calc.work.paging import (
    LayerCaches,
    Paging,
    blocks,
    group_layers,
    groups_of,
    layer_caches,
    page_bytes,
    page_tokens,
    pages_of_request,
    paging,
    shares_pages,
)
from calc.work.request_cache import share_of_tokens


@dataclass(frozen=True, eq=False)
class Request:
    """Symbols of the cache that an engine reserves for one request on one device.

    ``size`` is its bytes, ``tokens`` its length; with layer groups ``page`` is the bytes of
    a page, ``page_tokens`` its tokens, ``groups`` the groups of all layers, and ``rows`` what
    each kind of cache reserves: (kind, bytes, layers charged).
    """

    size: sympy.Symbol
    tokens: sympy.Symbol
    page: sympy.Symbol | None = None
    page_tokens: object = None
    groups: object = None
    rows: list[tuple[CacheKind, float, float]] = field(default_factory=list)


def cache_bytes_per_token(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of KV cache of one more token, on one device."""
    whole_model, e = e, scenario.one_stage(e)
    layers = SizedLayers(t, e, attention_kinds(e).items(), numbers=("window", "chunk"))
    tp, width = scenario.tensor_ranks(t, e), _element_bytes(t, e)
    total = t.define(
        "c", "cache of one more token, one device", "byte",
        lambda b, ranks, *sizes: per_token(layers.model(sizes), b, ranks),
        width, tp, *layers.symbols, fold=True,
    )  # fmt: skip
    parts = kind_parts(e, lambda kind, b: _growth(kind, b, e.deployment.tp))
    ranks = e.deployment.tp
    whole = shown(ranks * float(t.values[total]), "byte")
    return Answer([total], parts, [
        *([f"On the {ranks} tensor-parallel ranks together: {whole} per token."] if ranks > 1 else []),
        *([f"Each of {e.deployment.cp} context ranks keeps its share of the tokens."]
          if e.deployment.cp > 1 else []),
        *scenario.stage_notes(whole_model),
        "A short sequence: layers with a window stop growing there; states of fixed size do not count.",
    ])  # fmt: skip


def cache_of_request(t: Trace, e: Estimate, symbol: str = "C_request") -> Request:
    """Return the symbols of the cache of one sequence, in the engine's way of paging.

    ``symbol`` is that of its bytes: ``C_request`` where a request is nothing else.
    """
    e = scenario.one_stage(e)
    kinds = cache_kinds(e, precision_of(e.model, e.deployment).kv_bytes)
    if not kinds or not shares_pages(e.engine.paging, [kind.numbers for kind in kinds]):
        return _plain(t, e, symbol)
    if all(kind.numbers.kind == "state" for kind in kinds):
        return _only_states(t, e, kinds, symbol)
    return _grouped(t, e, kinds, symbol)


def _size_words(symbol: str) -> str:
    return f"cache of one {symbol.removeprefix('C_')} on one device"


def _plain(t: Trace, e: Estimate, symbol: str) -> Request:
    """Each kind of layers in a pool of its own: whole blocks of tokens."""
    tokens = t.define(
        "T", f"tokens a request is charged for{_where(e)}", "tokens",
        lambda prompt, output, cp, block: request_tokens(share_of_tokens(prompt + output, cp), 0, block),
        scenario.prompt_tokens(t, e), scenario.output_tokens(t, e), scenario.context_ranks(t, e),
        _block(t, e),
    )  # fmt: skip
    layers = SizedLayers(t, e, attention_kinds(e).items())
    size = t.define(
        symbol, _size_words(symbol), "byte",
        lambda tokens, b, ranks, *sizes: cache_bytes_per_sequence(layers.model(sizes), tokens, b, ranks),
        tokens, _element_bytes(t, e), scenario.tensor_ranks(t, e), *layers.symbols,
    )  # fmt: skip
    return Request(size, tokens)


class _Groups:
    """Symbols of kinds of cache: layers, bytes of a token or a state in one layer, groups."""

    def __init__(self, t: Trace, e: Estimate, kinds: list[CacheKind]):
        self.kinds, self._t = kinds, t
        limits = ("window", "chunk")
        self._layers = SizedLayers(t, e, [(kind.part, kind.numbers.count) for kind in kinds], numbers=limits)
        self._inputs = (_element_bytes(t, e), scenario.tensor_ranks(t, e), *self._layers.symbols)
        self.counts = [self._layers.count(index) for index in range(1, len(kinds) + 1)]
        self.endings = [self._layers.ending(index) for index in range(1, len(kinds) + 1)]
        self.sizes = [self._size(index) for index in range(len(kinds))]

    def _size(self, index: int):
        kind = self.kinds[index]
        is_state = kind.numbers.kind == "state"
        name, symbol = ("state_bytes", "s") if is_state else ("bytes_per_token", "c")
        words = "state of one sequence" if is_state else "cache of one token"

        def of_one_layer(b, ranks, *sizes):
            one = self._layers.model(sizes, only=index + 1)
            return getattr(layer_caches(one, b, ranks)[kind.place], name)

        return self._t.define(
            symbol + self.endings[index], f"{words} in one layer, {kind.name}", "byte",
            of_one_layer, *self._inputs, fold=True,
        )  # fmt: skip

    def select(self, symbols, states: bool) -> list:
        """Return those of the symbols that belong to states, or those that do not."""
        return [
            s for s, kind in zip(symbols, self.kinds, strict=True) if (kind.numbers.kind == "state") == states
        ]


def _only_states(t: Trace, e: Estimate, kinds: list[CacheKind], symbol: str) -> Request:
    """One page a request, which holds all of its states."""
    groups, block = _Groups(t, e, kinds), _block(t, e)
    tokens = _length(t, e)

    def page(length, block, *symbols):
        counts, states = symbols[: len(kinds)], symbols[len(kinds) :]
        rows = [
            LayerCaches("state", count, 0.0, None, size) for count, size in zip(counts, states, strict=True)
        ]
        return paging(rows, length, block, 0).request_bytes

    size = t.define(
        symbol, f"{_size_words(symbol)}: its states", "byte",
        page, tokens, block, *groups.counts, *groups.sizes,
    )  # fmt: skip
    one = t.derived("g", "pages that the tokens of a page take", 1, "count", "one page holds all states")
    rows = [
        (kind, float(kind.numbers.count * t.values[state]), kind.numbers.count)
        for kind, state in zip(kinds, groups.sizes, strict=True)
    ]
    return Request(size, tokens, size, block, one, rows)


def _grouped(t: Trace, e: Estimate, kinds: list[CacheKind], symbol: str) -> Request:
    """Pages of equal size from one pool: a block of tokens of a group of layers."""
    groups, tokens = _Groups(t, e, kinds), _length(t, e)
    growing, states = groups.select(groups.sizes, False), groups.select(groups.sizes, True)
    each = growing[0]
    if len(growing) > 1:
        words = "cache of one token that a page is made for, one layer"
        each = t.define("c_page", words, "byte", lambda *sizes: maximum(*sizes), *growing)
    block = _block(t, e)
    if states:
        block = t.define(
            "B_page", "tokens of a page, enlarged until a layer's share holds a state", "tokens",
            lambda block, each, *states: page_tokens(block, each, states), block, each, *states,
        )  # fmt: skip
    layers, each_groups = _group_sizes(t, groups)
    page = t.define("M_page", "bytes of a page", "byte", page_bytes, layers, block, each)
    count = _request_pages(t, e, groups, tokens, block, each_groups)
    size = t.define(
        symbol, _size_words(symbol), "byte",
        lambda count, page: Paging(page, count, 1, 1, 1).request_bytes, count, page,
    )  # fmt: skip
    return Request(
        size, tokens, page, block, _all_groups(t, each_groups), _rows(t, groups, each_groups, page, layers)
    )


def _group_sizes(t: Trace, groups: _Groups):
    """Symbols of the layers of a group and of the groups of each kind."""
    if len(groups.kinds) == 1:
        return groups.counts[0], [1]
    layers = t.define(
        "L_group", "layers of one group: those of the rarest kind", "count",
        lambda *counts: group_layers(counts), *groups.counts,
    )  # fmt: skip
    return layers, [
        t.define(f"g{ending}", f"groups of layers, {kind.name}", "count", groups_of, count, layers)
        for kind, count, ending in zip(groups.kinds, groups.counts, groups.endings, strict=True)
    ]


def _all_groups(t: Trace, each_groups):
    if len(each_groups) == 1:
        return t.derived("g", "groups of layers", 1, "count", "all layers keep the same kind of cache")
    return t.define("g", "groups of layers, all kinds", "count", lambda *each: sum(each), *each_groups)


def _request_pages(t: Trace, e: Estimate, groups: _Groups, tokens, block, each_groups):
    """Symbol of the pages of a request."""
    single = len(groups.kinds) == 1
    each_blocks = []
    for kind, ending in zip(groups.kinds, groups.endings, strict=True):
        if kind.numbers.kind == "state":
            each_blocks.append(1)
            continue
        symbol, words = ("k_request", "pages of one request") if single else (
            f"k{ending}", f"blocks of one request in one group, {kind.name}")  # fmt: skip
        each_blocks.append(_blocks(t, e, kind, ending, symbol, words, tokens, block))
    if single:
        return each_blocks[0]
    half = len(each_groups)
    return t.define(
        "k_request", "pages of one request", "count",
        lambda *v: pages_of_request(v[:half], v[half:]), *each_groups, *each_blocks,
    )  # fmt: skip


def _blocks(t: Trace, e: Estimate, kind: CacheKind, ending: str, symbol, words, tokens, block):
    row = kind.numbers
    if row.reach is None:
        return t.define(
            symbol, words, "count", lambda tokens, block: blocks(row, tokens, block, 0), tokens, block
        )
    name = "chunk" if row.kind == "chunked" else "window"
    reach = scenario.model_size(t, e, name + ending, f"tokens in the {name}", row.reach)
    batched = scenario.token_budget(t, e)
    return t.define(
        symbol, words, "count",
        lambda reach, tokens, block, batched: blocks(replace(row, reach=reach), tokens, block, batched),
        reach, tokens, block, batched,
    )  # fmt: skip


def _rows(t: Trace, groups: _Groups, each_groups, page, layers) -> list[tuple[CacheKind, float, float]]:
    """What each kind reserves for a request: (kind, bytes, layers charged)."""
    rows = []
    for kind, ending, count in zip(groups.kinds, groups.endings, each_groups, strict=True):
        name = "k_request" if len(groups.kinds) == 1 else f"k{ending}"
        held = 1 if kind.numbers.kind == "state" else t.value(name)
        number = t.values.get(count, count)
        rows.append((kind, float(number * held * t.values[page]), number * t.values[layers]))
    return rows


def _length(t: Trace, e: Estimate):
    return t.define(
        "T", f"tokens of a request{_where(e)}", "tokens",
        lambda prompt, output, ranks: share_of_tokens(prompt + output, ranks),
        scenario.prompt_tokens(t, e), scenario.output_tokens(t, e), scenario.context_ranks(t, e),
    )  # fmt: skip


def _where(e: Estimate) -> str:
    return " on one context rank" if e.deployment.cp > 1 else ""


def _block(t: Trace, e: Estimate):
    return t.fact("B_block", "tokens of a cache block", e.engine.facts["block_tokens"])


def _element_bytes(t: Trace, e: Estimate):
    width, chosen = precision_of(e.model, e.deployment).kv_bytes, e.deployment.kv_dtype
    stored = e.model.checkpoint.kv_dtype
    note = f"cache in {chosen or stored or 'bf16'}" + (
        ", as the checkpoint says" if stored and not chosen else ""
    )
    return t.derived("b", "bytes per cached element", width, "byte", note)


def kind_parts(e: Estimate, size_of) -> list[Part]:
    """Rows by kind of attention; ``size_of(kind, bytes per element)`` is one layer's."""
    width, parts = precision_of(e.model, e.deployment).kv_bytes, []
    for part, count in attention_kinds(e).items():
        size = float(count * size_of(attention(part), width))
        limit = dict(part.sizes).get("window") or dict(part.sizes).get("chunk")
        name = part.kind + (f", window {limit}" if limit else "")
        parts.append(Part(name, size, "byte", shown(size, "byte"), f"{count} layers", {"layers": count}))
    return parts


def _growth(kind, width, tp):
    return kind.cache_bytes(2, width, tp) - kind.cache_bytes(1, width, tp)
