"""Attention of encoder-decoder models: bidirectional in the encoder, self and cross in the decoder.

The classes have the three methods of ``calc.work.attention``, which registers them. A step
tells them about the encoder through ``source_tokens`` (encoder positions that each
sequence looks at) and ``encoded_tokens`` (positions that this step has encoded).
"""

from dataclasses import dataclass, fields, replace

from calc.specs.model import Weight
from calc.work.attention_core import attention_shape, encoder_core
from calc.work.cache import CachePart
from calc.work.causal import heads_per_device
from calc.work.grouped_query import GroupedQuery
from calc.work.op import Op, Precision, Sequences, gemm


@dataclass(frozen=True)
class EncoderAttention(GroupedQuery):
    """Attention of an encoder layer: every position sees every other, and nothing is cached."""

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps: none. [byte]"""
        return 0 * tokens

    def _core(self, group, heads, kv_heads, precision) -> Op:
        return encoder_core(group, heads, kv_heads, (self.d_head, self.value_width), precision)


@dataclass(frozen=True)
class DecoderAttention(GroupedQuery):
    """Self- and cross-attention of a decoder layer, both with the same heads.

    The self-attention caches what the decoder reads and writes, the cross-attention the
    keys and values of the encoder's positions, once. Where these are the prompt
    (``encoder_tokens`` 0: T5, BART), every token of a request is cached once, by one or the
    other; Whisper always has ``encoder_tokens`` 1500 besides.
    """

    encoder_tokens: int = 0

    @property
    def _self(self) -> GroupedQuery:
        return GroupedQuery(**{field.name: getattr(self, field.name) for field in fields(GroupedQuery)})

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: q, k, v and output projections of both attentions."""
        rows = self._self.parameters()
        return rows + tuple(replace(row, name=f"cross_{row.name}") for row in rows)

    def cache_parts(self, dtype_bytes, tp=1) -> tuple[CachePart, ...]:
        """Return what a layer keeps: an entry a token, and those of a fixed number of positions."""
        width = heads_per_device(self.n_kv_heads, tp) * (self.d_head + self.value_width) * dtype_bytes
        parts = (CachePart(width),)
        return (*parts, CachePart(state_bytes=self.encoder_tokens * width)) if self.encoder_tokens else parts

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps in one layer on one device, both attentions. [byte]

        Examples
        --------
        Whisper large: 10 tokens and 1500 positions of 20 heads.

        >>> DecoderAttention(1280, 20, 20, 64, encoder_tokens=1500).cache_bytes(10, 2)
        7731200.0
        """
        return sum(part.cache_bytes(tokens) for part in self.cache_parts(dtype_bytes, tp))

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens = sum(group.tokens for group in groups)
        encoding = [group for group in groups if group.phase == "prefill"]
        encoded = sum(group.encoded_tokens for group in encoding)
        heads, kv_heads = self.n_heads / tp, heads_per_device(self.n_kv_heads, tp)
        pair_width, queries = self.d_head + self.value_width, heads * self.d_head
        kv_width, values = kv_heads * pair_width, heads * self.value_width
        project = gemm("cross_attention.kv_proj", "attention", encoded, kv_width, self.d_model, precision)
        cross = [
            gemm("cross_attention.q_proj", "attention", tokens, queries, self.d_model, precision),
            *([project] if encoding else []),
            *[self._cross(group, heads, kv_heads, precision) for group in groups],
            gemm("cross_attention.o_proj", "attention", tokens, self.d_model, values, precision),
        ]
        return self._self.ops(groups, precision, tp) + cross

    def _cross(self, group: Sequences, heads, kv_heads, precision: Precision) -> Op:
        """Return the attention of new tokens to the encoder's positions, all of them."""
        widths = self.d_head, self.value_width
        pair_width = sum(widths)
        pairs = group.new_tokens * group.source_tokens
        moved = group.n_sequences * group.source_tokens + group.encoded_tokens
        return Op(
            name=f"cross_attention.{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            format=precision.kv_format,
            flops=2.0 * group.n_sequences * heads * pairs * pair_width,
            cache_bytes=moved * kv_heads * pair_width * precision.kv_bytes,
            activation_bytes=precision.activation_bytes * group.tokens * heads * pair_width,
            items=group.n_sequences * kv_heads,
            shape=attention_shape(group, group.source_tokens, heads, kv_heads, widths),
        )
