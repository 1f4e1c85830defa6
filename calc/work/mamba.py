"""Mamba-1 and Mamba-2: selective state spaces, a state of fixed size per sequence.

The classes have the three methods of ``calc.work.attention``, which registers them. Both
keep the last ``d_conv`` inputs of a short convolution in 16 bits and the state in fp32, as
transformers does; vLLM keeps one input less.
"""

from dataclasses import dataclass
from typing import ClassVar

from calc.specs.model import Weight
from calc.specs.numeric import ceil
from calc.work.causal import heads_per_device, step_tokens
from calc.work.linear_kernels import CONV_BYTES, STATE_BYTES, convolution
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


def _convolutions(groups: tuple[Sequences, ...], channels, d_conv, precision: Precision) -> list[Op]:
    """Return the short convolution of each group of sequences."""
    return [
        convolution(
            f"mamba.conv_{group.phase}", group.phase, group.n_sequences, group.new_tokens, channels, d_conv,
            precision,
        )
        for group in groups
    ]  # fmt: skip


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
        """Return the scan: 7 flops per state element and token, the state in memory once.

        Two for the decay (product and exponential), one for the input, two for the update, two
        for the read-out; the scan is sequential in prefill too, with the state on the chip.
        """
        moved = group.tokens * (4 * inner + 2 * self.d_state)
        return Op(
            name=f"mamba.{group.phase}",
            kind="linear_attention",
            dtype=precision.activation,
            flops=7.0 * group.tokens * inner * self.d_state,
            cache_bytes=2.0 * STATE_BYTES * group.n_sequences * inner * self.d_state,
            activation_bytes=precision.activation_bytes * moved,
            items=group.n_sequences * inner / 64,
            shape={
                "batch": group.n_sequences, "new": group.new_tokens, "heads": inner / 64,
                "d_key": self.d_state, "d_value": 64,
            },
        )  # fmt: skip


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
        """Return update and read-out of the states.

        Decode: decay 1, outer product 2, read-out 2 flops per state element. Prefill works in
        chunks: scores inside a chunk (by group), times values, the chunk's state and its
        read-out; states of chunks pass through memory.
        """
        state, n_groups = self.d_head * self.d_state, heads_per_device(self.n_groups, tp)
        flops, through_memory = 5.0 * heads * state, 0.0
        if group.phase != "decode":
            inside = n_groups * self.d_state + heads * self.d_head
            flops = 4.0 * heads * state + 2.0 * self.chunk_tokens * inside
            chunks = ceil(group.new_tokens / self.chunk_tokens)
            through_memory = 2.0 * group.n_sequences * chunks * heads * state
        moved = group.tokens * (2 * heads * self.d_head + 2 * n_groups * self.d_state) + through_memory
        return Op(
            name=f"mamba.{group.phase}",
            kind="linear_attention",
            dtype=precision.activation,
            flops=group.tokens * flops,
            cache_bytes=2.0 * STATE_BYTES * group.n_sequences * heads * state,
            activation_bytes=precision.activation_bytes * moved,
            items=group.n_sequences * heads,
            shape={
                "batch": group.n_sequences, "new": group.new_tokens, "heads": heads,
                "d_key": self.d_state, "d_value": self.d_head,
            },
        )  # fmt: skip
