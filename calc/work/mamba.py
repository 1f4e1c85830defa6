"""Mamba-1 and Mamba-2: selective state spaces, a state of fixed size per sequence.

The classes have the three methods of ``calc.work.attention``, which registers them. Both
keep the last ``d_conv`` inputs of a short convolution in 16 bits and the state in fp32, as
transformers does; vLLM keeps one input less.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from calc.specs.model import Weight
from calc.work.causal import heads_per_device, step_tokens
from calc.work.linear_kernels import (
    CONV_BYTES,
    MAMBA1,
    MAMBA2,
    STATE_BYTES,
    StateHeads,
    short_convolution,
    state_update,
)
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


def _convolutions(groups: tuple[Sequences, ...], channels, d_conv, precision: Precision) -> list[Op]:
    """Return the short convolution of each group of sequences."""
    return [short_convolution("mamba", group, channels, d_conv, precision, "mamba2") for group in groups]


@dataclass(frozen=True)
class Mamba1:
    """Mamba (Mamba, Falcon-Mamba, Jamba): ``d_state`` values per channel of ``d_inner``.

    ``normed``: Jamba's norms of time step, B and C. Tensor parallelism splits channels; the
    sum over ranks of the projection to time step, B and C is ignored.
    """

    d_model: int
    d_inner: int
    d_state: int
    d_conv: int
    dt_rank: int
    bias: bool = False
    conv_bias: bool = True
    normed: bool = False
    fixed_state: ClassVar[bool] = True

    @property
    def _selected(self) -> int:
        """Width of time step, B and C together."""
        return self.dt_rank + 2 * self.d_state

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: projections, convolution, state matrices, norms."""
        inner = self.d_inner
        weights = [
            Weight("mamba.in_proj", "attention", 2 * inner, self.d_model, split="out"),
            Weight("mamba.conv", "bias", inner, self.d_conv, split="out"),
            Weight("mamba.x_proj", "attention", self._selected, inner, split="in"),
            Weight("mamba.dt_proj", "attention", inner, self.dt_rank, split="out"),
            Weight("mamba.dt_proj.bias", "bias", inner, split="out"),
            Weight("mamba.a_log", "bias", inner, self.d_state, split="out"),
            Weight("mamba.d", "bias", inner, split="out"),
            Weight("mamba.out_proj", "attention", self.d_model, inner, split="in"),
        ]
        if self.conv_bias:
            weights.append(Weight("mamba.conv.bias", "bias", inner, split="out"))
        if self.bias:
            weights.append(Weight("mamba.in_proj.bias", "bias", 2 * inner, split="out"))
            weights.append(Weight("mamba.out_proj.bias", "bias", self.d_model))
        if self.normed:
            weights.append(Weight("mamba.norms", "norm", self._selected))
        return tuple(weights)

    def cache_bytes(self, tokens, dtype_bytes=2, tp=1):
        """Bytes that one sequence keeps in one layer on one device, however long it is. [byte]

        ``d_inner * (d_conv * 2 + d_state * 4)``.

        Examples
        --------
        Jamba-v0.1:

        >>> Mamba1(4096, 8192, 16, 4, 256).cache_bytes(1_000_000)
        589824.0
        """
        return 0 * tokens + self.d_inner / tp * (self.d_conv * CONV_BYTES + self.d_state * STATE_BYTES)

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, inner = step_tokens(groups), self.d_inner / tp
        return [
            gemm("mamba.in_proj", "attention", tokens, 2 * inner, self.d_model, precision),
            *_convolutions(groups, inner, self.d_conv, precision),
            gemm("mamba.x_proj", "attention", tokens, self._selected, inner, precision),
            gemm("mamba.dt_proj", "attention", tokens, inner, self.dt_rank, precision),
            *[self._core(group, inner, precision) for group in groups],
            gemm("mamba.out_proj", "attention", tokens, self.d_model, inner, precision),
        ]

    def _core(self, group: Sequences, inner, precision: Precision) -> Op:
        """Return update and read-out of the states, taken as heads of 64 channels.

        7 flops per state element and token: two for the decay (product and exponential), one
        for the input, two for the update, two for the read-out. The scan of prefill is
        sequential, with the state on the chip; no kernel of it was measured.
        """
        states = StateHeads(1, inner / 64, self.d_state, 64)
        update = state_update("mamba", group, states, precision, MAMBA1)
        moved = precision.activation_bytes * group.tokens * (4 * inner + 2 * self.d_state)
        kind = "recurrent_update" if group.phase == "decode" else "linear_attention"
        return replace(update, kind=kind, activation_bytes=moved)


@dataclass(frozen=True)
class Mamba2:
    """Mamba-2 (Mamba-2, Bamba, Granite 4, Nemotron-H): a ``d_head x d_state`` state per head.

    Groups of heads share B and C, as KV heads are shared; tensor parallelism splits heads
    and groups, and copies a group where there are more ranks. ``gated_norm``: the norm of
    the output; ``chunk_tokens``: those that prefill works on at once.
    """

    d_model: int
    n_heads: int
    d_head: int
    d_state: int
    n_groups: int
    d_conv: int
    chunk_tokens: int = 256
    bias: bool = False
    conv_bias: bool = True
    gated_norm: bool = True
    fixed_state: ClassVar[bool] = True

    def _shared(self, name: str, role: str, in_features: int = 1) -> Weight:
        """Return a weight of B and C, split as KV heads are."""
        width, groups = 2 * self.n_groups * self.d_state, self.n_groups
        return Weight(f"mamba.{name}", role, width, in_features, split="kv", kv_heads=groups)

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: input projection (gate, values, B, C, time step), convolution, ..."""
        inner, heads = self.n_heads * self.d_head, self.n_heads
        weights = [
            Weight("mamba.in_proj", "attention", 2 * inner + heads, self.d_model, split="out"),
            self._shared("bc_proj", "attention", self.d_model),
            Weight("mamba.conv", "bias", inner, self.d_conv, split="out"),
            self._shared("bc_conv", "bias", self.d_conv),
            *(Weight(f"mamba.{name}", "bias", heads, split="out") for name in ("dt_bias", "a_log", "d")),
            Weight("mamba.out_proj", "attention", self.d_model, inner, split="in"),
        ]
        if self.conv_bias:
            conv_bias = Weight("mamba.conv.bias", "bias", inner, split="out")
            weights += [conv_bias, self._shared("bc_conv.bias", "bias")]
        if self.bias:
            weights += [
                Weight("mamba.in_proj.bias", "bias", 2 * inner + heads, split="out"),
                self._shared("bc_proj.bias", "bias"),
                Weight("mamba.out_proj.bias", "bias", self.d_model),
            ]
        if self.gated_norm:
            weights.append(Weight("mamba.norm", "norm", inner, split="out"))
        return tuple(weights)

    def cache_bytes(self, tokens, dtype_bytes=2, tp=1):
        """Bytes that one sequence keeps in one layer on one device, however long it is. [byte]

        ``(n_heads * d_head + 2 * n_groups * d_state) * d_conv * 2 + n_heads * d_head * d_state * 4``.

        Examples
        --------
        Mamba-2 2.7B:

        >>> Mamba2(2560, 80, 64, 128, 1, 4).cache_bytes(1_000_000)
        2664448.0
        """
        values, shared = self._widths(tp)
        return 0 * tokens + (values + shared) * self.d_conv * CONV_BYTES + values * self.d_state * STATE_BYTES

    def _widths(self, tp):
        """Widths of the values, and of B and C, on one device."""
        values = heads_per_device(self.n_heads, tp) * self.d_head
        return values, 2 * heads_per_device(self.n_groups, tp) * self.d_state

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, heads = step_tokens(groups), self.n_heads / tp
        values, shared = heads * self.d_head, self._widths(tp)[1]
        out = 2 * values + shared + heads
        return [
            gemm("mamba.in_proj", "attention", tokens, out, self.d_model, precision),
            *_convolutions(groups, values + shared, self.d_conv, precision),
            *[self._core(group, heads, tp, precision) for group in groups],
            elementwise("mamba.gated_norm", 2 * tokens * values, tokens * values, precision),
            gemm("mamba.out_proj", "attention", tokens, self.d_model, values, precision),
        ]

    def _core(self, group: Sequences, heads, tp, precision: Precision) -> Op:
        """Return update and read-out of the states; B and C are keys and queries of a group of heads."""
        n_groups = heads_per_device(self.n_groups, tp)
        states = StateHeads(n_groups, heads, self.d_state, self.d_head)
        return state_update("mamba", group, states, precision, replace(MAMBA2, chunk=self.chunk_tokens))
