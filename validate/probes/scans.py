"""Linear attention in plain torch: states updated token by token, or in chunks; all in float32.

Shapes: ``key`` and ``query`` ``[batch, tokens, key_heads, d_key]``, ``value`` ``[batch, tokens,
heads, d_value]``, ``decay`` (logarithm, at most 0) and ``beta`` ``[batch, tokens, heads]``,
``state`` ``[batch, heads, d_key, d_value]``.
"""

import torch


def _by_head(x, heads: int):
    return x.float().repeat_interleave(heads // x.shape[2], 2).transpose(1, 2)


def decayed_update(state, query, key, value, decay):
    """Return the read-out of one token of Mamba-2, and the state moved on in place."""
    heads = value.shape[2]
    q, k, v = (_by_head(x, heads)[:, :, 0] for x in (query, key, value))
    state.mul_(decay[:, 0].exp()[..., None, None]).addcmul_(k.unsqueeze(-1), v.unsqueeze(-2))
    return torch.matmul(q.unsqueeze(-2), state).squeeze(-2).to(value.dtype)


def delta_update(state, query, key, value, decay, beta):
    """Return the read-out of one token of the gated delta rule, and the state moved on in place."""
    heads = value.shape[2]
    q, k, v = (_by_head(x, heads)[:, :, 0] for x in (query, key, value))
    state.mul_(decay[:, 0].exp()[..., None, None])
    known = torch.matmul(k.unsqueeze(-2), state)
    change = (v.unsqueeze(-2) - known) * beta[:, 0, :, None, None]
    state.addcmul_(k.unsqueeze(-1), change)
    return torch.matmul(q.unsqueeze(-2), state).squeeze(-2).to(value.dtype)


def _chunks(x, size: int):
    return x.split(size, 2)


def decayed_scan(state, query, key, value, decay, chunk: int = 64):
    """Return the read-outs of a prompt of Mamba-2, chunk by chunk, and the state at the end.

    Chunks are shorter than those of GPU kernels: a processor keeps them in its cache.
    """
    heads, out = value.shape[2], []
    parts = [_by_head(x, heads) for x in (query, key, value)]
    decays = decay.transpose(1, 2)
    for q, k, v, a in zip(*(_chunks(x, chunk) for x in (*parts, decays)), strict=True):
        total = a.cumsum(-1)
        gaps = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril().exp().tril()
        inside = torch.matmul(torch.matmul(q, k.transpose(-1, -2)) * gaps, v)
        out.append(inside + torch.matmul(q * total.exp().unsqueeze(-1), state))
        left = (total[..., -1:] - total).exp().unsqueeze(-1)
        state = state * total[..., -1].exp()[..., None, None] + torch.matmul((k * left).transpose(-1, -2), v)
    return torch.cat(out, 2).transpose(1, 2).to(value.dtype), state


def delta_scan(state, query, key, value, decay, beta, chunk: int = 64):
    """Return the read-outs of a prompt of the gated delta rule, chunk by chunk, and the state.

    Inside a chunk the changes of all tokens solve a unit lower triangular system.
    """
    heads, out = value.shape[2], []
    parts = [_by_head(x, heads) for x in (query, key, value)]
    gates = decay.transpose(1, 2), beta.transpose(1, 2)
    for q, k, v, a, b in zip(*(_chunks(x, chunk) for x in (*parts, *gates)), strict=True):
        total = a.cumsum(-1)
        gaps = (total.unsqueeze(-1) - total.unsqueeze(-2)).tril().exp().tril()
        grown = total.exp().unsqueeze(-1)
        system = (torch.matmul(k, k.transpose(-1, -2)) * gaps).tril(-1) * b.unsqueeze(-1)
        wanted = (v - torch.matmul(k * grown, state)) * b.unsqueeze(-1)
        change = torch.linalg.solve_triangular(system, wanted, upper=False, unitriangular=True)
        out.append(
            torch.matmul(torch.matmul(q, k.transpose(-1, -2)) * gaps, change) + torch.matmul(q * grown, state)
        )
        left = (total[..., -1:] - total).exp().unsqueeze(-1)
        state = state * total[..., -1].exp()[..., None, None]
        state = state + torch.matmul((k * left).transpose(-1, -2), change)
    return torch.cat(out, 2).transpose(1, 2).to(value.dtype), state


def by_token(state, query, key, value, decay, beta=None):
    """Return all read-outs in float64, token by token: what both scans and updates must be."""
    heads, out = value.shape[2], []
    q, k, v = (x.double().repeat_interleave(heads // x.shape[2], 2) for x in (query, key, value))
    state = state.double()
    for t in range(value.shape[1]):
        state = state * decay[:, t].double().exp()[..., None, None]
        change = v[:, t]
        if beta is not None:
            change = (change - torch.einsum("bhk,bhkv->bhv", k[:, t], state)) * beta[:, t].double()[..., None]
        state = state + k[:, t][..., None] * change[..., None, :]
        out.append(torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(out, 1)
