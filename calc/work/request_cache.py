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


def reserved_bytes(sequence_bytes, prompt_bytes, shared_bytes, sequences):
    """Bytes reserved for a request: blocks of its prompt once, the rest for each of its sequences. [byte]

    Parameters
    ----------
    sequence_bytes : number or array
        Of one sequence, prompt and output. [byte]
    prompt_bytes, shared_bytes : number or array
        Of the prompt's full blocks, and of those that all requests share. [byte]
    sequences : number or array
        Continuations of the prompt.

    Examples
    --------
    >>> reserved_bytes(5e6, 4e6, 1e6, 1), reserved_bytes(5e6, 4e6, 1e6, 3)
    (4000000.0, 6000000.0)
    """
    branched = prompt_bytes + sequences * (sequence_bytes - prompt_bytes)
    return where(sequences > 1, branched, sequence_bytes) - shared_bytes


def beside_drafts(pool_bytes, request_bytes, draft_request_bytes):
    """Part of a pool that requests take for themselves where their drafts keep a cache too. [byte]

    Examples
    --------
    >>> beside_drafts(50e9, 3e9, 1e9)
    37500000000.0
    """
    return pool_bytes * request_bytes / (request_bytes + draft_request_bytes)


class RequestCache:
    """Cache of one request and of what requests share, in the engine's way of paging."""

    def __init__(self, stage: Model, d: Deployment, load: Workload, engine: Engine, precision: Precision):
        self._stage, self._d, self._engine, self._width = stage, d, engine, precision.kv_bytes
        self._rows: list[LayerCaches] = layer_caches(stage, self._width, d.tp)
        self._batched = d.max_batched_tokens or engine.max_batched_tokens
        self._grouped = shares_pages(engine.paging, self._rows)
        #: states of fixed size, which every sequence has of its own
        self._states = sum(row.count * row.state_bytes for row in self._rows if row.kind == "state")
        prompt, total = load.prompt_tokens, load.prompt_tokens + load.output_tokens
        block = engine.block_tokens
        self.whole: Paging = paging(self._rows, share_of_tokens(total, d.cp), block, self._batched)
        shared = floor(load.shared_prefix_tokens / block) * block
        sequences = load.sequences_per_request
        self.sequence_bytes, self.prompt_bytes = (
            self._bytes(total),
            self._common(floor(prompt / block) * block),
        )
        self.shared_bytes = self._common(shared)
        whole = self.sequence_bytes, self.prompt_bytes
        self.request_bytes = reserved_bytes(*whole, self.shared_bytes, sequences)
        used, used_prompt, used_shared = (
            cache_bytes_per_sequence(stage, tokens / d.cp, self._width, d.tp)
            for tokens in (total, prompt, shared)
        )
        used_prompt, used_shared = used_prompt - self._states, used_shared - self._states
        self.used_bytes = used_prompt + sequences * (used - used_prompt) - where(shared > 0, used_shared, 0.0)
        self._total = total

    @property
    def sizes(self) -> tuple:
        """Bytes of the shared prefix, reserved for a request beside it, and used by it. [byte]"""
        return self.shared_bytes, self.request_bytes, self.used_bytes

    def _common(self, tokens):
        """Bytes that whole blocks of common tokens take, nothing where there are none."""
        own = self.whole.state_bytes if self._grouped else self._states
        return where(tokens > 0, self._bytes(maximum(tokens, 1)) - own, 0.0)

    def _bytes(self, tokens):
        """Bytes reserved on one device for one sequence of so many tokens."""
        share, block = share_of_tokens(tokens, self._d.cp), self._engine.block_tokens
        if self._grouped:
            return paging(self._rows, share, block, self._batched).request_bytes
        return cache_bytes_per_sequence(self._stage, request_tokens(share, 0, block), self._width, self._d.tp)

    def max_concurrency(self, pool, draft: "RequestCache | None" = None):
        """Requests that a pool holds at once, with fraction; ``draft`` is what their drafts keep. [count]"""
        if self._grouped:  # whole pages only
            pool = self.whole.pages(pool) * self.whole.page_bytes
        shared, request = self.shared_bytes, self.request_bytes
        if draft is not None:
            shared, request = shared + draft.shared_bytes, request + draft.request_bytes
        return requests_held(pool, shared, maximum(request, 1.0))

    def cache_tokens(self, pool, draft: "RequestCache | None" = None):
        """Tokens that a pool holds beside their drafts' cache, counted as the engine's log does. [tokens]"""
        if draft is not None:
            pool = beside_drafts(pool, maximum(self.request_bytes, 1.0), draft.request_bytes)
        if self._grouped:
            return self.whole.cache_tokens(pool) * self._d.cp
        return tokens_held(pool, maximum(self._bytes(self._total), 1.0), self._total)
