"""Linear attention: a state of fixed size per sequence instead of a cache that grows.

The classes have the three methods of ``calc.work.attention``, which registers them.
"""

from dataclasses import dataclass
from typing import ClassVar

from calc.specs.model import Weight
from calc.specs.numeric import ceil, maximum
from calc.work.causal import step_tokens
from calc.work.op import Op, Precision, Sequences, elementwise, gemm

STATE_BYTES = 4  # engines and transformers keep recurrent states in fp32
CONV_BYTES = 2  # and the tail of the short convolution in 16 bits, whatever the cache dtype
CHUNK = 64  # tokens that a prefill kernel works on at once (flash-linear-attention)


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
        mixed = tokens * conv
        return [
            gemm("linear_attention.in_proj", "attention", tokens, conv + values, self.d_model, precision),
            gemm("linear_attention.ba_proj", "attention", tokens, 2 * heads, self.d_model, precision),
            elementwise("linear_attention.conv", mixed, mixed, precision, flops=2.0 * mixed * self.d_conv),
            *[self.core(group, heads, tp, precision) for group in groups],
            elementwise("linear_attention.gated_norm", 2 * tokens * values, tokens * values, precision),
            gemm("linear_attention.out_proj", "attention", tokens, self.d_model, values, precision),
        ]

    def core(self, group: Sequences, heads, tp, precision: Precision) -> Op:
        """Return the update of the states and the read-out of one group of sequences.

        A decode step reads and writes each state once. Prefill runs in chunks: products
        inside a chunk grow with its length, and the state after each chunk passes through
        memory in 16 bits.
        """
        state = self.d_key * self.d_value
        per_token, through_memory = 7.0 * state, 0.0  # decay, read by key, update, read by query
        if group.phase != "decode":
            inside = 3 * self.d_key + 2 * self.d_value
            per_token = 6.0 * state + 2.0 * CHUNK * inside + CHUNK**2
            through_memory = 2.0 * group.n_sequences * ceil(group.new_tokens / CHUNK) * heads * state
        width = 2 * self.d_key + 2 * self.d_value
        return Op(
            name=f"linear_attention.{group.phase}",
            kind="linear_attention",
            dtype=precision.activation,
            flops=group.tokens * heads * per_token,
            cache_bytes=2.0 * group.n_sequences * self.cache_bytes(0, CONV_BYTES, tp),
            activation_bytes=precision.activation_bytes * (group.tokens * heads * width + through_memory),
            items=group.n_sequences * heads,
            shape={
                "batch": group.n_sequences, "new": group.new_tokens, "heads": heads,
                "d_key": self.d_key, "d_value": self.d_value,
            },
        )  # fmt: skip
