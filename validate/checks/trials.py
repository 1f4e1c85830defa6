"""Tiny cases on a device: which dtypes multiply, which attention backends and kernels run."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

#: largest relative error (Frobenius norm) of one product against float64
LIMITS = {"fp32": 1e-3, "fp16": 2e-3, "bf16": 1e-2, "int8": 1e-6, "fp8": 1e-2}
BACKENDS = ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH")
#: how the reason begins where a kernel runs and its result is not right
WRONG = "wrong result"
KERNELS = ("grouped_mm", "varlen_attention", "paged_attention")


@dataclass(frozen=True)
class Trial:
    """One thing that was tried on a device; ``reason`` is empty where it works and is right."""

    place: str
    what: str
    name: str
    reason: str = ""


def trials(torch, place: str) -> list[Trial]:
    """Return the trials on one device."""
    rows = [_tried(place, "dtype", name, lambda n=name: _product(torch, place, n)) for name in LIMITS]
    rows += [
        _tried(place, "attention", name, lambda n=name: _attention(torch, place, n)) for name in BACKENDS
    ]
    return rows + [
        _tried(place, "kernel", name, lambda n=name: _KERNELS[n](torch, place)) for name in KERNELS
    ]


def _tried(place: str, what: str, name: str, call: Callable[[], float]) -> Trial:
    """Run a case that returns its error over what is allowed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = call()
    except Exception as problem:  # kernels raise whatever their authors chose
        return Trial(place, what, name, _first_sentence(problem))
    wrong = not error <= 1
    return Trial(place, what, name, f"{WRONG}: {error:.1f} times the error allowed" if wrong else "")


def _first_sentence(problem: Exception) -> str:
    text = str(problem).strip().splitlines()
    line = text[0].partition(". ")[0].strip() if text else ""
    return (line if len(line) < 100 else line[:97] + "...") or type(problem).__name__


def _relative(got, want) -> float:
    error = (got.cpu().double() - want).norm() / want.norm()
    return float(error) if math.isfinite(error) else math.inf


def _product(torch, place: str, name: str) -> float:
    x, weight = torch.randn(32, 64, dtype=torch.float64), torch.randn(48, 64, dtype=torch.float64)
    if name == "int8":
        x, weight = (30 * x).round().clamp(-127, 127), (30 * weight).round().clamp(-127, 127)
        x, weight = x.to(torch.int8), weight.to(torch.int8)
        got = torch._int_mm(x.to(place), weight.to(place).T)
    elif name == "fp8":
        x, weight, one = (
            x.to(torch.float8_e4m3fn),
            weight.to(torch.float8_e4m3fn),
            torch.ones((), device=place),
        )
        got = torch._scaled_mm(
            x.to(place), weight.to(place).T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )
    else:
        dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]
        x, weight = x.to(dtype), weight.to(dtype)
        got = torch.nn.functional.linear(x.to(place), weight.to(place))
    return _relative(got, x.double() @ weight.double().T) / LIMITS[name]


def _attention(torch, place: str, name: str) -> float:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    q, k, v = (torch.randn(1, 4, 16, 64).to(torch.bfloat16) for _ in range(3))
    scores = q.double() @ k.double().transpose(-1, -2) / 8
    later = torch.ones(16, 16, dtype=torch.bool).triu(1)
    want = scores.masked_fill(later, -math.inf).softmax(-1) @ v.double()
    with sdpa_kernel(getattr(SDPBackend, name)):
        moved = (part.to(place) for part in (q, k, v))
        got = torch.nn.functional.scaled_dot_product_attention(*moved, is_causal=True)
        return _relative(got, want) / LIMITS["bf16"]


def _grouped(torch, place: str) -> float:
    call = getattr(torch.nn.functional, "grouped_mm", None) or torch._grouped_mm
    x, weight = torch.randn(32, 64).to(torch.bfloat16), torch.randn(2, 64, 32).to(torch.bfloat16)
    ends = torch.tensor([16, 32], dtype=torch.int32)
    want = torch.cat([x[:16].double() @ weight[0].double(), x[16:].double() @ weight[1].double()])
    return _relative(call(x.to(place), weight.to(place), offs=ends.to(place)), want) / LIMITS["bf16"]


def _varlen(torch, place: str) -> float:
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (torch.randn(16, 4, 64).to(torch.bfloat16) for _ in range(3))
    ends = torch.tensor([0, 16], dtype=torch.int32, device=place)
    got = varlen_attn(*(part.to(place) for part in (q, k, v)), ends, ends, 16, 16)
    scores = torch.einsum("qhd,khd->hqk", q.double(), k.double()) / 8
    want = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.double())
    return _relative(got, want) / LIMITS["bf16"]


def _paged(torch, place: str) -> float:
    from validate.probes.paged_kernels import varlen_decode
    from validate.probes.ways import varlen_reason

    if why := varlen_reason(paged=True):
        raise NotImplementedError(why)
    page, seen = 256, 300
    q, k, v = (torch.randn(1, 4, 1, 64).to(torch.bfloat16) for _ in range(3))
    caches = [torch.randn(2, page, 4, 64).to(torch.bfloat16) for _ in range(2)]
    table, slots, used = (torch.tensor(x) for x in ([[1, 0]], [seen - 1 - page], [seen]))
    whole = [torch.cat((cache[1], cache[0]))[: seen - 1] for cache in caches]
    keys, values = (
        torch.cat((x, new[0].transpose(0, 1))).double() for x, new in zip(whole, (k, v), strict=True)
    )
    scores = torch.einsum("hd,khd->hk", q[0, :, 0].double(), keys) / 8
    want = torch.einsum("hk,khd->hd", scores.softmax(-1), values)
    moved = [part.to(place) for part in (q, k, v, *caches)]
    ends = [part.to(place, torch.int32) for part in (torch.tensor([0, 1]), used)]
    got = varlen_decode(*moved, table.to(place, torch.int32), slots.to(place), seen, ends)
    return _relative(got[0, :, 0], want) / LIMITS["bf16"]


_KERNELS = {"grouped_mm": _grouped, "varlen_attention": _varlen, "paged_attention": _paged}
