"""Latent attention in its absorbed form: every head reads one latent per token."""

from collections.abc import Iterable, Mapping

from calc.work.latent_attention import decode_core
from calc.work.op import Op, Sequences
from validate.probes.base import Built, Case, Plan, Probe, precision, spread

#: widths of the latent and of its rotary part, in DeepSeek-V2 and V3
RANK, ROPE = 512, 64


class LatentDecode(Probe):
    """One token of each sequence over ``past + 1`` cold latents."""

    name = "mla_decode"
    shape = ("heads",)
    chained = 2

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield heads of one rank, batches and lengths."""
        lengths = spread(64, max(2 * plan.tokens, 2048), 3 + plan.level)
        for i, heads in enumerate((8, 16, 32, 128)):
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
