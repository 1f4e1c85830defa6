"""Keys and values of new tokens written to the cache, by itself."""

from collections.abc import Iterable, Mapping

from calc.work.op import Op, elementwise
from validate.probes.base import Built, Case, Plan, Probe, precision, spread

#: tokens that were cached before
PAST = 64


class CacheAppend(Probe):
    """Keys and values of ``new`` tokens of ``batch`` sequences, copied behind the cached ones.

    Attention probes hold this copy too, as the calculator counts it there; this row is for
    those who want to see it alone.
    """

    name = "cache_append"
    shape = ("kv_heads", "d_head")

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield decode steps of many sequences and prompts of one."""
        for kv_heads, width in ((4, 64), (8, 128), (1, 128), (16, 64)):
            for batch in spread(1, 64, 2 + plan.level):
                yield {"batch": batch, "new": 1, "kv_heads": kv_heads, "d_head": width}
            for new in spread(16, plan.tokens, 2 + plan.level):
                yield {"batch": 1, "new": new, "kv_heads": kv_heads, "d_head": width}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one copy."""
        moved = 2 * sizes["batch"] * sizes["new"] * sizes["kv_heads"] * sizes["d_head"]
        return elementwise("cache_append", moved, moved, precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the copy into cold caches."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import append

        batch, new, kv_heads, width = (case.sizes[name] for name in ("batch", "new", "kv_heads", "d_head"))
        key, value = (bench.random(batch, kv_heads, new, width, dtype=case.dtype) for _ in range(2))
        caches = bench.cold(2, batch, kv_heads, PAST + new, width, dtype=case.dtype)
        return Built(
            append, rotated([c[0] for c in caches], [c[1] for c in caches], key, value, PAST), "copy"
        )

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the keys that were to be written."""
        return (lambda out: out[0][:, :, PAST:]), args[2].double()
