"""Linear attention: rows with batch, seq, heads, kv_heads (of keys), head_dim of one rank."""

from collections.abc import Mapping

import numpy as np

from calc.work.linear_kernels import StateHeads, chunk_scan, convolution, recurrent_update
from calc.work.op import Op, Precision

#: width of the short convolution, and key width of a head, in Qwen3-Next and Nemotron-H alike
D_CONV, D_KEY = 4, 128
#: groups of B and C, heads of a group on one rank, and state per channel, in Nemotron-H: its tables
#: do not name them (16 heads are a quarter of the 64 of Nemotron-3 Nano, with 2 of its 8 groups)
N_GROUPS, HEADS_PER_GROUP, D_STATE = 8, 8, 128
#: channels that SGLang's benchmark of the convolution moves whatever heads it names: its times do
#: not depend on them, and at this width, that of Qwen3-Next's residual stream, they reach 80 % of
#: the bandwidth
SGLANG_CHANNELS = 2048
_PRECISION = Precision(bits={}, kv_bytes=2, math="bf16")
#: start of a kernel's name -> function that counts its work
_RULES = {"fused_recurrent": recurrent_update, "chunk": chunk_scan}


def conv_channels(rows: Mapping):
    """Channels of the convolution: queries, keys and values; values, B and C without key heads.

    Examples
    --------
    >>> row = {"heads": np.array([32.0]), "kv_heads": np.array([16.0]), "head_dim": np.array([128.0])}
    >>> conv_channels(row).tolist()
    [8192.0]
    """
    key_heads, values = rows["kv_heads"], rows["heads"] * rows["head_dim"]
    groups = np.minimum(N_GROUPS, rows["heads"] / HEADS_PER_GROUP)
    named = values + np.where(np.isnan(key_heads), 2 * groups * D_STATE, 2 * D_KEY * key_heads)
    by_sglang = np.asarray(rows.get("engine", "")).astype(str) == "sglang"
    return np.where(by_sglang & ~np.isnan(key_heads), float(SGLANG_CHANNELS), named)


def linear_op(rows: Mapping) -> Op:
    """Return the Op of rows of one kernel."""
    kernel, batch, new = str(rows["kernel"][0]), rows["batch"], rows["seq"]
    if kernel.startswith("causal_conv1d"):
        phase = "decode" if kernel.endswith("update") else "prefill"
        return convolution(kernel, phase, batch, new, conv_channels(rows), D_CONV, _PRECISION)
    rule = next(rule for start, rule in _RULES.items() if kernel.startswith(start))
    heads = StateHeads(rows["kv_heads"], rows["heads"], D_KEY, rows["head_dim"])
    return rule(kernel, batch, new, heads, _PRECISION)
