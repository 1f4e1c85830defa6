"""Routed experts: choice of experts, sorting, two grouped products, the weighted sum."""

from collections.abc import Iterable, Mapping

from calc.work.expert_load import expert_load
from calc.work.experts import ExpertSizes, routed_experts
from calc.work.op import Op
from validate.probes.base import Built, Case, Plan, Probe, precision, spread

#: (d_model, d_expert, experts, top_k)
LAYERS = ((768, 512, 16, 2), (1024, 1024, 8, 2), (1024, 768, 32, 4), (2048, 768, 16, 4), (2048, 1408, 64, 6))
#: input sets with routings of their own: the mean hits as many experts as the formula expects
ROUTINGS = 8


class Experts(Probe):
    """The routed experts of one layer; ``skew_pct`` is 100 times the exponent of their popularity."""

    name = "moe"
    replaces = "grouped_experts"
    shape = ("d_model", "d_expert", "experts", "top_k")
    chained = 2

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield tokens from one to four times what is asked for, for each layer; skewed ones too."""
        tokens = spread(1, 2 * plan.tokens, 6 + 2 * plan.level)
        for i, layer in enumerate((*LAYERS, *model_layers(plan))):
            sizes = dict(zip(self.shape, layer, strict=True))
            if 6 * sizes["experts"] * sizes["d_model"] * sizes["d_expert"] > plan.case_bytes:
                continue  # all experts lie in memory, whichever are hit
            for j, n in enumerate(tokens):
                if (i + j) % 2 == 0 or j in (0, len(tokens) - 1):
                    yield {"tokens": n, **sizes, "skew_pct": 0}
        for n in spread(16, plan.tokens, 2 + plan.level):
            yield {"tokens": n, **dict(zip(self.shape, LAYERS[0], strict=True)), "skew_pct": 120}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one layer, at the experts it hits on average."""
        tokens, experts, top_k = sizes["tokens"], sizes["experts"], sizes["top_k"]
        load = expert_load(tokens, experts, top_k, 1, sizes["skew_pct"] / 100)
        return routed_experts(
            tokens, ExpertSizes(sizes["d_model"], sizes["d_expert"], experts, top_k), load, precision(dtype)
        )

    def build(self, case: Case, bench) -> Built:
        """Return the layer with routings and weights that change from call to call."""
        from validate.probes import kernels
        from validate.probes.bench import rotated

        d_model, width, experts, top_k = (case.sizes[name] for name in self.shape)
        x = bench.random(case.sizes["tokens"], d_model, dtype=case.dtype)
        logits = [self._logits(case, bench) for _ in range(ROUTINGS)]
        stacks = bench.cold(experts, 3 * width, d_model, dtype=case.dtype)
        ups = [
            each.view(-1)[: experts * 2 * width * d_model].view(experts, 2 * width, d_model)
            for each in stacks
        ]
        downs = [
            each.view(-1)[experts * 2 * width * d_model :].view(experts, d_model, width) for each in stacks
        ]
        call, kernel = kernels.experts_kernel(bench)
        return Built(call, rotated(x, logits, ups, downs, top_k), kernel)

    def _logits(self, case: Case, bench):
        """Return logits of a router: equal chances, or popularities that follow a power law."""
        import torch

        n = case.sizes["experts"]
        logits = bench.random(case.sizes["tokens"], n, dtype="fp32")
        if not case.sizes["skew_pct"]:
            return logits
        gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)))
        rank = torch.arange(1, n + 1, device=logits.device)
        return gumbel - case.sizes["skew_pct"] / 100 * torch.log(rank)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some tokens' sums in float64, with the experts that the tested dtype chose."""
        import torch

        from validate.probes.kernels import routing

        x, logits, up, down, top_k = args
        rows = bench.choose(case.sizes["tokens"], 6)
        weights, experts = routing(logits[rows], top_k)
        want = torch.zeros(len(rows), x.shape[1], dtype=torch.float64, device=x.device)
        for i, row in enumerate(rows):
            for weight, expert in zip(weights[i].double(), experts[i], strict=True):
                gate, value = (up[expert].double() @ x[row].double()).chunk(2)
                want[i] += weight * (down[expert].double() @ (gate * torch.sigmoid(gate) * value))
        return (lambda out: out[rows]), want


def model_layers(plan: Plan) -> list[tuple[int, int, int, int]]:
    """Return the expert layers of the plan's models."""
    found = []
    for model in plan.models:
        for layer in model.layers:
            if layer.feedforward and layer.feedforward.kind == "moe":
                sizes = dict(layer.feedforward.sizes)
                found.append(tuple(sizes[name] for name in ("d_model", "d_expert", "n_experts", "top_k")))
    return list(dict.fromkeys(found))
