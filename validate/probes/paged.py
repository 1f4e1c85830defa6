"""Decode attention over a cache in pages, as serving engines keep it."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from calc.work.op import Op
from validate.probes.attention_sizes import core
from validate.probes.base import Built, Case, Plan, Probe, spread
from validate.probes.ways import VARLEN, varlen_reason

#: (heads, key heads, width) that are measured
HEADS = ((16, 4, 64), (32, 8, 128), (16, 8, 128), (8, 1, 128))
#: tokens of a page: as engines have it; on GPUs what every kernel takes (some need multiples of 256)
PAGE, GPU_PAGE = 16, 256
GATHER = "gather"


class PagedDecode(Probe):
    """Attention of one token after ``past`` cached ones in pages of ``page`` tokens at random places.

    Its work is that of decode attention; the block table is not counted. It is fitted by
    itself: the format ends in ``-paged``, which no prediction asks for.
    """

    name = "paged_decode"
    replaces = "paged_decode_attention"
    shape = ("heads", "kv_heads", "d_head")

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield batches and lengths for each kind of heads."""
        lengths = spread(64, max(2 * plan.tokens, 2048), 3 + plan.level)
        page = PAGE if plan.kind == "cpu" else GPU_PAGE
        for i, heads in enumerate(HEADS):
            for j, batch in enumerate((1, 4, 16)):
                for k, past in enumerate(lengths):
                    if (i + j + k) % 2 == 0:
                        yield {
                            "batch": batch, "past": past, **dict(zip(self.shape, heads, strict=True)),
                            "page": page,
                        }  # fmt: skip

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        op = core("decode", {**sizes, "new": 1, "window": 0}, dtype)
        return replace(op, format=f"{op.format}-paged")

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the kernel that reads pages where they lie, and the gather that every build can do."""
        return (GATHER,) if kind == "mps" else (VARLEN, GATHER)

    def build(self, case: Case, bench) -> Built:
        """Return the gather, with pages at different places of the pool."""
        import torch

        from validate.probes.bench import rotated
        from validate.probes.paged_kernels import paged_decode_attention

        batch, past, page = (case.sizes[name] for name in ("batch", "past", "page"))
        heads, kv_heads, width = (case.sizes[name] for name in self.shape)
        query = bench.random(batch, heads, 1, width, dtype=case.dtype)
        key, value = (bench.random(batch, kv_heads, 1, width, dtype=case.dtype) for _ in range(2))
        pages = past // page + 1
        table = torch.randperm(batch * pages).view(batch, pages)
        slots = (table[:, past // page] * page + past % page).to(bench.device)
        caches = bench.cold(2, batch * pages, page, kv_heads, width, dtype=case.dtype)
        sets = rotated(
            query, key, value, [c[0] for c in caches], [c[1] for c in caches],
            table.to(bench.device, torch.int32), slots, past + 1,
        )  # fmt: skip
        room = bench.scratch(2, batch * pages, page, kv_heads, width, dtype=case.dtype)
        return Built(partial(paged_decode_attention, room=room), sets, GATHER)

    def by(self, built: Built, way: str) -> Built:
        """Return the gather, or the kernel that reads pages where they lie.

        Raises
        ------
        NotImplementedError
            If this torch has no such kernel.
        """
        if way == GATHER:
            return built
        import torch

        from validate.probes.paged_kernels import varlen_decode

        if why := varlen_reason(paged=True):
            raise NotImplementedError(why)
        query, seen = built.sets[0][0], built.sets[0][-1]
        about = {"dtype": torch.int32, "device": query.device}
        starts = torch.arange(len(query) + 1, **about)
        used = torch.full((len(query),), seen, **about)
        return built._replace(call=partial(varlen_decode, lengths=(starts, used)), kernel=VARLEN)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some heads' attention in float64, page by page; a call has written its token already."""
        import torch

        query, _, _, cache_k, cache_v, table, _, seen = args
        rows, heads = bench.choose(query.shape[0], 2), bench.choose(query.shape[1], 3)
        of_key = heads * cache_k.shape[2] // query.shape[1]
        wanted = []
        for row in rows.tolist():
            keys, values = (
                torch.cat([cache[page] for page in table[row].tolist()])[:seen, of_key].double()
                for cache in (cache_k, cache_v)
            )
            scores = torch.einsum("hd,thd->ht", query[row, heads, 0].double(), keys)
            weights = (scores / query.shape[-1] ** 0.5).softmax(-1)
            wanted.append(torch.einsum("ht,thd->hd", weights, values))
        return (lambda out: out[rows][:, heads, 0]), torch.stack(wanted)
