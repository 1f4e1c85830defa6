"""Activations of feed-forwards: the gated one, and GELU."""

from collections.abc import Mapping
from dataclasses import replace

from calc.work.feedforward import Dense
from calc.work.op import Op, Sequences
from calc.work.sharding import Split
from validate.probes.base import Built, Case, named, precision
from validate.probes.rows import RowsProbe


class SwiGlu(RowsProbe):
    """SwiGLU of ``rows`` tokens: ``width`` gates times ``width`` values, side by side."""

    name = "swiglu"
    replaces = "swiglu"
    gated = True
    chained = 2
    widths = (704, 2048, 5632, 14336)

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        layer = Dense(1, sizes["width"], gated=self.gated)
        group = Sequences("prefill", 1, sizes["rows"], 0)
        return named(layer.ops((group,), precision(dtype), Split()), "mlp.activation")

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm activations."""
        from validate.probes.kernels import swiglu

        x = bench.random(case.sizes["rows"], 2 * case.sizes["width"], dtype=case.dtype)
        return Built(swiglu, [(x,)], "silu-mul")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows in float64."""
        import torch

        rows = bench.choose(case.sizes["rows"])
        gate, up = args[0][rows].double().chunk(2, -1)
        return (lambda out: out[rows]), gate * torch.sigmoid(gate) * up


class Gelu(SwiGlu):
    """GELU in its tanh form; a row of its own, beside the gated activation."""

    name = "gelu"
    replaces = ""
    gated = False

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return replace(super().op(sizes, dtype), format="gelu")

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm activations."""
        from validate.probes.kernels import gelu

        return Built(
            gelu, [(bench.random(case.sizes["rows"], case.sizes["width"], dtype=case.dtype),)], "gelu"
        )

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows in float64."""
        import torch

        rows = bench.choose(case.sizes["rows"])
        return (lambda out: out[rows]), torch.nn.functional.gelu(args[0][rows].double(), approximate="tanh")
