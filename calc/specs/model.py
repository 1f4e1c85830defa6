"""Models: the shape of a transformer as data, layer by layer, with names and sources.

A ``Model`` holds what the checkpoint's config.json says, translated once. What follows
from it - parameter counts, cache bytes, operations - lives in ``calc.work``, in one small
class per kind of attention and feed-forward; a ``Part`` names such a class and its sizes.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from calc.specs.facts import Fact, Source
from calc.specs.quantization import Checkpoint

#: module classes: what a weight belongs to, the unit of parameter tables and of quantisation
ROLES = (
    "embedding", "attention", "feedforward", "expert", "shared_expert", "router",
    "norm", "bias", "lm_head", "mtp", "vision",
)  # fmt: skip

#: how tensor parallelism cuts a weight
SPLITS = {
    "none": "every rank holds the whole weight",
    "out": "columns: each rank holds 1/tp of the outputs",
    "in": "rows: each rank holds 1/tp of the inputs",
    "kv": "outputs by KV heads: 1/tp until each rank holds one head, then copies",
}


@dataclass(frozen=True)
class Weight:
    """One weight matrix or vector (or ``copies`` equal ones, e.g. of experts)."""

    name: str
    role: str
    out_features: int
    in_features: int = 1
    copies: int = 1
    split: str = "none"
    kv_heads: int = 0  # heads that split="kv" divides
    visited: int | None = None  # copies that one token visits (routed experts); None: all

    @property
    def parameters(self) -> int:
        """Number of parameters in all copies."""
        return self.out_features * self.in_features * self.copies

    @property
    def active_parameters(self) -> int:
        """Number of parameters in the copies that one token visits."""
        visited = self.copies if self.visited is None else self.visited
        return self.out_features * self.in_features * visited


@dataclass(frozen=True)
class Part:
    """A kind of attention or feed-forward and its sizes; ``calc.work`` has the class."""

    kind: str
    sizes: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, kind: str, **sizes) -> "Part":
        """Return a part from keyword sizes.

        Examples
        --------
        >>> Part.of("dense", d_model=8, d_ff=32)["d_ff"]
        32
        """
        return cls(kind, tuple(sorted(sizes.items())))

    def __getitem__(self, name: str):
        return dict(self.sizes)[name]


@dataclass(frozen=True)
class Layer:
    """One layer; equal layers compare equal, so that work is counted once per distinct one."""

    attention: Part | None
    feedforward: Part | None
    norms: tuple[Weight, ...] = ()
    #: attention and feed-forward read the same input and share one all-reduce (GPT-J, Falcon)
    parallel: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """A model's shape, names and origin.

    ``layers`` are the decoder layers in order, ``outer`` the weights outside of them
    (embeddings, final norm, lm_head, towers), ``mtp`` the next-token prediction layers a
    checkpoint may carry, each with the weights around it in ``mtp_outer``. Models with an
    encoder have its ``encoder_layers`` and say in ``encoder_tokens`` how many positions it
    always has, 0 if it reads the prompt; None is a model without.
    """

    id: str
    name: str
    family: str
    d_model: int
    vocab_size: int
    max_context_tokens: int
    layers: tuple[Layer, ...]
    outer: tuple[Weight, ...]
    tied_embeddings: bool
    mtp: tuple[Layer, ...] = ()
    mtp_outer: tuple[Weight, ...] = ()
    encoder_layers: tuple[Layer, ...] = ()
    encoder_tokens: int | None = None
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    aliases: tuple[str, ...] = ()
    published: Mapping[str, Fact] = field(default_factory=dict)
    config_kind: str = "assumed"
    config_sources: tuple[Source, ...] = ()
    note: str = ""
    path: str = ""

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layers)

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each distinct layer with how often it occurs."""
        return tuple(Counter(self.layers).items())

    @cached_property
    def distinct_encoder_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each distinct layer of the encoder with how often it occurs."""
        return tuple(Counter(self.encoder_layers).items())

    @property
    def is_moe(self) -> bool:
        """Whether any layer routes tokens to experts."""
        return any(layer.feedforward is not None and layer.feedforward.kind == "moe" for layer in self.layers)
