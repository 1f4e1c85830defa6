"""The kernels themselves, as probes time them and the small decoders call them: torch functions only."""

import math

import torch
import torch.nn.functional as F  # noqa: N812

EPS = 1e-5


def linear(x, weight):
    """Return ``x weight^T``."""
    return F.linear(x, weight)


def norm_and_residual(x, delta, weight):
    """Return the sum of a residual stream and an update, and its RMS norm."""
    total = x + delta
    return total, F.rms_norm(total, (total.shape[-1],), weight, EPS)


def layer_norm_and_residual(x, delta, weight, bias):
    """Return the sum of a residual stream and an update, and its layer norm."""
    total = x + delta
    return total, F.layer_norm(total, (total.shape[-1],), weight, bias, EPS)


def rms_norm(x, weight):
    """Return the RMS norm alone."""
    return F.rms_norm(x, (x.shape[-1],), weight, EPS)


def rotate(x, cos, sin):
    """Return heads ``[..., tokens, width]`` rotated by position: halves of a head are a pair."""
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def rope(query, key, cos, sin):
    """Return queries and keys rotated by position."""
    return rotate(query, cos, sin), rotate(key, cos, sin)


def swiglu(gate_up):
    """Return the gated activation of a projection that holds gate and values side by side."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def gelu(x):
    """Return GELU in its tanh form."""
    return F.gelu(x, approximate="tanh")


def sample(logits):
    """Return the most likely token of each row, by probabilities in float32."""
    return torch.softmax(logits.float(), -1).argmax(-1)


def append(cache_k, cache_v, key, value, past: int):
    """Write keys and values of new tokens after ``past`` cached ones."""
    tokens = key.shape[2]
    cache_k[:, :, past : past + tokens] = key
    cache_v[:, :, past : past + tokens] = value
    return cache_k, cache_v


def decode_attention(query, key, value, cache_k, cache_v, past: int, window: int = 0):
    """Return attention of one new token to the cache, after writing it there.

    Parameters
    ----------
    query : tensor
        ``[batch, heads, 1, width]``.
    key, value : tensor
        ``[batch, kv_heads, 1, width]``.
    cache_k, cache_v : tensor
        ``[batch, kv_heads, room, width]``.
    """
    append(cache_k, cache_v, key, value, past)
    seen = slice(max(0, past + 1 - window) if window else 0, past + 1)
    return F.scaled_dot_product_attention(
        query, cache_k[:, :, seen], cache_v[:, :, seen], enable_gqa=query.shape[1] != key.shape[1]
    )


def prefill_attention(query, key, value, cache_k, cache_v, past: int = 0, window: int = 0):
    """Return causal attention of new tokens to the cache and to each other, after writing them."""
    append(cache_k, cache_v, key, value, past)
    tokens, grouped = query.shape[2], query.shape[1] != key.shape[1]
    if window and past + tokens > window:
        if past or tokens % window:
            raise ValueError("a windowed prefill starts at 0 and has whole windows")
        return _windowed(query, key, value, window, grouped)
    if not past:
        return _causal(query, key, value, grouped)
    return _causal(query, cache_k[:, :, : past + tokens], cache_v[:, :, : past + tokens], grouped)


def _causal(query, key, value, grouped: bool):
    """Return attention of the last tokens of a context to those before them and to each other."""
    tokens, context = query.shape[2], key.shape[2]
    if tokens == context:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
    from torch.nn.attention.bias import causal_lower_right

    mask = causal_lower_right(tokens, context)
    if query.device.type == "cpu":  # no kernel there takes the bias by its name
        mask = torch.ones(tokens, context, dtype=torch.bool).tril(context - tokens)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=grouped)


def _windowed(query, key, value, window: int, grouped: bool):
    """Return windowed attention: each window of queries to its own keys and the window before."""
    first = F.scaled_dot_product_attention(
        query[:, :, :window], key[:, :, :window], value[:, :, :window], is_causal=True, enable_gqa=grouped
    )
    batch, heads, tokens, width = query.shape
    blocks = tokens // window - 1
    if not blocks:
        return first
    near = torch.ones(window, 2 * window, dtype=torch.bool, device=query.device)
    near = near.tril(window) & ~near.tril(0)  # query i sees keys i + 1 ... i + window

    def pairs(x):
        spans = x.unfold(2, 2 * window, window).movedim(-1, -2)  # batch, heads, blocks, 2 window, width
        return spans.transpose(1, 2).reshape(batch * blocks, x.shape[1], 2 * window, width)

    rest = query[:, :, window:].view(batch, heads, blocks, window, width).transpose(1, 2)
    rest = rest.reshape(batch * blocks, heads, window, width)
    rest = F.scaled_dot_product_attention(rest, pairs(key), pairs(value), attn_mask=near, enable_gqa=grouped)
    rest = rest.view(batch, blocks, heads, window, width).transpose(1, 2).reshape(batch, heads, -1, width)
    return torch.cat((first, rest), 2)


def latent_decode(query, latent, rank: int):
    """Return absorbed latent attention: every head reads the same latent ``[batch, context, width]``.

    Queries are ``[batch, heads, 1, width]``; keys are the latent, values its first ``rank`` columns.
    """
    scores = torch.matmul(query.squeeze(2), latent.transpose(1, 2)) / math.sqrt(query.shape[-1])
    return torch.matmul(torch.softmax(scores.float(), -1).to(latent.dtype), latent[..., :rank]).unsqueeze(2)


def latent_prefill(query, key, value, cache, latent, past: int, padded: bool = False):
    """Return causal latent attention over expanded keys and values, after writing the new latents.

    Parameters
    ----------
    query : tensor
        ``[batch, heads, tokens, key_width]``.
    key, value : tensor
        ``[batch, heads, past + tokens, width]``; values are narrower than keys.
    cache, latent : tensor
        ``[batch, room, latent_width]`` and the new ones.
    padded : bool
        Whether values are padded to the width of keys, for kernels that know one width only.
    """
    cache[:, past : past + latent.shape[1]] = latent
    width = value.shape[-1]
    if padded:
        value = F.pad(value, (0, key.shape[-1] - width))
    return _causal(query, key, value, False)[..., :width]


def routing(logits, top_k: int):
    """Return the weights and the numbers of the experts of each token."""
    chosen, experts = torch.topk(torch.softmax(logits.float(), -1), top_k)
    return chosen / chosen.sum(-1, keepdim=True), experts


def grouped_experts(x, logits, up, down, top_k: int):
    """Return the routed experts' sum: tokens sorted by expert, two grouped products.

    Parameters
    ----------
    x : tensor
        ``[tokens, d_model]``.
    logits : tensor
        ``[tokens, experts]`` of the router.
    up, down : tensor
        ``[experts, 2 d_expert, d_model]`` (gate and up) and ``[experts, d_model, d_expert]``.
    """
    weights, experts = routing(logits, top_k)
    order = experts.flatten().argsort(stable=True)
    token = order // top_k
    ones = torch.ones_like(token, dtype=torch.int32)  # bincount would wait for the device
    ends = torch.zeros(up.shape[0], dtype=torch.int32, device=x.device).scatter_add_(
        0, experts.flatten(), ones
    )
    ends = ends.cumsum(0, dtype=torch.int32)
    inner = swiglu(_grouped_mm(x[token], up.transpose(1, 2), ends))
    rows = _grouped_mm(inner, down.transpose(1, 2), ends)
    rows = rows * weights.flatten()[order].unsqueeze(1).to(rows.dtype)
    return torch.zeros_like(x).index_add_(0, token, rows)


def _grouped_mm(rows, weights, ends):
    call = getattr(F, "grouped_mm", None) or torch._grouped_mm
    return call(rows, weights, offs=ends)


def looped_experts(x, logits, up, down, top_k: int):
    """Return the same sum, one expert after the other."""
    weights, experts = routing(logits, top_k)
    out = torch.zeros_like(x)
    for expert in experts.unique().tolist():
        token, place = (experts == expert).nonzero(as_tuple=True)
        inner = F.linear(swiglu(F.linear(x[token], up[expert])), down[expert])
        out.index_add_(0, token, inner * weights[token, place].unsqueeze(1).to(inner.dtype))
    return out


def convolve_update(state, x, weight):
    """Return a short causal convolution of one new token; ``state`` ``[batch, channels, width]`` moves on."""
    state.copy_(torch.cat((state[..., 1:], x.unsqueeze(-1)), -1))
    return F.silu((state * weight).sum(-1))


def convolve(x, weight):
    """Return a short causal convolution of ``[batch, channels, tokens]``."""
    width = weight.shape[-1]
    out = F.conv1d(x, weight.unsqueeze(1), padding=width - 1, groups=x.shape[1])
    return F.silu(out[..., : x.shape[-1]])


def experts_kernel(bench):
    """Return the fastest way to run experts that this build has, and its name."""
    if not (hasattr(F, "grouped_mm") or hasattr(torch, "_grouped_mm")) or bench.kind == "mps":
        return looped_experts, "loop"
    return grouped_experts, "grouped_mm"
