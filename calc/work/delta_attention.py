"""Kimi delta attention: a delta net whose state decays by channel, not by head.

The class has the three methods of ``calc.work.attention``, which registers it.
"""

from dataclasses import dataclass
from typing import ClassVar

from calc.specs.model import Weight
from calc.work.causal import step_tokens
from calc.work.linear_attention import GatedDeltaNet
from calc.work.linear_kernels import KIMI_DELTA
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


@dataclass(frozen=True)
class KimiDeltaAttention:
    """Kimi delta attention (Kimi Linear, Kimi K3): a ``d_head x d_head`` state per head.

    Queries, keys and values pass a short convolution. The decay of each channel comes from
    a projection through ``d_head`` values; so does the output gate, unless it is of full
    rank (Kimi K3). The state is that of a gated delta net of the same shape.
    """

    d_model: int
    n_heads: int
    d_head: int
    d_conv: int
    full_rank_gate: bool = False
    fixed_state: ClassVar[bool] = True

    @property
    def _inner(self) -> int:
        return self.n_heads * self.d_head

    @property
    def _delta(self) -> GatedDeltaNet:
        return GatedDeltaNet(self.d_model, self.n_heads, self.n_heads, self.d_head, self.d_head, self.d_conv)

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: projections, convolution, decay, gate, output norm and projection."""
        inner, d_head = self._inner, self.d_head
        return (
            Weight("linear_attention.qkv_proj", "attention", 3 * inner, self.d_model, split="out"),
            Weight("linear_attention.conv", "bias", 3 * inner, self.d_conv, split="out"),
            Weight("linear_attention.decay_a_proj", "attention", d_head, self.d_model),
            Weight("linear_attention.decay_b_proj", "attention", inner, d_head, split="out"),
            Weight("linear_attention.dt_bias", "bias", inner, split="out"),
            Weight("linear_attention.a_log", "bias", self.n_heads, split="out"),
            Weight("linear_attention.beta_proj", "attention", self.n_heads, self.d_model, split="out"),
            *self._gate(),
            Weight("linear_attention.norm", "norm", d_head),
            Weight("linear_attention.out_proj", "attention", self.d_model, inner, split="in"),
        )

    def _gate(self) -> tuple[Weight, ...]:
        if self.full_rank_gate:
            name = "linear_attention.gate_proj"
            return (Weight(name, "attention", self._inner, self.d_model, split="out"),)
        return (
            Weight("linear_attention.gate_a_proj", "attention", self.d_head, self.d_model),
            Weight("linear_attention.gate_b_proj", "attention", self._inner, self.d_head, split="out"),
        )

    def cache_bytes(self, tokens, dtype_bytes=2, tp=1):
        """Bytes that one sequence keeps in one layer on one device, however long it is. [byte]

        ``3 * n_heads * d_head * d_conv * 2 + n_heads * d_head**2 * 4``.

        Examples
        --------
        Kimi-Linear-48B, 32 heads of 128:

        >>> KimiDeltaAttention(2304, 32, 128, 4).cache_bytes(1_000_000)
        2195456
        """
        return self._delta.cache_bytes(tokens, dtype_bytes, tp)

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, heads = step_tokens(groups), self.n_heads / tp
        inner = heads * self.d_head
        wide = 3 * inner + heads + self.d_head
        narrow = [gemm("linear_attention.decay_b_proj", "attention", tokens, inner, self.d_head, precision)]
        if self.full_rank_gate:
            wide = wide + inner
        else:
            wide = wide + self.d_head
            narrow.append(
                gemm("linear_attention.gate_b_proj", "attention", tokens, inner, self.d_head, precision)
            )
        return [
            gemm("linear_attention.in_proj", "attention", tokens, wide, self.d_model, precision),
            *narrow,
            *[op for group in groups for op in self._delta.core(group, tp, precision, KIMI_DELTA)],
            elementwise("linear_attention.gated_norm", 2 * tokens * inner, tokens * inner, precision),
            gemm("linear_attention.out_proj", "attention", tokens, self.d_model, inner, precision),
        ]
