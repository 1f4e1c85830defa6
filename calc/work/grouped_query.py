"""Multi-head, grouped-query and multi-query attention, with or without a window.

The class has the three methods of ``calc.work.attention``, which registers it.
"""

from dataclasses import dataclass

from calc.specs.model import Weight
from calc.specs.numeric import minimum
from calc.work.attention_core import attention_core
from calc.work.causal import heads_per_device, step_tokens
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


@dataclass(frozen=True)
class GroupedQuery:
    """Multi-head, grouped-query or multi-query attention, with or without a window.

    ``n_kv_heads == n_heads`` is MHA, ``1`` is MQA. ``window`` limits the keys a token sees
    and the cache that is kept; ``chunk`` is Llama-4's chunked local attention. Values may
    be narrower than keys (``d_value``). ``gated`` doubles the query projection with an
    output gate (Qwen3-Next); ``head_gate`` is one gate value per head (Step-3.7). Norms of
    queries and keys have ``qk_norm`` weights per head (``d_head``) or per all heads.
    ``keys_as_values`` has no value projection but caches both; ``shares_cache`` reads the
    keys and values of an earlier layer and keeps none (Gemma 4).
    """

    d_model: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_value: int = 0
    window: int | None = None
    chunk: int | None = None
    qkv_bias: bool = False
    key_bias: bool = True  # False: qkv_bias without the one of the keys (Whisper)
    out_bias: bool = False
    qk_norm: str = ""  # "", "head" or "all"
    gated: bool = False
    head_gate: bool = False
    sinks: bool = False
    keys_as_values: bool = False
    shares_cache: bool = False

    @property
    def value_width(self) -> int:
        """Width of one value head."""
        return self.d_value or self.d_head

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: q, k, v and output projections, biases, norms, sinks."""
        return (*self._projections(), *self._biases(), *self._small())

    @property
    def _outputs(self) -> list[tuple[str, int, dict]]:
        """Name, width and split of the input projections."""
        kv = {"split": "kv", "kv_heads": self.n_kv_heads}
        rows = [("q_proj", self.n_heads * self.d_head * (2 if self.gated else 1), {"split": "out"})]
        if not self.shares_cache:
            rows.append(("k_proj", self.n_kv_heads * self.d_head, kv))
            if not self.keys_as_values:
                rows.append(("v_proj", self.n_kv_heads * self.value_width, kv))
        return rows

    def _projections(self) -> list[Weight]:
        weights = [
            Weight(f"attention.{name}", "attention", width, self.d_model, **split)
            for name, width, split in self._outputs
        ]
        inner = self.n_heads * self.value_width
        weights.append(Weight("attention.o_proj", "attention", self.d_model, inner, split="in"))
        if self.head_gate:
            weights.append(
                Weight("attention.gate_proj", "attention", self.n_heads, self.d_model, split="out")
            )
        return weights

    def _biases(self) -> list[Weight]:
        weights = []
        for name, width, split in self._outputs if self.qkv_bias else ():
            if name == "k_proj" and not self.key_bias:
                continue
            weights.append(Weight(f"attention.{name}.bias", "bias", width, **split))
        if self.out_bias:
            weights.append(Weight("attention.o_proj.bias", "bias", self.d_model))
        return weights

    def _small(self) -> list[Weight]:
        weights = []
        if self.qk_norm:
            heads, kv_heads = (self.n_heads, self.n_kv_heads) if self.qk_norm == "all" else (1, 1)
            weights.append(Weight("attention.q_norm", "norm", self.d_head * heads))
            if not self.shares_cache:
                weights.append(Weight("attention.k_norm", "norm", self.d_head * kv_heads))
        if self.sinks:
            weights.append(Weight("attention.sinks", "bias", self.n_heads, split="out"))
        return weights

    def cached_tokens(self, tokens):
        """Tokens of a sequence whose keys and values are still needed."""
        limit = self.window or self.chunk
        return tokens if limit is None else minimum(tokens, limit)

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps in one layer on one device. [byte]

        ``tokens * kv_heads * (d_head + d_value) * dtype_bytes``, tokens capped at the window.

        Examples
        --------
        >>> GroupedQuery(d_model=4096, n_heads=32, n_kv_heads=8, d_head=128).cache_bytes(1000, 2)
        4096000.0
        """
        if self.shares_cache:
            return 0 * tokens
        width = heads_per_device(self.n_kv_heads, tp) * (self.d_head + self.value_width)
        return self.cached_tokens(tokens) * width * dtype_bytes

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device.

        The rope op reads and writes queries and keys; the write of the cache belongs to the
        attention kernels, whose measured calls hold it.

        References
        ----------
        .. [1] ai-dynamo/aiconfigurator 095f58a, collector/vllm/collect_attn.py: the timed call is
           ``do_kv_cache_update`` and ``forward`` (vLLM before 0.16 does both in ``forward``).
        """
        tokens = step_tokens(groups)
        heads, kv_heads = self.n_heads / tp, heads_per_device(self.n_kv_heads, tp)
        pair_width = self.d_head + self.value_width
        q_width = heads * self.d_head * (2 if self.gated else 1) + (heads if self.head_gate else 0)
        kv_width = 0 if self.shares_cache else kv_heads * (self.d_head if self.keys_as_values else pair_width)
        rotated = heads * self.d_head + (0 if self.shares_cache else kv_heads * self.d_head)
        core = [self._core(group, heads, kv_heads, precision) for group in groups]
        return [
            gemm("attention.qkv_proj", "attention", tokens, q_width + kv_width, self.d_model, precision),
            elementwise("attention.rope", tokens * rotated, tokens * rotated, precision),
            *core,
            gemm("attention.o_proj", "attention", tokens, self.d_model, heads * self.value_width, precision),
        ]

    def _core(self, group, heads, kv_heads, precision) -> Op:
        widths, keeps = (self.d_head, self.value_width), not self.shares_cache
        return attention_core(group, heads, kv_heads, widths, precision, self.window, self.chunk, keeps)
