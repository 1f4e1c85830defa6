"""Probes: one small class for each kind of kernel call, by name."""

from validate.probes.activation import Gelu, SwiGlu
from validate.probes.base import Built, Case, Plan, Probe
from validate.probes.cache_append import CacheAppend
from validate.probes.convolution import ConvolutionPrefill, ConvolutionUpdate
from validate.probes.decode import Decode
from validate.probes.embedding import Embedding
from validate.probes.gated_delta import DeltaScan, DeltaUpdate
from validate.probes.gemm import Gemm
from validate.probes.mamba2 import Mamba2Scan, Mamba2Update
from validate.probes.memory import Copy, Read, Triad
from validate.probes.mla import LatentDecode, LatentPrefill
from validate.probes.moe import Experts
from validate.probes.norm import FinalNorm, LayerNorm, NormAndResidual
from validate.probes.paged import PagedDecode
from validate.probes.prefill import Prefill
from validate.probes.rope import Rope
from validate.probes.sampler import Sampler

__all__ = ["PROBES", "Built", "Case", "Plan", "Probe", "probe_of"]

#: every probe by name, in the order of the plan
PROBES: dict[str, Probe] = {
    probe.name: probe
    for probe in (
        Read(), Copy(), Triad(), Gemm(), Prefill(), Decode(), Experts(), NormAndResidual(), FinalNorm(),
        LayerNorm(), Rope(), SwiGlu(), Gelu(), Sampler(), Embedding(), CacheAppend(), PagedDecode(),
        LatentDecode(), LatentPrefill(),
        ConvolutionUpdate(), ConvolutionPrefill(), Mamba2Update(), Mamba2Scan(), DeltaUpdate(), DeltaScan(),
    )
}  # fmt: skip


def probe_of(case: Case) -> Probe:
    """Return the probe of a case."""
    return PROBES[case.probe]
