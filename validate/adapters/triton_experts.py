"""Routed experts as two grouped Triton products: rows sorted by expert, whole blocks of one expert each."""

from typing import NamedTuple

from validate.adapters.needs import interprets_triton, missing

TITLE = "fused mixture of experts, two grouped Triton products"
#: rows, columns and depth of one block
BLOCK_M, BLOCK_N, BLOCK_K = 16, 64, 64
#: from so many rows an expert on, blocks are larger
MANY_ROWS = 64


class Blocks(NamedTuple):
    """Which rows (token-expert pairs) each block works on, and the expert of each block.

    ``rows`` holds ``tokens * top_k`` where a place is padding; ``experts`` holds the number of
    experts where a block has nothing to do.
    """

    rows: object
    experts: object


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    reason = missing("triton")
    return None if reason == "no CUDA or ROCm device" and interprets_triton() else reason


def kernels() -> dict:
    """Return the kernels by the name of the one they replace."""
    return {"grouped_experts": grouped_experts}


def grouped_experts(x, logits, up, down, top_k: int):
    """Return the weighted sum of what its experts make of each token.

    Nothing waits for the device, so that a graph can hold it: there are as many blocks as
    the worst routing needs, and idle ones return at once.

    Parameters
    ----------
    x : tensor (tokens, d_model)
    logits : tensor (tokens, experts)
    up, down : tensor (experts, 2 d_expert, d_model), (experts, d_model, d_expert)
        Gate and values of ``up`` one above the other.
    """
    import torch
    import torch.nn.functional as F  # noqa: N812

    chosen, experts = torch.topk(torch.softmax(logits.float(), -1), top_k)
    weights = chosen / chosen.sum(-1, keepdim=True)
    block = BLOCK_M if experts.numel() < MANY_ROWS * up.shape[0] else 4 * BLOCK_M
    blocks = blocks_of(experts, up.shape[0], block)
    gate, value = _product(x, up, blocks, block, top_k).chunk(2, -1)
    rows = _product(F.silu(gate) * value, down, blocks, block, 1)
    by_token = rows.view(*experts.shape, -1)
    return (by_token * weights.unsqueeze(-1).to(rows.dtype)).sum(1)


def blocks_of(experts, n_experts: int, block: int) -> Blocks:
    """Return rows sorted by expert, each expert's padded to whole blocks.

    Parameters
    ----------
    experts : tensor (tokens, top_k)
        The experts of each token.
    """
    import torch

    flat, device = experts.flatten(), experts.device
    n_blocks = flat.numel() // block + min(n_experts, flat.numel())
    ones = torch.ones_like(flat)
    counts = torch.zeros(n_experts, dtype=flat.dtype, device=device).scatter_add_(0, flat, ones)
    padded = (counts + block - 1) // block * block
    ends, order = padded.cumsum(0), flat.argsort(stable=True)
    first, start = ends - padded, counts.cumsum(0) - counts
    expert = flat[order]
    place = first[expert] + torch.arange(flat.numel(), device=device) - start[expert]
    rows = torch.full((n_blocks * block,), flat.numel(), dtype=flat.dtype, device=device)
    at = torch.arange(n_blocks, device=device, dtype=ends.dtype) * block
    return Blocks(rows.scatter_(0, place, order), torch.searchsorted(ends, at, right=True))


def _product(x, weight, blocks: Blocks, block: int, share: int):
    """Return each row times its expert's weight; row ``r`` reads ``x[r // share]``."""
    import torch
    import triton

    from validate.adapters.triton_kernels import grouped_product

    n_experts, n, k = weight.shape
    out = torch.empty(x.shape[0] * share, n, dtype=x.dtype, device=x.device)
    grid = (len(blocks.experts), triton.cdiv(n, BLOCK_N))
    grouped_product[grid](
        x, weight, out, blocks.rows, blocks.experts, n_experts, n, k, x.shape[0] * share, share,
        block, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    return out
