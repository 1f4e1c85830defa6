"""The bench: one torch device with random inputs, warm ones and cold ones, and the check of results."""

import math
import zlib

import torch

DTYPES = {
    "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64,
    "int8": torch.int8, "fp8": getattr(torch, "float8_e4m3fn", None),
}  # fmt: skip
#: most input sets that rotate, elements that are drawn at random before they repeat
MOST_SETS, DRAWN = 256, 1 << 23
#: positions of an output that are compared along one dimension
CHOSEN = 16


class Bench:
    """A torch device and its inputs.

    Activations are warm, as the kernel before leaves them; weights and caches come from a pool
    larger than the last-level cache, each call from another place in it.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda:0"`` (ROCm too) or ``"mps"``.
    pool_bytes : float
        Size of the pool of each dtype.
    """

    def __init__(self, device: str = "cpu", pool_bytes: float = 2**28):
        self.device, self.pool_bytes = torch.device(device), int(pool_bytes)
        self._pools: dict[str, torch.Tensor] = {}
        self._scratch: dict[str, torch.Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._drawn = torch.randn(DRAWN + 1, device=self.device)

    @property
    def kind(self) -> str:
        """One of cpu, cuda, rocm, mps."""
        if self.device.type == "cuda" and torch.version.hip:
            return "rocm"
        return self.device.type

    def seed(self, key: str) -> None:
        """Make what is drawn next depend on nothing but a case's key."""
        torch.manual_seed(zlib.crc32(key.encode()))

    def random(self, *shape: int, dtype: str = "bf16", scale: float = 1.0) -> torch.Tensor:
        """Return random normal numbers; of 8 bits: what fits them."""
        size = math.prod(shape)
        if size > DRAWN:
            drawn = _as(self._drawn[:DRAWN] * scale, dtype)
            return drawn.repeat(-(-size // DRAWN))[:size].view(shape)
        at = int(torch.randint(0, DRAWN - size + 1, ()))
        return _as(self._drawn[at : at + size].view(shape) * scale, dtype)

    def cold(self, *shape: int, dtype: str = "bf16") -> list[torch.Tensor]:
        """Return tensors of one shape at different places of the pool, enough to pass all of it."""
        pool, size = self._pool(dtype), math.prod(shape)
        step = -(-size // 64) * 64
        if size > len(pool):
            raise MemoryError(f"{size * pool.element_size() / 1e9:.1f} GB of inputs exceed the pool")
        places = max(1, len(pool) // step)
        stride = max(1, places // MOST_SETS)
        return [pool[i * step : i * step + size].view(shape) for i in range(0, places, stride)]

    def scratch(self, *shape: int, dtype: str = "bf16") -> torch.Tensor:
        """Return room for intermediate results, the same for every case: one call uses it at a time."""
        size = math.prod(shape)
        if dtype not in self._scratch or size > len(self._scratch[dtype]):
            self._scratch[dtype] = torch.empty(size, dtype=DTYPES[dtype], device=self.device)
        return self._scratch[dtype][:size].view(shape)

    def _pool(self, dtype: str) -> torch.Tensor:
        if dtype not in self._pools:
            drawn = _as(self._drawn * 0.5, dtype)
            n = self.pool_bytes // drawn.element_size()
            pool = torch.empty(n, dtype=drawn.dtype, device=self.device)
            for at in range(0, n, len(drawn)):
                pool[at : at + len(drawn)] = drawn[: n - at]
            self._pools[dtype] = pool
        return self._pools[dtype]

    def flusher(self, flush_bytes: float):
        """Return a call that reads so many bytes of the pool, another part each time."""
        if not flush_bytes:
            return None
        parts = self.cold(int(flush_bytes) // 4, dtype="fp32")
        at = iter(range(10**12))
        return lambda: parts[next(at) % len(parts)].sum()

    def ones(self) -> torch.Tensor:
        """Return a scale of one."""
        return torch.ones((), device=self.device)

    def to_check(self, values):
        """Return tensors where float64 can be computed: on the host for Apple's devices, else as they are."""
        if self.kind != "mps":
            return values
        if isinstance(values, torch.Tensor):
            return values.cpu()
        return tuple(each.cpu() if isinstance(each, torch.Tensor) else each for each in values)

    def poison_like(self, out) -> None:
        """Leave NaN where the allocator places the next tensors of an output's sizes."""
        for each in _tensors(out):
            if each.is_floating_point() and each.element_size() > 1:
                torch.empty_like(each).fill_(math.nan)

    def is_finite(self, out) -> bool:
        """Whether no output holds NaN or infinity, wherever it was not compared."""
        wide = (each for each in _tensors(out) if each.is_floating_point() and each.element_size() > 1)
        return all(bool(torch.isfinite(each).all()) for each in wide)

    def choose(self, size: int, most: int = CHOSEN) -> torch.Tensor:
        """Return positions along a dimension: first, last and some between."""
        device = "cpu" if self.kind == "mps" else self.device
        if size <= most:
            return torch.arange(size, device=device)
        inner = torch.randint(1, size - 1, (most - 2,), device=device)
        return torch.cat([torch.tensor([0, size - 1], device=device), inner])


def _tensors(out) -> list[torch.Tensor]:
    return (
        [out] if isinstance(out, torch.Tensor) else [each for each in out if isinstance(each, torch.Tensor)]
    )


def _as(values: torch.Tensor, dtype: str) -> torch.Tensor:
    if dtype == "int8":
        return (values * 30).round().clamp(-127, 127).to(torch.int8)
    if DTYPES[dtype] is None:
        raise TypeError(f"this torch has no {dtype}")
    return values.to(DTYPES[dtype])


def rotated(*inputs) -> list[tuple]:
    """Return argument tuples: lists go round, what is no list is the same in each.

    Examples
    --------
    >>> rotated("x", [1, 2])
    [('x', 1), ('x', 2)]
    """
    n = max((len(each) for each in inputs if isinstance(each, list)), default=1)
    return [
        tuple(each[i % len(each)] if isinstance(each, list) else each for each in inputs) for i in range(n)
    ]


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Return the Frobenius norm of the difference over that of what is right; NaN counts as infinite."""
    got = got.double()
    if got.shape != want.shape or not torch.isfinite(got).all():
        return math.inf
    return float((got - want.double()).norm() / want.double().norm().clamp_min(1e-300))
