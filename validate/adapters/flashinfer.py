"""Norms and attention of FlashInfer; the first call compiles its kernels."""

from validate.adapters.needs import import_error, missing

TITLE = "norms and attention of FlashInfer"
EPS = 1e-5
#: the sum and the norm take the places of the residual stream and the update
OVERWRITES = ("norm_and_residual",)


def available() -> str | None:
    """Return why it cannot run here, None where it can."""
    reason = missing("flashinfer", "flashinfer-python", capability=(7, 5))
    return reason or import_error("flashinfer.norm", ["rmsnorm", "fused_add_rmsnorm"])


def kernels() -> dict:
    """Return the kernels by the name of the one they replace."""
    return {
        "norm_and_residual": norm_and_residual,
        "rms_norm": rms_norm,
        "decode_attention": decode_attention,
        "prefill_attention": prefill_attention,
    }


def takes(kernel: str, sizes) -> bool:
    """Whether a kernel can run a case: attention here is of one sequence.

    Examples
    --------
    >>> takes("decode_attention", {"batch": 4}), takes("rms_norm", {"rows": 4})
    (False, True)
    """
    return not kernel.endswith("attention") or sizes["batch"] == 1


def rms_norm(x, weight):
    """Return the RMS norm alone."""
    from flashinfer.norm import rmsnorm

    return rmsnorm(x, weight, EPS)


def norm_and_residual(x, delta, weight):
    """Return the sum of a residual stream and an update, and its RMS norm.

    FlashInfer overwrites both of its arguments: ``delta`` with the norm, ``x`` with the sum.
    """
    from flashinfer.norm import fused_add_rmsnorm

    fused_add_rmsnorm(delta, x, weight, EPS)
    return x, delta


def decode_attention(query, key, value, cache_k, cache_v, past: int, window: int = 0):
    """Return attention of one new token of one sequence to the cache, after writing it there.

    Raises
    ------
    ValueError
        For more than one sequence: batches need a plan that this call has no place for.
    """
    from flashinfer.decode import single_decode_with_kv_cache

    cached = _written(query, key, value, cache_k, cache_v, past)
    left = window - 1 if window else -1
    return single_decode_with_kv_cache(query[0, :, 0], *cached, kv_layout="HND", window_left=left)[
        None, :, None
    ]


def prefill_attention(query, key, value, cache_k, cache_v, past: int = 0, window: int = 0):
    """Return causal attention of the new tokens of one sequence, after writing them to the cache."""
    from flashinfer.prefill import single_prefill_with_kv_cache

    cached = _written(query, key, value, cache_k, cache_v, past)
    rows = query[0].transpose(0, 1).contiguous()
    left = window - 1 if window else -1
    out = single_prefill_with_kv_cache(rows, *cached, causal=True, kv_layout="HND", window_left=left)
    return out.transpose(0, 1)[None]


def _written(query, key, value, cache_k, cache_v, past: int):
    """Write new keys and values and return all of them, ``[kv_heads, context, width]``."""
    if query.shape[0] != 1:
        raise ValueError(f"batch {query.shape[0]} is not allowed; allowed is 1")
    context = past + key.shape[2]
    cache_k[:, :, past:context], cache_v[:, :, past:context] = key, value
    return cache_k[0, :, :context], cache_v[0, :, :context]
