"""What passes over rows share: ``rows`` tokens of ``width`` elements, in the dtype of activations."""

from collections.abc import Iterable, Mapping

from validate.probes.base import Plan, Probe, spread, staggered

WIDTHS = (512, 1024, 2048, 4096, 8192)


class RowsProbe(Probe):
    """A pass over ``rows`` tokens of ``width`` elements."""

    shape = ("width",)
    widths = WIDTHS

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield a staggered grid of rows and widths."""
        rows = spread(1, plan.tokens, 7 + 2 * max(0, plan.level - 1))
        widths = self.widths if plan.level else self.widths[1:4]
        for width, n in staggered(list(widths), rows):
            yield {"rows": n, "width": width}
