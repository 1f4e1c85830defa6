"""Kernels of linear attention: short convolutions, updates of states, scans over chunks.

Recurrent states are fp32, the tails of convolutions 16 bits, whatever the cache dtype. All
kinds share the kernels' shape; a ``Rule`` says what differs: flops, chunk, and the name by
which calibrations tell kernels apart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from calc.specs.numeric import ceil, minimum
from calc.work.op import Op, Precision, Sequences

STATE_BYTES = 4  # engines and transformers keep recurrent states in fp32
CONV_BYTES = 2  # and the tail of the short convolution in 16 bits, whatever the cache dtype
CHANNELS = 256  # that one block of a convolution kernel works on


class StateHeads(NamedTuple):
    """Heads of one device and their state: ``d_key x d_value`` each; keys shared by groups of heads."""

    key_heads: object
    heads: object
    d_key: object
    d_value: object

    @property
    def state(self):
        """Elements of all states of one sequence."""
        return self.heads * self.d_key * self.d_value

    @property
    def moved(self):
        """Elements read and written for one token: query and key, value and output."""
        return 2 * self.key_heads * self.d_key + 2 * self.heads * self.d_value


@dataclass(frozen=True)
class Rule:
    """How a kind of linear attention updates its states.

    Attributes
    ----------
    format : str
        Name by which calibrations know its kernels.
    update_flops : float
        Per state element and token, one token at a time.
    chunk : int
        Tokens that a prefill kernel works on at once.
    scan_flops : callable
        Of ``StateHeads`` and ``chunk``: flops per token of a scan over chunks.
    spills : bool
        Whether the states of chunks all pass through memory, in 16 bits. Else a share of them
        does, which forms fit from ``chunk_bytes``.
    """

    format: str
    update_flops: float
    chunk: int
    scan_flops: Callable
    spills: bool = False


def _delta_flops(h: StateHeads, chunk):
    """Products of the delta rule in chunks: with the state, inside the chunk, and its inverse."""
    inside = 3 * h.d_key + 2 * h.d_value
    return h.heads * (6.0 * h.d_key * h.d_value + 2.0 * chunk * inside + chunk**2)


def _decay_flops(h: StateHeads, chunk):
    """Products of a decayed sum in chunks: with the state, scores by group of heads, times values."""
    return 4.0 * h.state + 2.0 * chunk * (h.key_heads * h.d_key + h.heads * h.d_value)


#: decay, read by key, update, read by query; chunks of flash-linear-attention
GATED_DELTA = Rule("gated-delta-rule", 7.0, 64, _delta_flops)
#: the same with a decay for each channel
KIMI_DELTA = Rule("kimi-delta-rule", 7.0, 64, _delta_flops)
#: decay 1, outer product 2, read-out 2
LIGHTNING = Rule("lightning", 5.0, 256, _decay_flops, spills=True)
MAMBA2 = Rule("mamba2", 5.0, 256, _decay_flops, spills=True)
#: decay formed and applied 2, input 1, update 2, read-out 2; a scan token by token
MAMBA1 = Rule("mamba1", 7.0, 1, lambda h, chunk: 7.0 * h.state)


def convolution(
    name: str, phase: str, n_sequences, new_tokens, channels, d_conv, precision: Precision, model: str = ""
) -> Op:
    """Return the Op of a short causal convolution of ``channels``, each on its own.

    ``2 d_conv`` flops per token and channel; inputs are read, outputs written, and the last
    ``d_conv`` inputs of each sequence kept: read and written in decode (``conv1d_update``),
    written by prefill (``conv1d``). ``model``: Mamba's tables are fitted by themselves.
    """
    decode = phase == "decode"
    elements = 1.0 * n_sequences * new_tokens * channels
    return Op(
        name=name,
        kind="conv1d_update" if decode else "conv1d",
        dtype=precision.activation,
        format=("causal-conv1d-update" if decode else "causal-conv1d-fn") + (f"-{model}" if model else ""),
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
    name: str, n_sequences, new_tokens, heads: StateHeads, precision: Precision, rule: Rule = GATED_DELTA
) -> Op:
    """Return the Op of states updated token by token: each is read and written once."""
    tokens = n_sequences * new_tokens
    flops, moved = rule.update_flops * tokens * heads.state, tokens * heads.moved
    sizes = {"batch": n_sequences, "new": new_tokens, "steps": new_tokens, "chunk_bytes": 0.0}
    return _state_op(name, "recurrent_update", rule, heads, precision, (flops, moved), sizes)


def chunk_scan(
    name: str, n_sequences, new_tokens, heads: StateHeads, precision: Precision, rule: Rule = GATED_DELTA
) -> Op:
    """Return the Op of states updated in chunks of tokens, one after the other.

    Products inside a chunk grow with its length. Each state is read and written once;
    ``chunk_bytes`` are the states after each chunk, written and read again in 16 bits by
    kernels that do not keep them on the chip.
    """
    tokens, steps = n_sequences * new_tokens, ceil(new_tokens / rule.chunk)
    flops, moved = tokens * rule.scan_flops(heads, rule.chunk), tokens * heads.moved
    between = 2.0 * n_sequences * steps * heads.state
    spilled, kept = (between, 0.0) if rule.spills else (0.0, 2.0 * between)
    sizes = {"batch": n_sequences, "new": new_tokens, "steps": steps, "chunk_bytes": kept}
    return _state_op(name, "chunk_scan", rule, heads, precision, (flops, moved + spilled), sizes)


def _state_op(name, kind, rule: Rule, heads: StateHeads, precision: Precision, work: tuple, sizes) -> Op:
    """Return the Op of one call over the states of all sequences; ``work``: flops, elements moved."""
    flops, moved = work
    items = sizes["batch"] * heads.heads
    return Op(
        name=name,
        kind=kind,
        dtype=precision.activation,
        format=rule.format,
        flops=flops,
        cache_bytes=2.0 * STATE_BYTES * sizes["batch"] * heads.state,
        activation_bytes=precision.activation_bytes * moved,
        items=items,
        shape={**sizes, "heads": heads.heads, "items": items},
    )


def state_update(prefix: str, group: Sequences, heads: StateHeads, precision: Precision, rule: Rule) -> Op:
    """Return the Op by which a group of sequences updates its states: token by token, or in chunks."""
    kernel = recurrent_update if group.phase == "decode" else chunk_scan
    return kernel(f"{prefix}.{group.phase}", group.n_sequences, group.new_tokens, heads, precision, rule)


def short_convolution(
    prefix: str, group: Sequences, channels, d_conv, precision: Precision, model: str = ""
) -> Op:
    """Return the Op of the short convolution of a group of sequences."""
    name, sizes = f"{prefix}.conv_{group.phase}", (group.n_sequences, group.new_tokens)
    return convolution(name, group.phase, *sizes, channels, d_conv, precision, model)
