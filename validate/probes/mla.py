"""Latent attention: absorbed in decode, where every head reads one latent per token; expanded in prefill."""

from collections.abc import Iterable, Mapping

from calc.work.latent_attention import decode_core, prefill_core
from calc.work.op import Op, Sequences
from validate.probes.base import Built, Case, Plan, Probe, precision, spread, staggered
from validate.probes.ways import OF_KIND, by_backend

#: widths of the latent and of its rotary part, in DeepSeek-V2 and V3
RANK, ROPE = 512, 64
#: widths of a head's key without its rotary part, and of its value
NOPE, VALUE = 128, 128
#: heads on a device: whole small models, large ones split over devices or whole
HEADS = (8, 16, 32, 128)


def heads_of(plan: Plan) -> list[int]:
    """Return heads of usual models and of the plan's own.

    Examples
    --------
    >>> heads_of(Plan())
    [8, 16, 32, 128]
    """
    sizes = [
        dict(layer.attention.sizes) for model in plan.models for layer in model.layers if layer.attention
    ]
    return sorted({*HEADS, *(each["n_heads"] for each in sizes if "kv_lora_rank" in each)})


class LatentDecode(Probe):
    """One token of each sequence over ``past + 1`` cold latents."""

    name = "mla_decode"
    shape = ("heads",)
    chained = 2

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield heads of one rank, batches and lengths."""
        lengths = spread(64, max(2 * plan.tokens, 2048), 3 + plan.level)
        for i, heads in enumerate(heads_of(plan)):
            for j, batch in enumerate((1, 4, 16)):
                for k, past in enumerate(lengths):
                    if (i + j + k) % 2 == 0:
                        yield {"batch": batch, "past": past, "heads": heads}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        group = Sequences("decode", sizes["batch"], 1, sizes["past"])
        return decode_core("decode", group, sizes["past"] + 1, sizes["heads"], RANK, ROPE, precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the call with latents at different places of the pool."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import latent_decode

        batch, past, heads = (case.sizes[name] for name in ("batch", "past", "heads"))
        query = bench.random(batch, heads, 1, RANK + ROPE, dtype=case.dtype)
        latents = bench.cold(batch, past + 1, RANK + ROPE, dtype=case.dtype)
        return Built(latent_decode, rotated(query, latents, RANK), "absorbed")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some heads of the first and last sequence in float64."""
        query, latent, rank = args
        rows, heads = bench.choose(query.shape[0], 2), bench.choose(query.shape[1], 4)
        keys = latent[rows].double().unsqueeze(1)
        scores = query[rows][:, heads].double() @ keys.transpose(-1, -2) / (RANK + ROPE) ** 0.5
        return (lambda out: out[rows][:, heads]), scores.softmax(-1) @ keys[..., :rank]


class LatentPrefill(Probe):
    """Causal attention of ``new`` tokens of each sequence over keys and values expanded from latents.

    Keys are 192 wide and values 128. The expansion is a product of its own; the write of the
    new latents belongs to this call.
    """

    name = "mla_prefill"
    shape = ("heads",)
    chained = 2

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield lengths for each number of heads; batches and prefixes for some."""
        heads, lengths = heads_of(plan), spread(16, plan.tokens, 4 + plan.level)
        for n, new in staggered(heads, lengths):
            yield {"batch": 1, "new": new, "past": 0, "heads": n}
        for n in heads[:2]:
            for batch, new, past in (
                (4, plan.tokens // 8, 0), (16, 32, 0), (1, 64, 256), (1, plan.tokens // 4, plan.tokens),
            ):  # fmt: skip
                yield {"batch": batch, "new": new, "past": past, "heads": n}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        group = Sequences("prefill", sizes["batch"], sizes["new"], sizes["past"])
        return prefill_core("prefill", group, sizes["heads"], RANK, (NOPE, ROPE, VALUE), precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the call; latents are cold, what was expanded from them is warm."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import latent_prefill

        batch, new, past, heads = (case.sizes[name] for name in ("batch", "new", "past", "heads"))
        query = bench.random(batch, heads, new, NOPE + ROPE, dtype=case.dtype)
        key = bench.random(batch, heads, past + new, NOPE + ROPE, dtype=case.dtype)
        value = bench.random(batch, heads, past + new, VALUE, dtype=case.dtype)
        latent = bench.random(batch, new, RANK + ROPE, dtype=case.dtype)
        caches = bench.cold(batch, past + new, RANK + ROPE, dtype=case.dtype)
        return Built(latent_prefill, rotated(query, key, value, caches, latent, past), "expanded")

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the backends of a kind of device."""
        return OF_KIND.get(kind, ())

    def by(self, built: Built, way: str) -> Built:
        """Return the call by one backend; flash knows one width, so values are padded for it."""
        padded = way == "sdpa-flash"
        return by_backend(built._replace(sets=[(*args, padded) for args in built.sets]), way)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some heads' and tokens' attention of the first and last sequence in float64."""
        import torch

        query, key, value, *_ = args
        past = case.sizes["past"]
        rows, heads, at = (bench.choose(n, most) for n, most in zip(query.shape, (2, 3, 8), strict=False))
        keys, values, queries = (x[rows[:, None], heads] for x in (key, value, query))
        keys, values = keys.double(), values.double()
        scores = queries[:, :, at].double() @ keys.transpose(-1, -2) / (NOPE + ROPE) ** 0.5
        seen = torch.arange(key.shape[2], device=at.device) <= past + at[:, None]
        want = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values
        return (lambda out: out[rows[:, None], heads][:, :, at]), want
