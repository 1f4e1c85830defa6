"""Compressed attention (DeepSeek-V4): a sliding window beside entries that stand for many tokens.

The class has the three methods of ``calc.work.attention``, which registers it, and
``cache_parts``, because one layer keeps three kinds of cache.
"""

from dataclasses import dataclass

from calc.specs.model import Weight
from calc.specs.numeric import minimum
from calc.work.attention_core import attention_shape
from calc.work.cache import CachePart
from calc.work.causal import causal_pairs, step_tokens
from calc.work.linear_kernels import CONV_BYTES
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


@dataclass(frozen=True)
class CompressedAttention:
    """Multi-query attention with one vector as key and value, over a window and compressed entries.

    Every ``ratio`` tokens become one cached entry of ``d_head``: 0 for layers with the
    window alone, 128 for heavily compressed attention. With an indexer (``n_index_heads``)
    entries are made from two overlapping series, carry an indexer key of ``d_index``, and a
    query reads the best ``index_topk`` of them: compressed sparse attention, ratio 4.
    Outputs of ``o_groups`` groups of heads pass ``o_lora_rank`` values each. ``streams``
    copies of the hidden state are mixed before and after attention and feed-forward
    (hyper-connections); both mixings are counted here. The cache is the same on every rank.
    """

    d_model: int
    n_heads: int
    d_head: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    window: int
    ratio: int = 0
    n_index_heads: int = 0
    d_index: int = 0
    index_topk: int = 0
    streams: int = 1

    @property
    def _series(self) -> int:
        """Compressed series that a token contributes to."""
        return 2 if self.n_index_heads else 1

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: projections, sinks, compressor, indexer, hyper-connections."""
        inner, ranks = self.n_heads * self.d_head, self.o_groups * self.o_lora_rank
        weights = (
            Weight("attention.q_a_proj", "attention", self.q_lora_rank, self.d_model),
            Weight("attention.q_a_norm", "norm", self.q_lora_rank),
            Weight("attention.q_b_proj", "attention", inner, self.q_lora_rank, split="out"),
            Weight("attention.kv_proj", "attention", self.d_head, self.d_model),
            Weight("attention.kv_norm", "norm", self.d_head),
            Weight("attention.o_a_proj", "attention", ranks, inner // self.o_groups, split="out"),
            Weight("attention.o_b_proj", "attention", self.d_model, ranks, split="in"),
            Weight("attention.sinks", "bias", self.n_heads, split="out"),
        )
        if self.ratio:
            weights += self._compressor("compressor", self.d_head)
        if self.n_index_heads:
            width = self.n_index_heads * self.d_index
            weights += (
                *self._compressor("indexer", self.d_index),
                Weight("indexer.q_b_proj", "attention", width, self.q_lora_rank),
                Weight("indexer.weights_proj", "attention", self.n_index_heads, self.d_model),
            )
        return weights + self._mixing()

    def _compressor(self, name: str, width: int) -> tuple[Weight, ...]:
        wide = self._series * width
        return (
            Weight(f"{name}.kv_and_gate_proj", "attention", 2 * wide, self.d_model),
            Weight(f"{name}.position_bias", "bias", wide, self.ratio),
            Weight(f"{name}.norm", "norm", width),
        )

    def _mixing(self) -> tuple[Weight, ...]:
        if self.streams == 1:
            return ()
        mixed = (2 + self.streams) * self.streams
        return (
            Weight("hyper_connection.proj", "router", mixed, self.streams * self.d_model, copies=2),
            Weight("hyper_connection.base_and_scale", "bias", mixed + 3, copies=2),
        )

    def cache_parts(self, dtype_bytes, tp=1) -> tuple[CachePart, ...]:
        """Return what a layer keeps: the window, compressed entries, what is not compressed yet.

        The last is a state of fixed size: key and gate of up to ``ratio`` tokens of each
        series and, where series overlap, of the ``ratio`` tokens before, in 16 bits.
        """
        parts = [CachePart(self.d_head * dtype_bytes, reach=self.window)]
        if self.ratio:
            width = self.d_head + self.d_index
            parts.append(CachePart(width * dtype_bytes / self.ratio))
            held = 3 if self.n_index_heads else 1
            parts.append(CachePart(state_bytes=2 * held * self.ratio * width * CONV_BYTES))
        return tuple(parts)

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps in one layer, on every rank alike. [byte]

        ``min(tokens, window) * d_head * b``, ``tokens / ratio * (d_head + d_index) * b``
        (a started entry counts by its share) and the state of the compressor.

        Examples
        --------
        Layers of DeepSeek-V4-Flash with ratio 4: 128 tokens in the window, 1000 entries.

        >>> layer = CompressedAttention(4096, 64, 512, 1024, 8, 1024, 128, 4, 64, 128, 512, 4)
        >>> layer.cache_bytes(4000, 2) == 128 * 512 * 2 + 1000 * (512 + 128) * 2 + 2 * 3 * 4 * 640 * 2
        True
        """
        return sum(part.cache_bytes(tokens) for part in self.cache_parts(dtype_bytes, tp))

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, heads = step_tokens(groups), self.n_heads / tp
        inner, ranks = heads * self.d_head, self.o_groups * self.o_lora_rank / tp
        group_width = self.n_heads * self.d_head / self.o_groups
        down = self.q_lora_rank + self.d_head
        rotated = tokens * (inner + self.d_head)
        return [
            *self._mixing_ops(tokens, precision),
            gemm("attention.qkv_a_proj", "attention", tokens, down, self.d_model, precision),
            elementwise("attention.norms", tokens * down, tokens * down, precision),
            gemm("attention.q_b_proj", "attention", tokens, inner, self.q_lora_rank, precision),
            elementwise("attention.rope", rotated, rotated, precision),
            *self._compressor_ops(tokens, precision),
            *[op for group in groups for op in self._core(group, heads, precision)],
            gemm(
                "attention.o_a_proj", "attention", tokens, self.o_lora_rank, group_width, precision,
                self.o_groups / tp,
            ),
            gemm("attention.o_b_proj", "attention", tokens, self.d_model, ranks, precision),
        ]  # fmt: skip

    def _mixing_ops(self, tokens, precision: Precision) -> list[Op]:
        """Return the hyper-connections around attention and feed-forward: weights, then mixing."""
        if self.streams == 1:
            return []
        wide, mixed = self.streams * self.d_model, 2 * (2 + self.streams) * self.streams
        read, written = 2 * tokens * (2 * wide + self.d_model), 2 * tokens * (wide + self.d_model)
        return [
            gemm("hyper_connection.proj", "router", tokens, mixed, wide, precision),
            elementwise("hyper_connection.mix", read, written, precision),
        ]

    def _compressor_ops(self, tokens, precision: Precision) -> list[Op]:
        if not self.ratio:
            return []
        wide = 2 * self._series * (self.d_head + self.d_index)
        ops = [
            gemm("compressor.proj", "attention", tokens, wide + self.n_index_heads, self.d_model, precision),
            elementwise("compressor.pool", tokens * wide, tokens * wide / self.ratio, precision),
        ]
        if self.n_index_heads:
            width = self.n_index_heads * self.d_index
            ops.append(gemm("indexer.q_b_proj", "attention", tokens, width, self.q_lora_rank, precision))
        return ops

    def _core(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        context = group.past_tokens + group.new_tokens
        pairs = causal_pairs(group.new_tokens, group.past_tokens, self.window)
        read = minimum(context, self.window + group.new_tokens - 1)
        seen, ops = minimum(context, self.window), []
        if self.ratio:
            entries, limit = context / self.ratio, self.index_topk * self.ratio or None
            pairs = pairs + causal_pairs(group.new_tokens, group.past_tokens, limit) / self.ratio
            read = read + (minimum(entries, self.index_topk * group.new_tokens) if limit else entries)
            seen = seen + (minimum(entries, self.index_topk) if limit else entries)
            if limit:
                ops.append(self._scores(group, entries, precision))
        written = group.new_tokens * (1 + 1 / self.ratio if self.ratio else 1)
        core = Op(
            name=f"attention.{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            flops=4.0 * group.n_sequences * heads * pairs * self.d_head,
            cache_bytes=group.n_sequences * (read + written) * self.d_head * precision.kv_bytes,
            activation_bytes=precision.activation_bytes * group.tokens * heads * 2 * self.d_head,
            items=group.n_sequences,
            shape=attention_shape(group, seen, heads, 1, (self.d_head, self.d_head), self.window),
        )
        return [*ops, core]

    def _scores(self, group: Sequences, entries, precision: Precision) -> Op:
        """Return the indexer's scores of every compressed entry."""
        pairs = causal_pairs(group.new_tokens, group.past_tokens) / self.ratio
        read = entries + group.new_tokens / self.ratio
        return Op(
            name=f"indexer.scores_{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            flops=2.0 * group.n_sequences * pairs * self.n_index_heads * self.d_index,
            cache_bytes=group.n_sequences * read * self.d_index * precision.kv_bytes,
            items=group.n_sequences,
            shape=attention_shape(group, entries, self.n_index_heads, 1, (self.d_index, 0)),
        )
