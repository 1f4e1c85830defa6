"""Linear attention: a state of fixed size per sequence instead of a cache that grows.

The classes have the three methods of ``calc.work.attention``, which registers them.
"""

from dataclasses import dataclass
from typing import ClassVar

from calc.specs.model import Weight
from calc.specs.numeric import maximum
from calc.work.causal import step_tokens
from calc.work.linear_kernels import (
    CONV_BYTES,
    GATED_DELTA,
    STATE_BYTES,
    Rule,
    StateHeads,
    short_convolution,
    state_update,
)
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


@dataclass(frozen=True)
class GatedDeltaNet:
    """Gated delta net (Qwen3-Next, Qwen3.5): a ``d_key x d_value`` state per value head.

    Queries, keys and values pass a short convolution of width ``d_conv``. Key heads are
    shared by groups of value heads; tensor parallelism splits by heads.
    """

    d_model: int
    n_key_heads: int
    n_value_heads: int
    d_key: int
    d_value: int
    d_conv: int
    fixed_state: ClassVar[bool] = True

    @property
    def _key_width(self) -> int:
        return self.n_key_heads * self.d_key

    @property
    def _value_width(self) -> int:
        return self.n_value_heads * self.d_value

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: input projections, convolution, decay, output norm and projection."""
        conv = 2 * self._key_width + self._value_width
        heads = self.n_value_heads
        return (
            Weight("linear_attention.qkv_proj", "attention", conv, self.d_model, split="out"),
            Weight("linear_attention.gate_proj", "attention", self._value_width, self.d_model, split="out"),
            Weight("linear_attention.ba_proj", "attention", 2 * heads, self.d_model, split="out"),
            Weight("linear_attention.conv", "bias", conv, self.d_conv, split="out"),
            Weight("linear_attention.dt_bias", "bias", heads, split="out"),
            Weight("linear_attention.a_log", "bias", heads, split="out"),
            Weight("linear_attention.norm", "norm", self.d_value),
            Weight("linear_attention.out_proj", "attention", self.d_model, self._value_width, split="in"),
        )

    def cache_bytes(self, tokens, dtype_bytes=2, tp=1):
        """Bytes that one sequence keeps in one layer on one device, however long it is. [byte]

        ``conv_width * d_conv * 2 + n_value_heads * d_key * d_value * 4``: the last inputs of
        the convolution in 16 bits and the state in fp32.

        Examples
        --------
        >>> GatedDeltaNet(2048, 16, 32, 128, 128, 4).cache_bytes(1_000_000)
        2162688
        """
        conv, state = self._held(tp)
        return 0 * tokens + conv * CONV_BYTES + state * STATE_BYTES

    def _held(self, tp):
        """Elements of convolution tail and state on one device."""
        key_heads, value_heads = self._heads(tp)
        conv = (2 * key_heads * self.d_key + value_heads * self.d_value) * self.d_conv
        return conv, value_heads * self.d_key * self.d_value

    def _heads(self, tp):
        if type(tp) is int and tp == 1:
            return self.n_key_heads, self.n_value_heads
        return maximum(1, self.n_key_heads / tp), maximum(1, self.n_value_heads / tp)

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens = step_tokens(groups)
        key_heads, heads = self._heads(tp)
        values = heads * self.d_value
        conv = 2 * key_heads * self.d_key + values
        return [
            gemm("linear_attention.in_proj", "attention", tokens, conv + values, self.d_model, precision),
            gemm("linear_attention.ba_proj", "attention", tokens, 2 * heads, self.d_model, precision),
            *[op for group in groups for op in self.core(group, tp, precision)],
            elementwise("linear_attention.gated_norm", 2 * tokens * values, tokens * values, precision),
            gemm("linear_attention.out_proj", "attention", tokens, self.d_model, values, precision),
        ]

    def core(self, group: Sequences, tp, precision: Precision, rule: Rule = GATED_DELTA) -> tuple[Op, Op]:
        """Return convolution and state update of one group of sequences.

        A decode step reads and writes each state once; prefill runs in chunks.
        """
        key_heads, value_heads = self._heads(tp)
        heads = StateHeads(key_heads, value_heads, self.d_key, self.d_value)
        channels = 2 * key_heads * self.d_key + value_heads * self.d_value
        return (
            short_convolution("linear_attention", group, channels, self.d_conv, precision),
            state_update("linear_attention", group, heads, precision, rule),
        )
