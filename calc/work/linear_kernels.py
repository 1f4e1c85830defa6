"""Kernels of linear attention: short convolutions, updates of states, scans over chunks.

Recurrent states are fp32, the tails of convolutions 16 bits, whatever the cache dtype.
"""

from calc.specs.numeric import ceil, minimum
from calc.work.op import Op, Precision

STATE_BYTES = 4  # engines and transformers keep recurrent states in fp32
CONV_BYTES = 2  # and the tail of the short convolution in 16 bits, whatever the cache dtype
CHUNK = 64  # tokens that a prefill kernel works on at once (flash-linear-attention)
CHANNELS = 256  # that one block of a convolution kernel works on


def convolution(name: str, phase: str, n_sequences, new_tokens, channels, d_conv, precision: Precision) -> Op:
    """Return the Op of a short causal convolution of ``channels``, each on its own.

    ``2 d_conv`` flops per token and channel; inputs are read, outputs written, and the last
    ``d_conv`` inputs of each sequence kept: read and written in decode (``conv1d_update``),
    written by prefill (``conv1d``).
    """
    decode = phase == "decode"
    elements = 1.0 * n_sequences * new_tokens * channels
    return Op(
        name=name,
        kind="conv1d_update" if decode else "conv1d",
        dtype=precision.activation,
        flops=2.0 * elements * d_conv,
        weight_bytes=CONV_BYTES * channels * d_conv * minimum(1, n_sequences),
        cache_bytes=(2 if decode else 1) * CONV_BYTES * n_sequences * channels * d_conv,
        activation_bytes=2 * precision.activation_bytes * elements,
        shape={
            "batch": n_sequences, "new": new_tokens, "channels": channels,
            "items": n_sequences * channels / CHANNELS, "steps": 1, "chunk_bytes": 0.0,
        },
    )  # fmt: skip


def recurrent_update(
    name: str, n_sequences, new_tokens, key_heads, heads, d_key, d_value, precision: Precision
) -> Op:
    """Return the Op of the gated delta rule, token by token: each state is read and written once.

    7 flops per state element and token: decay, read by key, update, read by query.
    """
    state, tokens = d_key * d_value, n_sequences * new_tokens
    moved = tokens * (2 * key_heads * d_key + 2 * heads * d_value)
    return Op(
        name=name,
        kind="recurrent_update",
        dtype=precision.activation,
        flops=7.0 * tokens * heads * state,
        cache_bytes=2.0 * STATE_BYTES * n_sequences * heads * state,
        activation_bytes=precision.activation_bytes * moved,
        items=n_sequences * heads,
        shape={
            "batch": n_sequences, "new": new_tokens, "heads": heads, "items": n_sequences * heads,
            "steps": new_tokens, "chunk_bytes": 0.0,
        },
    )  # fmt: skip


def chunk_scan(
    name: str, n_sequences, new_tokens, key_heads, heads, d_key, d_value, precision: Precision
) -> Op:
    """Return the Op of the gated delta rule in chunks of 64 tokens, one after the other.

    Products inside a chunk grow with its length. Each state is read and written once;
    ``chunk_bytes`` are the states after each chunk, written and read again in 16 bits by
    kernels that do not keep them on the chip.
    """
    state, tokens = d_key * d_value, n_sequences * new_tokens
    inside, steps = 3 * d_key + 2 * d_value, ceil(new_tokens / CHUNK)
    moved = tokens * (2 * key_heads * d_key + 2 * heads * d_value)
    return Op(
        name=name,
        kind="chunk_scan",
        dtype=precision.activation,
        flops=tokens * heads * (6.0 * state + 2.0 * CHUNK * inside + CHUNK**2),
        cache_bytes=2.0 * STATE_BYTES * n_sequences * heads * state,
        activation_bytes=precision.activation_bytes * moved,
        items=n_sequences * heads,
        shape={
            "batch": n_sequences, "new": new_tokens, "heads": heads, "items": n_sequences * heads,
            "steps": steps, "chunk_bytes": 4.0 * n_sequences * steps * heads * state,
        },
    )  # fmt: skip
