"""Op: one kind of kernel call in one step, with its work on one device."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Op:
    """Work of one kernel call on one device; numbers, arrays or symbols.

    ``kind`` is the key under which calibrations keep parameters: ``gemm``,
    ``prefill_attention``, ``decode_attention``, ``moe``, ``elementwise``, ``embedding``,
    ``linear_attention``, ``allreduce`` ...; ``count`` is how often the call occurs in the step.
    ``format`` is the weight or cache format that calibrations tell apart (``bf16``, ``fp8-block``);
    ``shape`` keeps the sizes that structural timing forms need (m, n, k, ...).
    """

    name: str
    kind: str
    dtype: str
    flops: object = 0.0
    weight_bytes: object = 0.0
    cache_bytes: object = 0.0
    activation_bytes: object = 0.0
    comm_bytes: object = 0.0
    items: object = 1.0
    count: object = 1
    format: str = "bf16"
    shape: Mapping = field(default_factory=dict)

    def times(self, count) -> "Op":
        """Return the same op occurring ``count`` times as often; cheaper than ``replace``."""
        other = object.__new__(Op)
        other.__dict__.update(self.__dict__, count=self.count * count)
        return other

    @property
    def is_collective(self) -> bool:
        """Whether devices exchange data in it."""
        return "world" in self.shape

    @property
    def bytes(self):
        """Bytes read and written in device memory by one call. [byte]"""
        return self.weight_bytes + self.cache_bytes + self.activation_bytes


@dataclass(frozen=True, eq=False)
class Sequences:
    """Equal sequences in one step: each has ``past_tokens`` cached and brings ``new_tokens``.

    ``phase`` is ``"prefill"`` (prompt tokens, causal) or ``"decode"`` (one new token that
    reads the cache); a mixed step holds one of each. ``sampled`` of them need logits.
    With an encoder each looks at ``source_tokens`` of its positions, and the step brings
    ``encoded_tokens`` new ones, of all sequences together.
    """

    phase: str
    n_sequences: object
    new_tokens: object
    past_tokens: object
    sampled: object = None
    source_tokens: object = 0
    encoded_tokens: object = 0

    @property
    def tokens(self):
        """New tokens of all sequences together."""
        return self.n_sequences * self.new_tokens

    @property
    def logit_rows(self):
        """Rows that go through the lm_head: the last token of each sequence."""
        return self.n_sequences if self.sampled is None else self.sampled


@dataclass(frozen=True, eq=False)
class Precision:
    """Formats of one deployment: bits per module class, cache and activation bytes, math."""

    bits: Mapping[str, float]
    kv_bytes: float
    math: str
    activation: str = "bf16"

    activation_bytes: float = 2.0
    #: where module classes differ in it: what their matrix products run in
    math_by_role: Mapping[str, str] = field(default_factory=dict)
    #: weight format of each module class, and of the cache: what calibrations tell apart
    formats: Mapping[str, str] = field(default_factory=dict)
    kv_format: str = "bf16"

    def weight_bytes(self, role: str, parameters):
        """Bytes of so many parameters of a module class. [byte]"""
        return parameters * self.bits[role] / 8

    def format_of(self, role: str) -> str:
        """Weight format of a module class, ``bf16`` where none is named."""
        return self.formats.get(role, "bf16")

    def math_dtype(self, role: str) -> str:
        """Dtype of the matrix product with weights of a module class."""
        default = self.math if self.bits[role] != 16 else self.activation
        return self.math_by_role.get(role, default)


def gemm(name: str, role: str, m, n, k, precision: Precision, copies=1) -> Op:
    """Return the Op of ``m x k`` activations times a ``k x n`` weight.

    Flops are ``2 m n k`` (a multiply-add counts as two); the weight is read once, the
    activations are read and written once in the activation dtype. ``copies`` such
    products run in one call (per head or per expert).

    Parameters
    ----------
    m, n, k : number or array
        Rows (tokens), output and input features on this device.
    """
    width = precision.activation_bytes
    return Op(
        name=name,
        kind="gemm",
        dtype=precision.math_dtype(role),
        flops=2.0 * m * n * k * copies,
        weight_bytes=precision.weight_bytes(role, 1.0 * n * k * copies),
        activation_bytes=width * m * (n + k) * copies,
        format=precision.format_of(role),
        shape={"m": m, "n": n, "k": k, "copies": copies},
    )


def elementwise(name: str, elements_read, elements_written, precision: Precision, flops=0.0) -> Op:
    """Return the Op of a pass over activations (norm, rope, activation, residual).

    Its format is the pass itself, the last part of the name: a calibration may tell passes apart.
    """
    width = precision.activation_bytes
    return Op(
        name=name,
        kind="elementwise",
        dtype=precision.activation,
        format=name.rpartition(".")[2],
        flops=flops,
        activation_bytes=width * (elements_read + elements_written),
    )


def allreduce(name: str, elements, world, precision: Precision) -> Op:
    """Return the Op of summing activations over ``world`` devices; the payload goes round twice."""
    return Op(
        name=name,
        kind="allreduce",
        dtype=precision.activation,
        comm_bytes=precision.activation_bytes * elements,
        shape={"world": world, "rounds": 2},
    )
