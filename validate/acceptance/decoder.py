"""The small decoders as probes: their shapes, their work from ``calc``, their cases.

They take no part in any fit. Their models are read from configs as any other model is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from calc.specs.hf_config import model_from_config
from calc.specs.model import Model
from calc.work.op import Op, Sequences
from calc.work.step import step_ops
from validate.probes.base import Built, Case, Plan, Probe, precision
from validate.probes.ways import OF_KIND, by_backend

_COMMON = {
    "vocab_size": 16000,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_DENSE = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 16,
    "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 2816, "hidden_act": "silu",
}  # fmt: skip
#: name -> config.json
CONFIGS: dict[str, dict] = {
    "dense": {**_COMMON, **_DENSE},
    "dense-wide": {
        **_COMMON, **_DENSE, "hidden_size": 2048, "num_hidden_layers": 3, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 5632,
    },
    "moe": {
        **_COMMON, **_DENSE, "model_type": "mixtral", "num_hidden_layers": 4, "intermediate_size": 704,
        "num_local_experts": 16, "num_experts_per_tok": 2,
    },
    "windowed": {**_COMMON, **_DENSE, "model_type": "mistral", "num_hidden_layers": 4, "sliding_window": 256},
}  # fmt: skip
#: (sequences, tokens): prompts, and decode steps with that many cached tokens
PREFILLS = ((1, 32), (1, 128), (1, 512), (1, 1024), (4, 128), (4, 256))
DECODES = ((1, 128), (1, 2048), (4, 512), (8, 1024), (16, 128), (16, 512))
#: (sequences, new, cached tokens) of steps that are compared with float64; it takes a second each
COMPARED = ((1, 32, 0), (1, 1, 128))


@cache
def decoder_model(name: str) -> Model:
    """Return the Model of a small decoder.

    Examples
    --------
    >>> decoder_model("moe").n_layers
    4
    """
    return model_from_config(CONFIGS[name], where=f"decoder {name}", id=f"decoder-{name}", name=name)


def group_of(sizes: Mapping) -> Sequences:
    """Return the sequences of a case: prompts have no past, decode steps one new token."""
    phase = "prefill" if sizes["past"] == 0 else "decode"
    return Sequences(phase, sizes["batch"], sizes["new"], sizes["past"])


class DecoderProbe(Probe):
    """One step of a small decoder: a prompt, or one token of each sequence."""

    def __init__(self, name: str):
        self.config, self.name = name, f"decoder-{name}"

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield prompts and decode steps, fewer for the quick budget."""
        pick = slice(None, None, 1 if plan.level else 2)
        for batch, new in PREFILLS[pick]:
            if batch * new <= plan.tokens:
                yield {"batch": batch, "new": new, "past": 0}
        for batch, past in DECODES[pick]:
            yield {"batch": batch, "new": 1, "past": past}

    def cases(self, plan: Plan) -> list[Case]:
        """Return the cases that a plan affords: a whole step may take as long as several calls."""
        return super().cases(replace(plan, call_s=4 * plan.call_s))

    def ops(self, sizes: Mapping, dtype: str = "bf16") -> list[Op]:
        """Return the operations of a step."""
        return step_ops(decoder_model(self.config), (group_of(sizes),), precision(dtype))

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the step as one operation: the sums of flops and bytes."""
        ops = self.ops(sizes, dtype)
        flops, moved = (
            float(np.sum([getattr(op, part) * op.count for op in ops])) for part in ("flops", "bytes")
        )
        return Op(self.name, "step", dtype, flops=flops, weight_bytes=moved, format=self.config)

    def build(self, case: Case, bench) -> Built:
        """Return the step with caches at different places of the pool."""
        from validate.acceptance.step import decoder_on

        return Built(*decoder_on(bench, self.config, case.dtype).call_for(case.sizes, bench), "decoder")

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the backends of attention: that of the fitted kernels is to be used here too."""
        return OF_KIND.get(kind, ())

    def by(self, built: Built, way: str) -> Built:
        """Return the step with its attention by one backend."""
        return by_backend(built, way)._replace(kernel=f"decoder, {way}")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the first sequence's logits in float64; of most steps only that they are finite."""
        from validate.acceptance.step import decoder_on

        step = tuple(case.sizes[name] for name in ("batch", "new", "past"))
        if step not in COMPARED or bench.kind == "mps":  # no float64 there
            import torch

            zero = torch.zeros(1, dtype=torch.float64)
            return (lambda out: zero + 1), zero + 1
        return decoder_on(bench, self.config, case.dtype).reference(args)

    def limit(self, dtype: str) -> float:
        """Largest relative error of the logits: many layers round one after the other."""
        return 8 * super().limit(dtype)


#: every decoder by the name of its probe
DECODERS: dict[str, DecoderProbe] = {probe.name: probe for probe in map(DecoderProbe, CONFIGS)}
