"""Attention kinds: the registry of the classes that count them.

Every class has the same three methods:

``parameters()``
    its weights, as a tuple of ``Weight``;
``cache_bytes(tokens, dtype_bytes, tp)``
    what one sequence of so many tokens keeps in one layer, on one device of ``tp``;
``ops(groups, precision, tp)``
    what one step does in one layer on one device, as a list of ``Op``.

To add a kind: write the class in a file of its own, add it to ``KINDS``.
"""

from calc.specs.errors import unknown_name
from calc.specs.model import Part
from calc.work.causal import causal_pairs, heads_per_device, step_tokens
from calc.work.grouped_query import GroupedQuery
from calc.work.latent_attention import LatentAttention
from calc.work.linear_attention import GatedDeltaNet
from calc.work.sparse_attention import BlockSparse

__all__ = ["KINDS", "attention", "causal_pairs", "heads_per_device", "step_tokens"]

#: kind named in a Part -> class
KINDS = {
    "gqa": GroupedQuery,
    "mla": LatentAttention,
    "gated_delta_net": GatedDeltaNet,
    "gqa_block_sparse": BlockSparse,
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
