"""Cache of one request and of what requests share, as an engine reserves it; requests a pool holds."""

from calc.specs.deployment import Deployment
from calc.specs.engine import Engine
from calc.specs.model import Model
from calc.specs.numeric import floor, maximum, where
from calc.specs.workload import Workload
from calc.work.memory import cache_bytes_per_sequence, request_tokens
from calc.work.op import Precision
from calc.work.paging import LayerCaches, Paging, layer_caches, paging, shares_pages


def requests_held(pool_bytes, shared_bytes, request_bytes):
    """Requests that a pool holds at once beside what they share, with fraction. [count]

    Examples
    --------
    >>> requests_held(50e9, 1e9, 2e9)
    24.5
    """
    return maximum(0.0, pool_bytes - shared_bytes) / request_bytes


def tokens_held(pool_bytes, request_bytes, tokens):
    """Tokens that a pool holds in requests of so many tokens. [tokens]

    Examples
    --------
    >>> tokens_held(50e9, 2e9, 1000)
    25000
    """
    return floor(pool_bytes / request_bytes * tokens)


def share_of_tokens(tokens, cp):
    """Tokens of a sequence on one of ``cp`` context ranks. [tokens]

    Examples
    --------
    >>> share_of_tokens(8192, 4)
    2048.0
    """
    return tokens / cp


class RequestCache:
    """Cache of one request and of what requests share, in the engine's way of paging."""

    def __init__(self, stage: Model, d: Deployment, load: Workload, engine: Engine, precision: Precision):
        self._stage, self._d, self._engine, self._width = stage, d, engine, precision.kv_bytes
        self._rows: list[LayerCaches] = layer_caches(stage, self._width, d.tp)
        self._batched = d.max_batched_tokens or engine.max_batched_tokens
        self._grouped = shares_pages(engine.paging, self._rows)
        prompt, total = load.prompt_tokens, load.prompt_tokens + load.output_tokens
        block = engine.block_tokens
        self.whole: Paging = paging(self._rows, share_of_tokens(total, d.cp), block, self._batched)
        shared = floor(load.shared_prefix_tokens / block) * block
        sequences = load.sequences_per_request
        whole, together = self._bytes(total), self._common(floor(prompt / block) * block)
        branched = together + sequences * (whole - together)  # full prompt blocks once, the rest each
        self.shared_bytes = self._common(shared)
        self.request_bytes = where(sequences > 1, branched, whole) - self.shared_bytes
        used = cache_bytes_per_sequence(stage, total / d.cp, self._width, d.tp)
        used_prompt = cache_bytes_per_sequence(stage, prompt / d.cp, self._width, d.tp)
        used_shared = cache_bytes_per_sequence(stage, shared / d.cp, self._width, d.tp)
        self.used_bytes = used_prompt + sequences * (used - used_prompt) - where(shared > 0, used_shared, 0.0)
        self._total = total

    def _common(self, tokens):
        """Bytes that whole blocks of common tokens take, nothing where there are none."""
        return where(tokens > 0, self._bytes(maximum(tokens, 1)), 0.0)

    def _bytes(self, tokens):
        """Bytes reserved on one device for one sequence of so many tokens."""
        share, block = share_of_tokens(tokens, self._d.cp), self._engine.block_tokens
        if self._grouped:
            return paging(self._rows, share, block, self._batched).request_bytes
        return cache_bytes_per_sequence(self._stage, request_tokens(share, 0, block), self._width, self._d.tp)

    def max_concurrency(self, pool):
        """Requests that a pool holds at once, with fraction. [count]"""
        if self._grouped:  # whole pages only
            pool = self.whole.pages(pool) * self.whole.page_bytes
        return requests_held(pool, self.shared_bytes, maximum(self.request_bytes, 1.0))

    def cache_tokens(self, pool):
        """Tokens that a pool holds, counted as the engine's log does. [tokens]"""
        if self._grouped:
            return self.whole.cache_tokens(pool) * self._d.cp
        return tokens_held(pool, maximum(self._bytes(self._total), 1.0), self._total)
