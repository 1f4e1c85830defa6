"""Routed experts: rows with m tokens, hidden, inter, topk, experts, tp, ep and the spread of load."""

from collections.abc import Mapping

import numpy as np

from calc.work.expert_load import Load, even_load, expert_load
from calc.work.experts import ExpertSizes, routed_experts
from calc.work.op import Op
from validate.points.formats import weights_precision

#: (hidden, inter, topk, experts) of models whose experts have no gate: Nemotron-3 (relu squared)
PLAIN = ((2688, 1856, 6, 128), (1024, 2688, 22, 512), (2048, 5120, 22, 512), (4096, 2688, 22, 512))
#: kernel that was measured with a gate whatever the model
ALWAYS_GATED = "vllm_fused_moe"


def moe_op(rows: Mapping) -> Op:
    """Return the Op of rows of one dtype: the busiest rank's experts, ``m`` tokens of all ranks."""
    precision = weights_precision(rows, "expert")
    columns = ("hidden", "inter", "topk", "experts", "tp")
    hidden, inter, top_k, experts, tp = (np.asarray(rows[column], dtype=float) for column in columns)
    sizes = ExpertSizes(hidden, inter / tp, experts, top_k, matrices(rows))
    return routed_experts(np.asarray(rows["m"], dtype=float), sizes, load_of(rows), precision)


def load_of(rows: Mapping) -> Load:
    """Return the load of each row: even for ``balanced``, else by the power law its variant names."""
    variants = np.asarray(rows["variant"]).astype(str)
    skew = np.array([float(name.removeprefix("power_law_")) if "_" in name else 0.0 for name in variants])
    sizes = [np.asarray(rows[column], dtype=float) for column in ("m", "experts", "topk", "ep")]
    even, law = even_load(*sizes), expert_load(*sizes, skew=skew)
    return Load(*(np.where(variants == "balanced", a, b) for a, b in zip(even, law, strict=True)))


def matrices(rows: Mapping) -> np.ndarray:
    """Return the matrices of each expert: 3 with a gate, 2 without."""
    columns = [np.asarray(rows[column], dtype=float) for column in ("hidden", "inter", "topk", "experts")]
    plain = np.array([sizes in PLAIN for sizes in zip(*columns, strict=True)])
    if "kernel" in rows:
        plain &= np.asarray(rows["kernel"]).astype(str) != ALWAYS_GATED
    return np.where(plain, 2.0, 3.0)
