"""Attention of one new token of each sequence to its cache, which is cold; the cache write included."""

from collections.abc import Iterable, Mapping

from calc.work.op import Op
from validate.probes.attention_sizes import backend, core, expected, heads_of, inputs
from validate.probes.base import Built, Case, Plan, Probe, spread
from validate.probes.ways import OF_KIND, by_backend


class Decode(Probe):
    """Attention of one token after ``past`` cached ones, for ``batch`` sequences."""

    name = "decode"
    replaces = "decode_attention"
    shape = ("heads", "kv_heads", "d_head", "window")

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield batches and lengths for each kind of heads; windows for some."""
        lengths = spread(32, max(4 * plan.tokens, 2048), 3 + 2 * plan.level)
        batches = (1, 4, 16, 64) if plan.level else (1, 16)
        for i, (heads, kv_heads, width) in enumerate(heads_of(plan)):
            sizes = {"new": 1, "heads": heads, "kv_heads": kv_heads, "d_head": width, "window": 0}
            for j, batch in enumerate(batches):
                for k, past in enumerate(lengths):
                    if (i + j + k) % 2 == 0 or (
                        i < 2 and j in (0, len(batches) - 1) and k in (0, len(lengths) - 1)
                    ):
                        yield {"batch": batch, "past": past, **sizes}
        for heads, kv_heads, width in ((16, 4, 64), (32, 8, 128)):
            sizes = {"new": 1, "heads": heads, "kv_heads": kv_heads, "d_head": width}
            for batch, past, window in ((1, 1024, 256), (8, 1024, 256), (4, 2048, 512), (16, 512, 128)):
                yield {"batch": batch, "past": past, **sizes, "window": window}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        return core("decode", sizes, dtype)

    def build(self, case: Case, bench) -> Built:
        """Return the call with caches at different places of the pool."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import decode_attention

        query, key, value, *caches = inputs(case.sizes, case.dtype, bench)
        sets = rotated(query, key, value, *caches, case.sizes["past"], case.sizes["window"])
        return Built(decode_attention, sets, backend(query, caches[0][0], caches[1][0], False))

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the backends of a kind of device."""
        return OF_KIND.get(kind, ())

    def by(self, built: Built, way: str) -> Built:
        """Return the call by one backend."""
        return by_backend(built, way)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some heads' attention in float64."""
        return expected(args, case.sizes["window"], bench)
