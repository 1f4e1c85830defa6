"""Rotary embeddings of queries and keys."""

from collections.abc import Iterable, Mapping

from calc.work.grouped_query import GroupedQuery
from calc.work.op import Op, Sequences
from validate.probes.attention_sizes import HEADS
from validate.probes.base import Built, Case, Plan, Probe, named, precision, spread


class Rope(Probe):
    """Queries and keys of ``batch`` sequences of ``new`` tokens, rotated."""

    name = "rope"
    replaces = "rope"
    shape = ("heads", "kv_heads", "d_head")
    chained = 2

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield steps of one long sequence and of many sequences for each kind of heads."""
        lengths = spread(1, plan.tokens, 4 + plan.level)
        for i, heads in enumerate(HEADS if plan.level else HEADS[:3]):
            for j, new in enumerate(lengths):
                batch = 1 if (i + j) % 2 else 8
                yield {
                    "batch": batch,
                    "new": max(1, new // batch),
                    **dict(zip(self.shape, heads, strict=True)),
                }
                if j == 0:
                    yield {"batch": 16 // (i + 1), "new": 1, **dict(zip(self.shape, heads, strict=True))}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        layer = GroupedQuery(1, sizes["heads"], sizes["kv_heads"], sizes["d_head"])
        group = Sequences("prefill", sizes["batch"], sizes["new"], 0)
        return named(layer.ops((group,), precision(dtype), 1), "attention.rope")

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm queries and keys, views of one projection as in a decoder."""
        from validate.probes.kernels import rope

        batch, new, heads, kv_heads, width = (case.sizes[name] for name in ("batch", "new", *self.shape))
        both = bench.random(batch, new, heads + 2 * kv_heads, width, dtype=case.dtype).transpose(1, 2)
        cos, sin = (bench.random(new, width // 2, dtype=case.dtype) for _ in range(2))
        return Built(rope, [(both[:, :heads], both[:, heads : heads + kv_heads], cos, sin)], "cat")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some tokens' queries in float64."""
        import torch

        query, _, cos, sin = args
        at = bench.choose(case.sizes["new"])
        first, second = query[:, :, at].double().chunk(2, -1)
        cos, sin = cos[at].double(), sin[at].double()
        want = torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
        return (lambda out: out[0][:, :, at]), want
