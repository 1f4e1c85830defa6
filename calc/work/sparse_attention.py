"""Block-sparse grouped-query attention: an indexer picks the blocks of keys that are read.

The class has the three methods of ``calc.work.attention``, which registers it.
"""

from dataclasses import dataclass, fields

from calc.specs.model import Weight
from calc.work.attention_core import attention_shape
from calc.work.causal import causal_pairs, step_tokens
from calc.work.grouped_query import GroupedQuery
from calc.work.op import Op, Precision, Sequences, gemm


@dataclass(frozen=True)
class BlockSparse(GroupedQuery):
    """Grouped-query attention that reads at most ``index_tokens`` of the cached keys (MiniMax-M3).

    All keys and values stay cached, with one indexer key of ``d_index`` a token beside them,
    the same on every rank. The indexer scores every cached key; picking blocks is ignored.
    """

    n_index_heads: int = 4
    d_index: int = 128
    index_tokens: int = 2048

    @property
    def _dense(self) -> GroupedQuery:
        """The attention among the tokens picked, as if they were a window."""
        sizes = {field.name: getattr(self, field.name) for field in fields(GroupedQuery)}
        return GroupedQuery(**(sizes | {"window": self.index_tokens}))

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: those of grouped-query attention and the indexer's."""
        return (
            *super().parameters(),
            Weight("indexer.q_proj", "attention", self.n_index_heads * self.d_index, self.d_model),
            Weight("indexer.k_proj", "attention", self.d_index, self.d_model),
            Weight("indexer.q_norm", "norm", self.d_index),
            Weight("indexer.k_norm", "norm", self.d_index),
        )

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps in one layer on one device, indexer keys included. [byte]"""
        return super().cache_bytes(tokens, dtype_bytes, tp) + tokens * self.d_index * dtype_bytes

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        width = (self.n_index_heads + 1) * self.d_index
        indexer = [
            gemm("indexer.qk_proj", "attention", step_tokens(groups), width, self.d_model, precision),
            *[self._scores(group, precision) for group in groups],
        ]
        return indexer + self._dense.ops(groups, precision, tp)

    def _scores(self, group: Sequences, precision: Precision) -> Op:
        pairs = causal_pairs(group.new_tokens, group.past_tokens)
        context = group.past_tokens + group.new_tokens
        return Op(
            name=f"indexer.scores_{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            format=precision.kv_format,
            flops=2.0 * group.n_sequences * pairs * self.n_index_heads * self.d_index,
            cache_bytes=group.n_sequences * context * self.d_index * precision.kv_bytes,
            items=group.n_sequences,
            shape=attention_shape(group, context, self.n_index_heads, 1, (self.d_index, 0)),
        )
