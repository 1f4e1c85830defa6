"""Short causal convolutions of linear attention, in plain torch."""

from collections.abc import Iterable, Mapping

from calc.work.linear_kernels import convolution
from calc.work.op import Op
from validate.probes.base import Built, Case, Plan, Probe, precision, spread

WIDTH = 4


class ConvolutionUpdate(Probe):
    """One new token of each sequence; the tails are cold."""

    name = "conv_update"
    shape = ("channels",)
    chained = 2
    phase = "decode"

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield channels and batches."""
        for channels in (1024, 2304, 4352, 8192):
            for batch in spread(1, 64, 3 + plan.level):
                yield {"batch": batch, "new": 1, "channels": channels}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call."""
        work = sizes["batch"], sizes["new"], sizes["channels"]
        return convolution("conv", self.phase, *work, WIDTH, precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the update of cold tails."""
        from validate.probes.bench import rotated
        from validate.probes.kernels import convolve_update

        batch, channels = case.sizes["batch"], case.sizes["channels"]
        tails = bench.cold(batch, channels, WIDTH, dtype=case.dtype)
        x, weight = (
            bench.random(batch, channels, dtype=case.dtype),
            bench.random(channels, WIDTH, dtype=case.dtype),
        )
        return Built(convolve_update, rotated(tails, x, weight), "plain")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the output in float64, from the tail that the call moved on."""
        import torch

        total = (args[0].double() * args[2].double()).sum(-1)
        return (lambda out: out), total * torch.sigmoid(total)


class ConvolutionPrefill(ConvolutionUpdate):
    """All tokens of a prompt."""

    name = "conv_prefill"
    phase = "prefill"

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield channels and lengths."""
        for channels in (1024, 2304, 4352, 8192):
            for new in spread(16, plan.tokens, 3 + plan.level):
                yield {"batch": 1, "new": new, "channels": channels}

    def build(self, case: Case, bench) -> Built:
        """Return the convolution over warm activations."""
        from validate.probes.kernels import convolve

        batch, new, channels = (case.sizes[name] for name in ("batch", "new", "channels"))
        x = bench.random(batch, channels, new, dtype=case.dtype)
        return Built(convolve, [(x, bench.random(channels, WIDTH, dtype=case.dtype))], "conv1d")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some channels in float64."""
        import torch

        x, weight = args
        at = bench.choose(x.shape[1])
        padded = torch.nn.functional.pad(x[:, at].double(), (WIDTH - 1, 0))
        total = (padded.unfold(-1, WIDTH, 1) * weight[at].double()[:, None]).sum(-1)
        return (lambda out: out[:, at]), total * torch.sigmoid(total)
