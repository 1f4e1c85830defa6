"""Lightning attention: linear attention with one fixed decay per head (MiniMax-Text-01).

The class has the three methods of ``calc.work.attention``, which registers it.
"""

from dataclasses import dataclass
from typing import ClassVar

from calc.specs.model import Weight
from calc.work.causal import heads_per_device, step_tokens
from calc.work.linear_kernels import LIGHTNING, STATE_BYTES, StateHeads, state_update
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


@dataclass(frozen=True)
class LightningAttention:
    """Lightning attention: a ``d_head x d_head`` state per head, no convolution, a full output gate."""

    d_model: int
    n_heads: int
    d_head: int
    fixed_state: ClassVar[bool] = True

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: fused input projection, gate, norm, output projection."""
        inner = self.n_heads * self.d_head
        return (
            Weight("linear_attention.qkv_proj", "attention", 3 * inner, self.d_model, split="out"),
            Weight("linear_attention.gate_proj", "attention", inner, self.d_model, split="out"),
            Weight("linear_attention.norm", "norm", inner, split="out"),
            Weight("linear_attention.out_proj", "attention", self.d_model, inner, split="in"),
        )

    def cache_bytes(self, tokens, dtype_bytes=2, tp=1):
        """Bytes that one sequence keeps in one layer on one device, however long it is. [byte]

        ``n_heads * d_head**2 * 4``: the state in fp32, whatever the cache dtype.

        Examples
        --------
        >>> LightningAttention(6144, 64, 128).cache_bytes(1_000_000)
        4194304.0
        """
        state = heads_per_device(self.n_heads, tp) * self.d_head * self.d_head
        return 0 * tokens + state * STATE_BYTES

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, heads = step_tokens(groups), self.n_heads / tp
        inner, states = heads * self.d_head, StateHeads(heads, heads, self.d_head, self.d_head)
        return [
            gemm("linear_attention.in_proj", "attention", tokens, 4 * inner, self.d_model, precision),
            *[state_update("linear_attention", group, states, precision, LIGHTNING) for group in groups],
            elementwise("linear_attention.gated_norm", 2 * tokens * inner, tokens * inner, precision),
            gemm("linear_attention.out_proj", "attention", tokens, self.d_model, inner, precision),
        ]
