"""The Triton kernels themselves; importing this file needs triton."""

import triton
import triton.language as tl


@triton.jit
def rms_norm_rows(
    x,
    delta,
    weight,
    total,
    out,
    width,
    epsilon,
    alone: tl.constexpr,
    block: tl.constexpr,
):
    """One row a program: ``total = x + delta`` unless alone, ``out`` its RMS norm."""
    at = tl.arange(0, block)
    inside = at < width
    row = tl.program_id(0).to(tl.int64) * width + at
    value = tl.load(x + row, mask=inside, other=0.0)
    if not alone:
        value += tl.load(delta + row, mask=inside, other=0.0)
        tl.store(total + row, value, mask=inside)
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + epsilon)
    scaled = (wide * scale).to(value.dtype)
    tl.store(out + row, scaled * tl.load(weight + at, mask=inside, other=0.0), mask=inside)


@triton.jit
def grouped_product(
    x, weight, out, rows, experts, n_experts, n, k, n_rows, share,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """One tile a program: rows of one expert times columns of its ``n x k`` weight."""
    expert = tl.load(experts + tl.program_id(0)).to(tl.int64)
    if expert < n_experts:
        row = tl.load(rows + tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        depth = tl.arange(0, BLOCK_K)
        real = row < n_rows
        source = x + (row // share)[:, None] * k
        matrix = weight + expert * n * k + column[None, :].to(tl.int64) * k
        tile = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        for start in range(0, k, BLOCK_K):
            here = start + depth
            a = tl.load(source + here[None, :], mask=real[:, None] & (here[None, :] < k), other=0.0)
            b = tl.load(matrix + here[:, None], mask=(here[:, None] < k) & (column[None, :] < n), other=0.0)
            tile += tl.dot(a, b, input_precision="ieee")
        target = out + row[:, None] * n + column[None, :]
        tl.store(target, tile.to(out.dtype.element_ty), mask=real[:, None] & (column[None, :] < n))
