"""What attention kinds share: which pairs a step visits, which heads a rank holds, its tokens."""

from calc.specs.numeric import floor, maximum, minimum
from calc.work.op import Sequences


def causal_pairs(new_tokens, past_tokens, window=None, chunk=None):
    """Number of (query, key) pairs that causal attention visits for one sequence and head.

    Query number i of the new tokens sees itself, the new tokens before it and the past:
    ``past + i`` keys, at most ``window`` of them; with ``chunk`` only those in its own chunk.

    Examples
    --------
    >>> causal_pairs(4, 0), causal_pairs(1, 9), causal_pairs(4, 0, window=2), causal_pairs(4, 0, chunk=2)
    (10.0, 10.0, 7.0, 6.0)
    """
    if chunk is not None:
        return _chunk_pairs(past_tokens + new_tokens, chunk) - _chunk_pairs(past_tokens, chunk)
    if window is None:
        return new_tokens * past_tokens + new_tokens * (new_tokens + 1) / 2
    growing = minimum(maximum(window - past_tokens, 0), new_tokens)
    return growing * past_tokens + growing * (growing + 1) / 2 + (new_tokens - growing) * window


def _chunk_pairs(tokens, chunk):
    whole = floor(tokens / chunk)
    rest = tokens - whole * chunk
    return whole * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2


def heads_per_device(n_heads, tp):
    """Heads one rank holds: an even share, but at least one (copied where tp > n_heads).

    Examples
    --------
    >>> heads_per_device(8, 4), heads_per_device(8, 16)
    (2.0, 1)
    """
    return maximum(1, n_heads / tp)


def step_tokens(groups: tuple[Sequences, ...]):
    """All new tokens of a step."""
    return sum(group.tokens for group in groups)
