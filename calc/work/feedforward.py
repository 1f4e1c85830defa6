"""Feed-forward kinds, one small class each: parameters, operations.

Every class has ``parameters()`` and ``ops(groups, precision, split, skew)``; a feed-forward
keeps no cache. To add a kind: write the class, add it to ``KINDS``.
"""

from dataclasses import dataclass

from calc.specs.errors import unknown_name
from calc.specs.model import Part, Weight
from calc.work.causal import step_tokens
from calc.work.communication import expert_exchanges
from calc.work.expert_load import expert_load
from calc.work.experts import ExpertSizes, routed_experts
from calc.work.op import Op, Precision, Sequences, elementwise, gemm
from calc.work.sharding import Split


@dataclass(frozen=True)
class Dense:
    """A dense feed-forward: gated (SwiGLU, GeGLU: three matrices) or plain (GELU, ReLU: two)."""

    d_model: int
    d_ff: int
    gated: bool = True
    bias: bool = False
    role: str = "feedforward"
    name: str = "mlp"
    d_per_layer_input: int = 0  # Gemma's per-layer embedding, gated by the output and projected back

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer."""
        up = [f"{self.name}.{name}" for name in (("gate_proj", "up_proj") if self.gated else ("up_proj",))]
        weights = [Weight(name, self.role, self.d_ff, self.d_model, split="out") for name in up]
        weights.append(Weight(f"{self.name}.down_proj", self.role, self.d_model, self.d_ff, split="in"))
        if self.bias:
            weights += [Weight(f"{name}.bias", "bias", self.d_ff, split="out") for name in up]
            weights.append(Weight(f"{self.name}.down_proj.bias", "bias", self.d_model))
        if self.d_per_layer_input:
            weights += [
                Weight("per_layer_input.gate", self.role, self.d_per_layer_input, self.d_model),
                Weight("per_layer_input.proj", self.role, self.d_model, self.d_per_layer_input),
            ]
        return tuple(weights)

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, split: Split, skew=0.0) -> list[Op]:
        """Operations of one layer in one step on one device; ``skew`` is for experts."""
        tokens, width = step_tokens(groups), self.d_ff / split.tp
        inner = width * (2 if self.gated else 1)
        ops = [
            gemm(f"{self.name}.up_proj", self.role, tokens, inner, self.d_model, precision),
            elementwise(f"{self.name}.activation", tokens * inner, tokens * width, precision),
            gemm(f"{self.name}.down_proj", self.role, tokens, self.d_model, width, precision),
        ]
        if self.d_per_layer_input:
            narrow = self.d_per_layer_input
            ops += [
                gemm("per_layer_input.gate", self.role, tokens, narrow, self.d_model, precision),
                gemm("per_layer_input.proj", self.role, tokens, self.d_model, narrow, precision),
            ]
        return ops


@dataclass(frozen=True)
class MixtureOfExperts:
    """Routed experts, each a small feed-forward, with optional shared experts.

    A token visits ``top_k`` of ``n_experts``; shared experts (total width ``d_shared``) see
    every token. Tensor parallelism cuts every expert. Experts may work in a space of
    ``d_latent``, with one projection to it and one back for all of them.
    """

    d_model: int
    d_expert: int
    n_experts: int
    top_k: int
    d_shared: int = 0
    shared_gate: bool = False
    gated: bool = True
    expert_bias: bool = False
    router_bias: bool = False
    router_scales: bool = False  # Gemma 4: a scale per input and per expert
    d_latent: int = 0  # experts work in a narrower space (Nemotron-3, Kimi K3)
    latent_norm: bool = False

    @property
    def _shared(self) -> Dense:
        return Dense(self.d_model, self.d_shared, self.gated, role="shared_expert", name="shared_expert")

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: router, routed experts, shared experts."""
        weights = [Weight("moe.router", "router", self.n_experts, self.d_model)]
        if self.router_bias:
            weights.append(Weight("moe.router.bias", "bias", self.n_experts))
        matrices = 2 if self.gated else 1
        inner, width = matrices * self.d_expert, self.d_latent or self.d_model
        if self.router_scales:
            weights.append(Weight("moe.router.scales", "norm", self.d_model + self.n_experts))
        routed = {"copies": self.n_experts, "visited": self.top_k}
        weights += [
            Weight("moe.experts.up_proj", "expert", inner, width, split="out", **routed),
            Weight("moe.experts.down_proj", "expert", width, self.d_expert, split="in", **routed),
        ]
        if self.expert_bias:
            weights += [
                Weight("moe.experts.up_proj.bias", "bias", inner, split="out", **routed),
                Weight("moe.experts.down_proj.bias", "bias", width, **routed),
            ]
        if self.d_latent:
            weights += [
                Weight("moe.latent_down", "shared_expert", self.d_latent, self.d_model),
                Weight("moe.latent_up", "shared_expert", self.d_model, self.d_latent),
            ]
        if self.latent_norm:
            weights.append(Weight("moe.latent_norm", "norm", self.d_latent))
        if self.d_shared:
            weights += self._shared.parameters()
        if self.shared_gate:
            weights.append(Weight("shared_expert.gate", "shared_expert", 1, self.d_model))
        return tuple(weights)

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, split: Split, skew=0.0) -> list[Op]:
        """Operations of one layer in one step on one device: the busiest of ``ep`` ranks.

        Tokens of all data-parallel ranks visit the experts. Router, latent projections and
        shared experts see the own rank's tokens; shared experts are cut by ``tp``, the others
        are copies. ``skew`` is the exponent of the power law of expert popularity, 0 for
        uniform routing.
        """
        tokens = step_tokens(groups)
        d_in = self.d_latent or self.d_model
        shared = self._shared.ops(groups, precision, split) if self.d_shared else []
        if self.shared_gate:
            shared.append(gemm("shared_expert.gate", "shared_expert", tokens, 1, self.d_model, precision))
        down, up = [], []
        if self.d_latent:
            down = [gemm("moe.latent_down", "shared_expert", tokens, self.d_latent, self.d_model, precision)]
            up = [gemm("moe.latent_up", "shared_expert", tokens, self.d_model, self.d_latent, precision)]
        width, matrices = self.d_expert / split.expert_cut, 3 if self.gated else 2
        sizes = ExpertSizes(d_in, width, self.n_experts, self.top_k, matrices)
        visiting = tokens * split.dp
        load = expert_load(visiting, self.n_experts, self.top_k, split.ep, skew)
        decode = all(group.phase == "decode" for group in groups)
        there, back = expert_exchanges(tokens, sizes, split, precision, decode)
        return [
            gemm("moe.router", "router", tokens, self.n_experts, self.d_model, precision),
            *down,
            *there,
            routed_experts(visiting, sizes, load, precision),
            *back,
            *up,
            *shared,
        ]


#: kind named in a Part -> class
KINDS = {
    "dense": Dense,
    "moe": MixtureOfExperts,
}


def feedforward(part: Part):
    """Return the feed-forward object of a Part.

    Raises
    ------
    SpecError
        If the kind is not known.
    """
    if part.kind not in KINDS:
        raise unknown_name("feed-forward kind", part.kind, KINDS)
    return KINDS[part.kind](**dict(part.sizes))
