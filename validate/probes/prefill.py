"""Attention of prompts: causal, grouped, windowed, after a cached prefix; the cache write included."""

from collections.abc import Iterable, Mapping
from functools import partial

from calc.work.op import Op
from validate.probes.attention_sizes import backend, core, expected, heads_of, inputs
from validate.probes.base import Built, Case, Plan, Probe, spread
from validate.probes.ways import OF_KIND, VARLEN, by_backend, varlen_reason


class Prefill(Probe):
    """Causal attention of ``new`` tokens of each sequence after ``past`` cached ones."""

    name = "prefill"
    replaces = "prefill_attention"
    shape = ("heads", "kv_heads", "d_head", "window")

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield lengths for each kind of heads; a prefix and windows for some."""
        lengths = spread(16, plan.tokens, 3 + 2 * plan.level)
        for i, (heads, kv_heads, width) in enumerate(heads_of(plan)):
            sizes = {"past": 0, "heads": heads, "kv_heads": kv_heads, "d_head": width, "window": 0}
            for j, new in enumerate(lengths):
                if (i + j) % 2 == 0 or j in (0, len(lengths) - 1):
                    yield {"batch": 1, "new": new, **sizes}
            for batch, new in ((4, plan.tokens // 8), (4, plan.tokens // 4), (16, 32)):
                yield {"batch": batch, "new": max(new, 16), **sizes}
        for heads, kv_heads, width in ((16, 4, 64), (32, 8, 128)):
            sizes = {"heads": heads, "kv_heads": kv_heads, "d_head": width}
            for batch, new, past in ((1, 64, 256), (1, 256, 1024), (2, 128, 512)):
                yield {"batch": batch, "new": new, "past": past, **sizes, "window": 0}
            for batch, new, window in (
                (1, 512, 128),
                (1, 1024, 256),
                (4, 256, 128),
                (1, 1024, 512),
                (2, 256, 64),
            ):
                yield {"batch": batch, "new": new, "past": 0, **sizes, "window": window}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        return core("prefill", sizes, dtype)

    def build(self, case: Case, bench) -> Built:
        """Return the call with caches at different places of the pool."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import prefill_attention

        query, key, value, *caches = inputs(case.sizes, case.dtype, bench)
        sets = rotated(query, key, value, *caches, case.sizes["past"], case.sizes["window"])
        return Built(prefill_attention, sets, backend(query, key, value, True))

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the backends of a kind of device."""
        return OF_KIND.get(kind, ())

    def rivals(self, kind: str) -> tuple[str, ...]:
        """Return the kernel for packed prompts, which no decoder here calls."""
        return (VARLEN,) if kind in ("cuda", "rocm") else ()

    def by(self, built: Built, way: str) -> Built:
        """Return the call by one backend, or on prompts packed one behind the other.

        Raises
        ------
        NotImplementedError
            If this torch has no kernel for packed prompts.
        """
        if way != VARLEN:
            return by_backend(built, way)
        if why := varlen_reason(paged=False):
            raise NotImplementedError(why)
        import torch

        from validate.probes.paged_kernels import varlen_prefill

        batch, _, new, _ = built.sets[0][0].shape
        ends = torch.arange(0, batch * new + 1, new, dtype=torch.int32, device=built.sets[0][0].device)
        packed = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in built.sets[0][:3]]
        sets = [(*packed, *args[3:]) for args in built.sets]
        return Built(partial(varlen_prefill, ends=ends), sets, VARLEN)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some tokens' attention in float64."""
        return expected(args, case.sizes["window"], bench)
