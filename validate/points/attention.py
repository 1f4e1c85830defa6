"""Attention over a cache: rows with batch, seq, past, heads, kv_heads, head_dim, window of one rank."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from calc.work.attention_core import attention_core, encoder_core
from calc.work.op import Op, Precision, Sequences
from validate.points.formats import FORMATS, weight_bits


def prefill_op(rows: Mapping) -> Op:
    """Return the Op of rows of one cache dtype: causal attention of ``seq`` new tokens."""
    return _core(rows, Sequences("prefill", rows["batch"], rows["seq"], rows["past"]))


def decode_op(rows: Mapping) -> Op:
    """Return the Op of rows of one cache dtype: one new token after ``past`` cached ones."""
    return _core(rows, Sequences("decode", rows["batch"], 1.0, rows["past"]))


def encoder_op(rows: Mapping) -> Op:
    """Return the Op of rows of one dtype: ``seq`` positions that all see each other."""
    group = Sequences("prefill", rows["batch"], rows["seq"], 0.0)
    precision = Precision(bits={}, kv_bytes=2, math="bf16")
    return encoder_core(group, rows["heads"], rows["kv_heads"], _widths(rows), precision)


def _core(rows: Mapping, group: Sequences) -> Op:
    name = FORMATS[rows["kv_dtype"][0]]
    precision = Precision(bits={}, kv_bytes=weight_bits(name) / 8, math="bf16", kv_format=name)
    window = rows["window"]  # 0: none, which is the same work as a window of all tokens
    limit = np.where(window > 0, window, group.past_tokens + group.new_tokens)
    op = attention_core(group, rows["heads"], rows["kv_heads"], _widths(rows), precision, limit)
    return replace(op, shape={**op.shape, "window": window})


def _widths(rows: Mapping) -> tuple:
    return rows["head_dim"], rows["head_dim"]
