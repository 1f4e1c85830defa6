"""Rows read from the embedding table."""

from collections.abc import Iterable, Mapping

from calc.work.op import Op
from calc.work.step import embedding
from validate.probes.base import WIDTHS, Built, Case, Plan, precision
from validate.probes.rows import RowsProbe

#: rows of the table
VOCABULARY = 16000
#: lists of tokens that go round: the rows of the first were evicted when its turn comes again
LISTS = 256


class Embedding(RowsProbe):
    """``rows`` tokens' rows of ``width``, at random places of the table."""

    name = "embedding"

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield a staggered grid of rows and widths whose table fits."""
        bits = 8 * plan.case_bytes / VOCABULARY / WIDTHS[dtype][0]
        yield from (each for each in super().sizes(plan, dtype) if each["width"] <= bits)

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        return embedding(sizes["rows"], sizes["width"], precision(dtype))

    def build(self, case: Case, bench) -> Built:
        """Return the look-up, at other rows each time."""
        import torch

        from validate.probes.bench import rotated

        table = bench.cold(VOCABULARY, case.sizes["width"], dtype=case.dtype)
        tokens = [
            torch.randint(0, VOCABULARY, (case.sizes["rows"],), device=bench.device) for _ in range(LISTS)
        ]
        return Built(torch.nn.functional.embedding, rotated(tokens, table), "embedding")

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the rows themselves."""
        return (lambda out: out), args[1][args[0]].double()
