"""How engines hand out cache: whole blocks, and layer groups that share one pool.

An engine does not store bytes per token but blocks of tokens. Models whose layers differ
(full and sliding attention, attention and recurrent states) get groups of layers that draw
pages of equal size from one pool; the smaller group is padded. These rules are vLLM's V1
hybrid cache manager; with layers of one kind they reduce to plain block rounding.
"""

from dataclasses import dataclass, replace

from calc.specs.model import Model
from calc.specs.numeric import ceil, floor, maximum, minimum
from calc.work.attention import attention
from calc.work.cache import CachePart


@dataclass(frozen=True, eq=False)
class LayerCaches:
    """Layers that keep the same kind of cache: how many, how much a token or a state takes.

    ``reach`` is the window or chunk of local attention, None where all tokens are kept;
    ``state_bytes`` is what a recurrent layer keeps per sequence. Bytes are of one layer on
    one device.
    """

    kind: str  # "full", "sliding", "chunked" or "state"
    count: int
    bytes_per_token: object
    reach: int | None = None
    state_bytes: object = 0
    apart: bool = False  # one of several caches in a layer, each with a pool of its own


def layer_caches(model: Model, dtype_bytes, tp=1) -> list[LayerCaches]:
    """Return the kinds of cache in a model's layers, equal ones together; layers without left out."""
    rows: dict[tuple, LayerCaches] = {}
    for layer, count in model.distinct_layers:
        if layer.attention is None:
            continue
        for row in _caches_of(attention(layer.attention), count, dtype_bytes, tp):
            key = (row.kind, row.reach, str(row.bytes_per_token), str(row.state_bytes))
            known = rows.get(key)
            rows[key] = replace(row, count=row.count + (known.count if known else 0))
    return list(rows.values())


def _caches_of(kind, count: int, dtype_bytes, tp) -> list[LayerCaches]:
    if hasattr(kind, "cache_parts"):
        parts = kind.cache_parts(dtype_bytes, tp)
        return [_part(part, count, len(parts) > 1) for part in parts]
    first, second = kind.cache_bytes(1, dtype_bytes, tp), kind.cache_bytes(2, dtype_bytes, tp)
    per_token = second - first
    window, chunk = getattr(kind, "window", None), getattr(kind, "chunk", None)
    if getattr(kind, "fixed_state", False):
        return [LayerCaches("state", count, 0.0, state_bytes=first)]
    if getattr(kind, "shares_cache", False):
        return []
    if window or chunk:
        return [LayerCaches("sliding" if window else "chunked", count, per_token, window or chunk)]
    return [LayerCaches("full", count, per_token)]


def _part(part: CachePart, count: int, apart: bool) -> LayerCaches:
    if part.reach is not None:
        return LayerCaches("sliding", count, part.bytes_per_token, part.reach, apart=apart)
    kind = "state" if type(part.bytes_per_token) is float and not part.bytes_per_token else "full"
    return LayerCaches(kind, count, part.bytes_per_token, None, part.state_bytes, apart)


def shares_pages(way: str, rows: list[LayerCaches]) -> bool:
    """Return whether an engine draws these caches from pages of one size.

    Not where layers keep several caches of different density (DeepSeek-V4): pages as large
    as the densest needs would be nearly empty, and engines give each a pool of its own.
    """
    return way == "groups" and not any(row.apart for row in rows)


@dataclass(frozen=True, eq=False)
class Paging:
    """Pool and requests in pages: a page is one block of ``group_layers`` layers.

    ``request_pages`` is what one request of the given length occupies, ``groups`` how many
    pages one block of tokens takes over all groups, ``padded_layers`` the layer slots that
    are charged (at least the real ones), ``state_pages`` those of a request that hold states.
    """

    page_bytes: object
    request_pages: object
    groups: object
    block_tokens: object
    padded_layers: object
    state_pages: object = 0

    def pages(self, pool_bytes):
        """Whole pages in a pool."""
        return whole_pages(pool_bytes, maximum(self.page_bytes, 1e-9))

    def max_concurrency(self, pool_bytes):
        """Requests of this length that the pool holds at once, with fraction, as vLLM prints it."""
        return self.pages(pool_bytes) / self.request_pages

    def cache_tokens(self, pool_bytes):
        """Tokens as vLLM's line "GPU KV cache size" counts them."""
        return tokens_of_pages(self.pages(pool_bytes), self.groups, self.block_tokens)

    @property
    def request_bytes(self):
        """Bytes reserved for one request on one device. [byte]"""
        return self.request_pages * self.page_bytes

    @property
    def state_bytes(self):
        """Bytes of it that hold states of fixed size, which no two sequences share. [byte]"""
        return self.state_pages * self.page_bytes


def paging(rows: list[LayerCaches], request_tokens, block_tokens, max_batched_tokens) -> Paging:
    """Return the paging of requests of a length.

    Parameters
    ----------
    rows : list of LayerCaches
        From ``layer_caches``.
    request_tokens : number or array
        Tokens of one request, prompt and output. [tokens]
    block_tokens : number
        Tokens of one block. [tokens]
    max_batched_tokens : number
        Tokens a step may bring: a window is reserved with that many more. [tokens]

    Notes
    -----
    Group size is the smallest count of layers of one kind; each kind takes
    ``ceil(count / size)`` groups, the last one padded. With recurrent layers the block is
    enlarged until the page of an attention group holds one state. Kinds whose pages differ
    in size for another reason are charged the largest.
    """
    if not rows:
        return Paging(0.0, 1.0, 1.0, block_tokens, 0)
    growing = [row for row in rows if row.kind != "state"]
    states = [row for row in rows if row.kind == "state"]
    if not growing:  # only states: one page per request holds them all
        size = sum(row.count * row.state_bytes for row in states)
        return Paging(size, 1.0, 1.0, block_tokens, sum(row.count for row in states), 1.0)
    per_token = maximum(*[row.bytes_per_token for row in growing])
    block = page_tokens(block_tokens, per_token, [row.state_bytes for row in states])
    size = group_layers([row.count for row in rows])
    groups = [groups_of(row.count, size) for row in rows]
    pages = pages_of_request(groups, [blocks(row, request_tokens, block, max_batched_tokens) for row in rows])
    held = sum(count for count, row in zip(groups, rows, strict=True) if row.kind == "state")
    return Paging(page_bytes(size, block, per_token), pages, sum(groups), block, size * sum(groups), held)


def group_layers(counts):
    """Layers of one group: as many as the kind with the fewest has. [count]

    Examples
    --------
    Gemma-3-27B, 52 layers with a window and 10 without:

    >>> group_layers([52, 10])
    10
    """
    return minimum(*counts)


def groups_of(count, size):
    """Groups that so many layers of a kind take, the last one padded. [count]

    Examples
    --------
    >>> groups_of(52, 10)
    6
    """
    return ceil(count / size)


def page_tokens(block_tokens, bytes_per_token, states=()):
    """Tokens of a page: a block, enlarged until one layer's share holds a state. [tokens]

    Examples
    --------
    >>> page_tokens(16, 2048, [2_162_688])
    1056
    """
    result = block_tokens
    for state_bytes in states:
        result = maximum(result, ceil(state_bytes / bytes_per_token / block_tokens) * block_tokens)
    return result


def page_bytes(layers, tokens, bytes_per_token):
    """Bytes of a page: so many layers and tokens. [byte]"""
    return layers * tokens * bytes_per_token


def whole_pages(pool_bytes, page_bytes):
    """Whole pages in a pool. [count]"""
    return floor(pool_bytes / page_bytes)


def tokens_of_pages(pages, groups, tokens):
    """Tokens that pages hold, if each is kept in a page of every group. [tokens]"""
    return floor(pages / groups) * tokens


def pages_of_request(groups, blocks):
    """Pages of a request: of each kind of layers its groups times its blocks. [count]"""
    return sum(count * each for count, each in zip(groups, blocks, strict=True))


def blocks(row: LayerCaches, tokens, block, max_batched_tokens):
    """Blocks that one group of a kind reserves for a request. [count]"""
    if row.kind == "state":
        return 1
    if row.kind == "sliding":
        return ceil(minimum(row.reach - 1 + max_batched_tokens, tokens) / block) + 1
    if row.kind == "chunked":
        return ceil(minimum(row.reach + max_batched_tokens, tokens) / block)
    return ceil(tokens / block)
