"""Norms: with the residual sum, alone before the lm_head, and the layer norm of older models."""

from collections.abc import Mapping
from dataclasses import replace

from calc.work.op import Op
from calc.work.step import final_norm, norm_and_residual
from validate.probes.base import Built, Case, precision
from validate.probes.rows import RowsProbe


class NormAndResidual(RowsProbe):
    """The residual sum and its RMS norm."""

    name = "norm"
    replaces = "norm_and_residual"
    chained = 2

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return norm_and_residual(sizes["rows"] * sizes["width"], precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm activations."""
        from validate.probes.kernels import norm_and_residual as call

        rows, width = case.sizes["rows"], case.sizes["width"]
        x, delta = (bench.random(rows, width, dtype=case.dtype) for _ in range(2))
        return Built(call, [(x, delta, bench.random(width, dtype=case.dtype))], "rms_norm")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows of the norm in float64."""
        rows = bench.choose(case.sizes["rows"])
        total = args[0][rows].double() + args[1][rows].double()
        want = total / (total.square().mean(-1, keepdim=True) + 1e-5).sqrt() * args[2].double()
        return (lambda out: out[1][rows]), want


class LayerNorm(NormAndResidual):
    """The residual sum and its layer norm; a row of its own, beside the RMS norm."""

    name = "layer_norm"
    replaces = ""

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return replace(super().op(sizes, dtype), format="layer_norm_and_residual")

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm activations."""
        from validate.probes.kernels import layer_norm_and_residual as call

        rms = super().build(case, bench)
        return Built(
            call, [(*rms.sets[0], bench.random(case.sizes["width"], dtype=case.dtype))], "layer_norm"
        )

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows of the norm in float64."""
        rows = bench.choose(case.sizes["rows"])
        total = args[0][rows].double() + args[1][rows].double()
        centred = total - total.mean(-1, keepdim=True)
        want = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * args[2].double()
        return (lambda out: out[1][rows]), want + args[3].double()


class FinalNorm(RowsProbe):
    """The RMS norm alone."""

    name = "final_norm"
    replaces = "rms_norm"

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return final_norm(sizes["rows"] * sizes["width"], precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm activations."""
        from validate.probes.kernels import rms_norm

        x = bench.random(case.sizes["rows"], case.sizes["width"], dtype=case.dtype)
        return Built(rms_norm, [(x, bench.random(case.sizes["width"], dtype=case.dtype))], "rms_norm")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows of the norm in float64."""
        rows = bench.choose(case.sizes["rows"])
        x = args[0][rows].double()
        want = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * args[1].double()
        return (lambda out: out[rows]), want
