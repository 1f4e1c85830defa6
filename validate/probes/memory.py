"""Memory: how fast plain passes over large arrays are; the measured bandwidth."""

from collections.abc import Iterable, Mapping

from calc.work.op import Op
from validate.probes.base import Built, Case, Plan, Probe, precision

#: bytes of one array, by level
SIZES = ((1 << 26,), (1 << 22, 1 << 26, 1 << 28), (1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28))


class _Pass(Probe):
    """A pass over arrays of ``elements`` numbers in fp32; ``reads`` and ``writes`` arrays."""

    dtypes = ("fp32",)
    shape = ("elements",)
    reads, writes = 1, 0

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield array lengths."""
        for size in SIZES[plan.level]:
            if size * 3 <= plan.case_bytes:
                yield {"elements": size // 4}

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the bytes of one pass."""
        moved = sizes["elements"] * precision(dtype).activation_bytes
        return Op(
            f"memory.{self.name}",
            "memory",
            dtype,
            activation_bytes=moved * (self.reads + self.writes),
            format=self.name,
        )

    def build(self, case: Case, bench) -> Built:
        """Return the pass over arrays at different places of the pool."""
        from validate.probes.bench import rotated

        arrays = bench.cold(case.sizes["elements"], dtype="fp32")
        later = arrays[len(arrays) // 2 :] + arrays[: len(arrays) // 2]
        out = bench.random(case.sizes["elements"], dtype="fp32")
        return Built(self.run, rotated(arrays, later, out), "torch")


class Read(_Pass):
    """The sum of one array."""

    name = "read"

    @staticmethod
    def run(a, b, out):
        """Return the sum."""
        return a.sum()

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return the sum in float64, over the number of elements so that cancelling does not matter."""
        import torch

        n = len(args[0])
        return (lambda out: out.double() + n), args[0].sum(dtype=torch.float64) + n


class Copy(_Pass):
    """One array copied to another."""

    name, writes = "copy", 1

    @staticmethod
    def run(a, b, out):
        """Copy."""
        return out.copy_(a)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some of what was copied."""
        at = bench.choose(len(args[0]), 4096)
        return (lambda out: out[at]), args[0][at].double()


class Triad(_Pass):
    """The weighted sum of two arrays, in a third."""

    name, reads, writes = "triad", 2, 1

    @staticmethod
    def run(a, b, out):
        """Return ``a + 3 b``."""
        import torch

        return torch.add(a, b, alpha=3.0, out=out)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some of the sums in float64."""
        at = bench.choose(len(args[0]), 4096)
        return (lambda out: out[at]), args[0][at].double() + 3.0 * args[1][at].double()
