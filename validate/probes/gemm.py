"""Matrix products of ``m x k`` activations and an ``n x k`` weight, by dtype."""

from collections.abc import Iterable, Mapping

from calc.work.op import Op, Sequences, gemm
from calc.work.step import step_ops
from validate.probes.base import Built, Case, Plan, Probe, precision, spread, staggered

#: (n, k) that span what small and large models ask, narrow routers and wide heads included
SHAPES = (
    (16, 1024), (64, 2048), (640, 768), (1792, 1024), (1024, 3072), (2304, 2048), (6144, 1280), (2048, 6144),
    (4096, 4096), (12288, 2048), (16384, 1024), (32768, 4096), (28672, 8192),
)  # fmt: skip
#: (n, k) of the other dtypes: fewer
FEW = ((1792, 1024), (4096, 4096), (1024, 3072), (12288, 2048))
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
OFF_TILE = (5, 48, 200, 700)


class Gemm(Probe):
    """A dense projection; weights are cold."""

    name = "gemm"
    replaces = "linear"
    dtypes = ("bf16", "fp32", "fp16", "fp8", "int8")
    shape = ("n", "k")

    def sizes(self, plan: Plan, dtype: str) -> Iterable[Mapping[str, int]]:
        """Yield a staggered grid; of the plan's models their own projections."""
        main = dtype == "bf16"
        if dtype == "fp8" and plan.kind == "cpu":  # computed in software there: one case, to be checked
            yield {"m": 32, "n": 256, "k": 256}
            return
        rows = [m for m in ROWS if m <= (plan.tokens if main else min(plan.tokens, 512))]
        rows = rows[:: 3 - plan.level] if plan.level < 2 else rows
        rows = sorted({1, plan.tokens if main else rows[-1], *rows})
        if dtype == "int8":  # CUDA's kernel takes no fewer rows than 17
            rows = [m for m in (32, 64, 128, 256, 512) if m <= plan.tokens]
        every = 1 if dtype == "int8" else 2
        for (n, k), m in staggered(list(SHAPES if main else FEW), rows, every):
            yield {"m": m, "n": n, "k": k}
        if main:
            yield from ({"m": m, "n": 2304, "k": 2048} for m in OFF_TILE if m <= plan.tokens)
            for n, k in model_shapes(plan):
                yield from ({"m": m, "n": n, "k": k} for m in spread(1, plan.tokens, 4))

    def op(self, sizes: Mapping, dtype: str) -> Op:
        """Return the work of one product."""
        return gemm("gemm", "feedforward", sizes["m"], sizes["n"], sizes["k"], precision(dtype))

    def unavailable(self, case: Case, bench) -> str:
        """Say where a dtype has no product."""
        import torch

        if case.dtype == "fp8" and not (hasattr(torch, "_scaled_mm") and hasattr(torch, "float8_e4m3fn")):
            return "this torch has no _scaled_mm"
        if case.dtype == "int8" and not hasattr(torch, "_int_mm"):
            return "this torch has no _int_mm"
        if (
            case.dtype == "fp8"
            and bench.kind == "cuda"
            and torch.cuda.get_device_capability(bench.device) < (8, 9)
        ):
            return "this device has no fp8 units"
        return ""

    def build(self, case: Case, bench) -> Built:
        """Return the product with weights at different places of the pool."""
        from validate.probes.bench import rotated

        m, n, k = (case.sizes[name] for name in "mnk")
        x = bench.random(m, k, dtype=case.dtype if case.dtype != "fp8" else "bf16", scale=0.5)
        weights = bench.cold(n, k, dtype=case.dtype)
        call, kernel = _CALLS.get(case.dtype, (_plain, "linear"))
        scale = [bench.ones()] if case.dtype == "fp8" else []
        return Built(call, rotated(x, weights, *scale), kernel)

    def reference(self, case: Case, args: tuple, bench) -> tuple:
        """Return some rows and columns of the product in float64."""
        x, weight = args[:2]
        rows, columns = bench.choose(case.sizes["m"]), bench.choose(case.sizes["n"], 128)
        want = x[rows].double() @ weight[columns].double().T
        return (lambda out: out[rows][:, columns]), want


def _plain(x, weight):
    from validate.probes.kernels import linear

    return linear(x, weight)


def _fp8(x, weight, scale):
    """Quantise activations with a known scale, multiply, return bf16."""
    import torch

    return torch._scaled_mm(
        x.to(weight.dtype), weight.T, scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16
    )


def _int8(x, weight):
    import torch

    return torch._int_mm(x, weight.T)


_CALLS = {"fp8": (_fp8, "_scaled_mm"), "int8": (_int8, "_int_mm")}


def model_shapes(plan: Plan) -> list[tuple[int, int]]:
    """Return (n, k) of the projections of a plan's models, on one device.

    Examples
    --------
    >>> import calc
    >>> model_shapes(Plan(models=(calc.load_model("llama-3.1-8b"),)))
    [(4096, 4096), (4096, 14336), (6144, 4096), (28672, 4096), (128256, 4096)]
    """
    found = set()
    for model in plan.models:
        for op in step_ops(model, (Sequences("decode", 1, 1, 1),), precision("bf16")):
            if op.kind == "gemm":
                found.add((int(op.shape["n"]), int(op.shape["k"])))
    return sorted(found)
