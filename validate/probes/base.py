"""What probes share: cases, the interface, precisions of ``calc`` by dtype, spread sizes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from calc.specs.model import Model
from calc.work.op import Op, Precision
from validate.profile import sizes_text

#: dtype -> bits of a weight, bytes of an activation beside it
WIDTHS = {"bf16": (16, 2.0), "fp16": (16, 2.0), "fp32": (32, 4.0), "fp8": (8, 2.0), "int8": (8, 2.0)}
#: dtype -> largest relative error (Frobenius norm) of one kernel against float64
LIMITS = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2, "fp8": 6e-2, "int8": 1e-2}
_ROLES = ("attention", "feedforward", "expert", "shared_expert", "router", "lm_head", "embedding")


@dataclass(frozen=True)
class Case:
    """One thing to measure: a probe, a dtype, sizes.

    A plain case runs the kernel that is fitted: where the probe has several ways, the one that it
    ``prefers``, or torch's choice. A variant runs the ``kernel`` that it names, a way of the probe
    or an adapter; it is compared with the plain case of its sizes and takes no part in a fit.
    """

    probe: str
    dtype: str
    sizes: Mapping[str, int]
    kernel: str = ""
    prefers: str = ""

    @property
    def key(self) -> str:
        """Name of the case in files.

        Examples
        --------
        >>> Case("gemm", "bf16", {"m": 1, "n": 64}).key
        'gemm bf16 m=1 n=64'
        >>> Case("norm", "bf16", {"rows": 1, "width": 64}, "triton_norm").key
        'norm bf16 triton_norm rows=1 width=64'
        """
        return " ".join(
            part for part in (self.probe, self.dtype, self.kernel, sizes_text(self.sizes)) if part
        )


@dataclass(frozen=True)
class Plan:
    """What a run may ask of the machine.

    ``level`` is 0 (quick), 1 (standard) or 2 (full); ``call_s`` the longest call, ``case_bytes``
    the most memory of one case; ``peak_flops_per_s`` and ``bandwidth_bytes_per_s`` rough ceilings;
    ``tokens`` the most new tokens of a step that is asked for. ``models`` add their own shapes.
    """

    kind: str = "cpu"
    level: int = 1
    call_s: float = 0.2
    case_bytes: float = 1e9
    peak_flops_per_s: float = 1e12
    bandwidth_bytes_per_s: float = 1e10
    tokens: int = 1024
    models: tuple[Model, ...] = field(default=())

    def seconds(self, op: Op):
        """Return a rough time of one call: three times the roofline. [s]"""
        busy = np.maximum(op.flops / self.peak_flops_per_s, op.bytes / self.bandwidth_bytes_per_s)
        return 3.0 * busy + (2e-5 if self.kind == "cpu" else 1e-5)

    def affords(self, op: Op) -> bool:
        """Whether one call is short and small enough."""
        return bool(self.seconds(op) <= self.call_s and op.bytes <= self.case_bytes)


class Built(NamedTuple):
    """A case ready to run: ``call(*sets[i])``, inputs rotated so that weights and caches are cold.

    Calls run inside ``within()``, which is entered once a block; a call that ``overwrites`` its
    inputs is checked on copies; ``plain`` turns arguments into those that the reference takes.
    """

    call: Callable
    sets: list
    kernel: str
    within: Callable = nullcontext
    overwrites: bool = False
    plain: Callable | None = None


class Probe(ABC):
    """One kind of kernel call: which sizes, how much work, the tensors, the right answer.

    ``name`` is the key in files; ``dtypes`` those that are measured; ``shape`` the sizes that
    make two cases the same shape, left out of the fit together; ``replaces`` the kernel of
    ``validate.probes.kernels`` that it times, which an adapter may stand in for.
    """

    name: str
    dtypes: tuple[str, ...] = ("bf16",)
    shape: tuple[str, ...] = ()
    chained: int = 1  # products in a row, each of which rounds
    replaces: str = ""

    @abstractmethod
    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield sizes, spread over the range and with its corners."""

    @abstractmethod
    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one call from ``calc``; sizes are numbers or arrays."""

    @abstractmethod
    def build(self, case: Case, bench) -> Built:
        """Return the call and its inputs on the device."""

    @abstractmethod
    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return what to take of the output, and what it must be, in float64."""

    def cases(self, plan: Plan) -> list[Case]:
        """Return the cases that a plan affords."""
        found = {}
        for dtype in self.dtypes:
            for sizes in self.sizes(plan, dtype):
                if plan.affords(self.op(sizes, dtype)):
                    case = Case(self.name, dtype, dict(sizes))
                    found[case.key] = case
        return list(found.values())

    def ways(self, kind: str) -> tuple[str, ...]:
        """Return the kernels of torch that may run it on a kind of device; none where there is no choice.

        Of those that run, the fastest is fitted; the others are compared with it.
        """
        return ()

    def rivals(self, kind: str) -> tuple[str, ...]:
        """Return the names of kernels of torch that are compared with the fitted one and never fitted."""
        return ()

    def by(self, built: Built, way: str) -> Built:
        """Return a built case that runs by one of its ways."""
        raise NotImplementedError(way)

    def limit(self, dtype: str) -> float:
        """Largest relative error of a right kernel."""
        return LIMITS[dtype] * self.chained

    def unavailable(self, case: Case, bench) -> str:
        """Return why this machine or build cannot run a case; empty where it can."""
        return ""


def precision(dtype: str) -> Precision:
    """Return the formats of a deployment in which everything is of one dtype.

    Examples
    --------
    >>> precision("fp32").weight_bytes("feedforward", 10)
    40.0
    """
    bits, activation_bytes = WIDTHS[dtype]
    return Precision(
        bits=dict.fromkeys(_ROLES, bits),
        kv_bytes=activation_bytes,
        math=dtype,
        activation=dtype if bits > 8 else "bf16",
        activation_bytes=activation_bytes,
        math_by_role=dict.fromkeys(_ROLES, dtype),
        formats=dict.fromkeys(_ROLES, dtype),
        kv_format=dtype if bits > 8 else "bf16",
    )


def spread(low: float, high: float, n: int) -> list[int]:
    """Return whole numbers evenly spread in the logarithm, both ends included.

    Examples
    --------
    >>> spread(1, 64, 4)
    [1, 4, 16, 64]
    """
    if high <= low or n < 2:
        return [int(low)]
    return sorted({round(float(x)) for x in np.geomspace(low, high, n)})


def staggered(rows: list, columns: list, step: int = 2):
    """Yield pairs of a grid, every ``step``-th of each row, shifted from row to row; ends of rows stay.

    Examples
    --------
    >>> list(staggered(["a", "b"], [1, 2, 3, 4]))
    [('a', 1), ('a', 3), ('a', 4), ('b', 1), ('b', 2), ('b', 4)]
    """
    last = len(columns) - 1
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if (i + j) % step == 0 or j in (0, last):
                yield row, column


def named(ops: Iterable[Op], name: str) -> Op:
    """Return the operation of a name from a list of ``calc``."""
    return next(op for op in ops if op.name == name)
