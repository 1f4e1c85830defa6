"""Latent attention: rows with batch, seq, past, heads of one rank; and its products per head."""

from collections.abc import Mapping

import numpy as np

from calc.work.latent_attention import absorbed, decode_core, prefill_core
from calc.work.op import Op, Precision, Sequences
from validate.points.formats import FORMATS, weight_bits

#: sizes of a head in DeepSeek-V3, which the tables measure: latent, key without and with rotation, value
RANK, D_NOPE, D_ROPE, D_VALUE = 512, 128, 64, 128
#: variant of a product per head -> output and input features
_SIZES = {"mla_gen_pre": (RANK, D_NOPE), "mla_gen_post": (D_VALUE, RANK)}


def _precision(rows: Mapping, column: str) -> Precision:
    name = FORMATS[rows[column][0]]
    return Precision(
        bits={"attention": weight_bits(name)},
        kv_bytes=weight_bits(name) / 8,
        math="fp8" if name.startswith("fp8") else "bf16",
        formats={"attention": name},
        kv_format=name,
    )


def prefill_mla_op(rows: Mapping) -> Op:
    """Return the Op of rows of one cache dtype: causal attention of ``seq`` new tokens."""
    group = Sequences("prefill", rows["batch"], rows["seq"], rows["past"])
    precision = _precision(rows, "kv_dtype")
    return prefill_core("mla", group, rows["heads"], RANK, (D_NOPE, D_ROPE, D_VALUE), precision)


def decode_mla_op(rows: Mapping) -> Op:
    """Return the Op of rows of one cache dtype: one new token after ``past`` cached ones."""
    group = Sequences("decode", rows["batch"], 1.0, rows["past"])
    precision = _precision(rows, "kv_dtype")
    return decode_core("mla", group, rows["past"] + 1, rows["heads"], RANK, D_ROPE, precision)


def mla_bmm_op(rows: Mapping) -> Op:
    """Return the Op of rows of one weight dtype: one product for each head, ``m`` tokens."""

    variants = np.asarray(rows["variant"]).astype(str)
    n, k = np.array([_SIZES[name] for name in variants], dtype=float).reshape(-1, 2).T
    return absorbed("bmm", rows["m"], n, k, rows["heads"], _precision(rows, "dtype"))
