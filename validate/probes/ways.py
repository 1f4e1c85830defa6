"""The ways in which attention may run: backends of torch's own function, one forced at a time."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from validate.probes.base import Built

#: backend of ``scaled_dot_product_attention`` -> its name in torch
BACKENDS = {
    "sdpa-flash": "FLASH_ATTENTION",
    "sdpa-cudnn": "CUDNN_ATTENTION",
    "sdpa-efficient": "EFFICIENT_ATTENTION",
    "sdpa-math": "MATH",
}
#: kind of device -> backends that it may have
OF_KIND = {
    "cpu": ("sdpa-flash", "sdpa-math"),
    "cuda": tuple(BACKENDS),
    "rocm": ("sdpa-flash", "sdpa-efficient", "sdpa-math"),
}
#: the kernel that takes packed sequences of several lengths, and pages of a cache
VARLEN = "varlen_attn"


@contextmanager
def only(backend: str) -> Iterator[None]:
    """Let attention inside run by one backend; it raises a RuntimeError where that cannot."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns once for each reason why a backend cannot
        with sdpa_kernel(getattr(SDPBackend, BACKENDS[backend])):
            yield


def by_backend(built: Built, backend: str) -> Built:
    """Return a built case whose attention runs by one backend."""
    return built._replace(kernel=backend, within=partial(only, backend))


def varlen_reason(paged: bool) -> str:
    """Return why this torch has no kernel for packed sequences, or pages; empty where it has one.

    Parameters
    ----------
    paged : bool
        Whether keys and values lie in pages that a block table names.
    """
    from inspect import signature

    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return "this torch has no torch.nn.attention.varlen"
    takes = signature(varlen_attn).parameters
    for name in ("enable_gqa", *(("block_table", "seqused_k") if paged else ())):
        if name not in takes:
            return f"varlen_attn of this torch has no {name}"
    return ""
