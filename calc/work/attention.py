"""Attention kinds: the registry of the classes that count them.

Every class has the same three methods:

``parameters()``
    its weights, as a tuple of ``Weight``;
``cache_bytes(tokens, dtype_bytes, tp)``
    what one sequence of so many tokens keeps in one layer, on one device of ``tp``;
``ops(groups, precision, tp)``
    what one step does in one layer on one device, as a list of ``Op``.

Kinds whose cache is a state of fixed size say ``fixed_state = True``; those that keep more
than one kind of cache in a layer list them in ``cache_parts(dtype_bytes, tp)``.

To add a kind: write the class in a file of its own, add it to ``KINDS``.
"""

from calc.specs.errors import unknown_name
from calc.specs.model import Part
from calc.work.causal import causal_pairs, heads_per_device, step_tokens
from calc.work.compressed_attention import CompressedAttention
from calc.work.delta_attention import KimiDeltaAttention
from calc.work.encoder_decoder import DecoderAttention, EncoderAttention
from calc.work.grouped_query import GroupedQuery
from calc.work.latent_attention import LatentAttention
from calc.work.lightning_attention import LightningAttention
from calc.work.linear_attention import GatedDeltaNet
from calc.work.mamba import Mamba1, Mamba2
from calc.work.sparse_attention import BlockSparse

__all__ = ["KINDS", "attention", "causal_pairs", "heads_per_device", "step_tokens"]

#: kind named in a Part -> class
KINDS = {
    "gqa": GroupedQuery,
    "mla": LatentAttention,
    "gated_delta_net": GatedDeltaNet,
    "gqa_block_sparse": BlockSparse,
    "compressed": CompressedAttention,
    "kimi_delta": KimiDeltaAttention,
    "lightning": LightningAttention,
    "mamba1": Mamba1,
    "mamba2": Mamba2,
    "encoder": EncoderAttention,
    "decoder_cross": DecoderAttention,
}


def attention(part: Part):
    """Return the attention object of a Part.

    Raises
    ------
    SpecError
        If the kind is not known.
    """
    if part.kind not in KINDS:
        raise unknown_name("attention kind", part.kind, KINDS)
    return KINDS[part.kind](**dict(part.sizes))
