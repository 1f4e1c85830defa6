"""Sizes of attention that probes share: heads of usual models, tensors of queries, keys and values."""

from collections.abc import Mapping

import numpy as np

from calc.work.attention_core import attention_core
from calc.work.op import Op, Sequences
from validate.probes.base import Plan, precision

#: (heads, key heads, width): grouped, multi-query, plain multi-head, wide and narrow
HEADS = ((16, 4, 64), (32, 8, 128), (16, 8, 128), (8, 1, 128), (12, 12, 64), (8, 2, 256))


def heads_of(plan: Plan) -> list[tuple[int, int, int]]:
    """Return heads of usual models and of the plan's own."""
    own = []
    for model in plan.models:
        sizes = [dict(layer.attention.sizes) for layer in model.layers if layer.attention]
        own += [(s["n_heads"], s["n_kv_heads"], s["d_head"]) for s in sizes if "n_kv_heads" in s]
    return list(dict.fromkeys([*HEADS, *own]))


def core(phase: str, sizes: Mapping, dtype: str) -> Op:
    """Return the work of one call; sizes are numbers or arrays."""
    group = Sequences(phase, sizes["batch"], sizes["new"], sizes["past"])
    window = np.asarray(sizes["window"])
    limit = np.where(window > 0, window, sizes["past"] + np.asarray(sizes["new"]))
    limit = limit if limit.ndim else float(limit)
    widths = sizes["d_head"], sizes["d_head"]
    op = attention_core(group, sizes["heads"], sizes["kv_heads"], widths, precision(dtype), limit)
    op.shape["window"] = sizes["window"]
    return op


def inputs(sizes: Mapping, dtype: str, bench) -> tuple:
    """Return query, key and value of new tokens, and cold caches with room for all."""
    batch, new, width, kv_heads = (sizes[name] for name in ("batch", "new", "d_head", "kv_heads"))
    query = bench.random(batch, sizes["heads"], new, width, dtype=dtype)
    key, value = (bench.random(batch, kv_heads, new, width, dtype=dtype) for _ in range(2))
    caches = bench.cold(2, batch, kv_heads, sizes["past"] + new, width, dtype=dtype)
    return query, key, value, [each[0] for each in caches], [each[1] for each in caches]


def expected(args: tuple, window: int, bench) -> tuple:
    """Return attention of some sequences, heads and tokens in float64, from a cache already written."""
    import torch

    query, _, _, cache_k, cache_v, past = args[:6]
    batch, heads, new, width = query.shape
    chosen = [bench.choose(size, most) for size, most in ((batch, 2), (heads, 3), (new, 8))]
    rows, of_head, at = torch.meshgrid(*chosen, indexing="ij")
    key_head = of_head[:, :, 0] * cache_k.shape[1] // heads
    keys = cache_k[rows[:, :, 0], key_head].double()[:, :, : past + new]
    values = cache_v[rows[:, :, 0], key_head].double()[:, :, : past + new]
    scores = query[rows, of_head, at].double() @ keys.transpose(-1, -2) / width**0.5
    here = torch.arange(past + new, device=query.device)
    last = past + at[0, 0][:, None]
    seen = (here <= last) & ((here > last - window) if window else True)
    want = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ values
    return (lambda out: out[rows, of_head, at]), want


def backend(query, key, value, causal: bool) -> str:
    """Return the name of the kernel that torch chooses for these tensors."""
    import torch

    names = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn", 4: "overrideable"}
    try:
        grouped = query.shape[1] != key.shape[1]
        chosen = torch._fused_sdp_choice(query, key, value, is_causal=causal, enable_gqa=grouped)
    except (RuntimeError, TypeError, AttributeError):
        return "sdpa"
    return f"sdpa-{names.get(int(chosen), chosen)}"
