"""The choice of a token from logits."""

from collections.abc import Mapping
from dataclasses import replace

from calc.work.op import Op
from calc.work.step import sampler
from validate.probes.base import Built, Case, precision
from validate.probes.rows import RowsProbe


class Sampler(RowsProbe):
    """Probabilities in float32 and the largest, for ``rows`` rows of ``width`` logits."""

    name = "sampler"
    widths = (8000, 16000, 32000, 128256)

    def sizes(self, plan, dtype: str):
        """Yield a staggered grid, of no more rows than sequences of a step."""
        yield from super().sizes(replace(plan, tokens=64), dtype)

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return sampler(sizes["rows"], sizes["width"], precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the pass over warm logits."""
        from validate.probes.kernels import sample

        return Built(
            sample,
            [(bench.random(case.sizes["rows"], case.sizes["width"], dtype=case.dtype),)],
            "softmax-argmax",
        )

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the largest logits in float64: ties may choose another token, not a smaller logit."""
        logits = args[0].double()
        return (lambda out: logits.gather(1, out[:, None])[:, 0]), logits.max(-1).values
