"""Attention kinds, one small class each: parameters, cache bytes, operations.

Every class has the same three methods:

``parameters()``
    its weights, as a tuple of ``Weight``;
``cache_bytes(tokens, dtype_bytes, tp)``
    what one sequence of so many tokens keeps in one layer, on one device of ``tp``;
``ops(groups, precision, tp)``
    what one step does in one layer on one device, as a list of ``Op``.

To add a kind: write the class, add it to ``KINDS``.
"""

from dataclasses import dataclass

from calc.specs.errors import unknown_name
from calc.specs.model import Part, Weight
from calc.specs.numeric import floor, maximum, minimum
from calc.work.linear_attention import GatedDeltaNet
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


def causal_pairs(new_tokens, past_tokens, window=None, chunk=None):
    """Number of (query, key) pairs that causal attention visits for one sequence and head.

    Query number i of the new tokens sees itself, the new tokens before it and the past:
    ``past + i`` keys, at most ``window`` of them; with ``chunk`` only those in its own chunk.

    Examples
    --------
    >>> causal_pairs(4, 0), causal_pairs(1, 9), causal_pairs(4, 0, window=2), causal_pairs(4, 0, chunk=2)
    (10.0, 10.0, 7.0, 6.0)
    """
    if chunk is not None:
        return _chunk_pairs(past_tokens + new_tokens, chunk) - _chunk_pairs(past_tokens, chunk)
    if window is None:
        return new_tokens * past_tokens + new_tokens * (new_tokens + 1) / 2
    growing = minimum(maximum(window - past_tokens, 0), new_tokens)
    return growing * past_tokens + growing * (growing + 1) / 2 + (new_tokens - growing) * window


def _chunk_pairs(tokens, chunk):
    whole = floor(tokens / chunk)
    rest = tokens - whole * chunk
    return whole * chunk * (chunk + 1) / 2 + rest * (rest + 1) / 2


def heads_per_device(n_heads, tp):
    """Heads one rank holds: an even share, but at least one (copied where tp > n_heads).

    Examples
    --------
    >>> heads_per_device(8, 4), heads_per_device(8, 16)
    (2.0, 1)
    """
    return maximum(1, n_heads / tp)


def step_tokens(groups: tuple[Sequences, ...]):
    """All new tokens of a step."""
    return sum(group.tokens for group in groups)


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
            weights.append(Weight("attention.gate_proj", "attention", self.n_heads, self.d_model, split="out"))
        return weights

    def _biases(self) -> list[Weight]:
        weights = []
        if self.qkv_bias:
            weights = [Weight(f"attention.{name}.bias", "bias", width, **split) for name, width, split in self._outputs]
        if self.out_bias:
            weights.append(Weight("attention.o_proj.bias", "bias", self.d_model))
        return weights

    def _small(self) -> list[Weight]:
        weights = []
        if self.qk_norm:
            whole = self.qk_norm == "all"
            weights.append(Weight("attention.q_norm", "norm", self.d_head * (self.n_heads if whole else 1)))
            if not self.shares_cache:
                weights.append(Weight("attention.k_norm", "norm", self.d_head * (self.n_kv_heads if whole else 1)))
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
        4096000
        """
        if self.shares_cache:
            return 0 * tokens
        width = heads_per_device(self.n_kv_heads, tp) * (self.d_head + self.value_width)
        return self.cached_tokens(tokens) * width * dtype_bytes

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens = step_tokens(groups)
        heads, kv_heads = self.n_heads / tp, heads_per_device(self.n_kv_heads, tp)
        pair_width = self.d_head + self.value_width
        q_width = heads * self.d_head * (2 if self.gated else 1) + (heads if self.head_gate else 0)
        kv_width = 0 if self.shares_cache else kv_heads * (self.d_head if self.keys_as_values else pair_width)
        rotated = heads * self.d_head + (0 if self.shares_cache else kv_heads * self.d_head)
        core = [self._core(group, heads, kv_heads, pair_width, precision) for group in groups]
        return [
            gemm("attention.qkv_proj", "attention", tokens, q_width + kv_width, self.d_model, precision),
            elementwise("attention.rope_and_cache_write", tokens * rotated, tokens * rotated, precision),
            *core,
            gemm("attention.o_proj", "attention", tokens, self.d_model, heads * self.value_width, precision),
        ]

    def _core(self, group, heads, kv_heads, pair_width, precision) -> Op:
        pairs = causal_pairs(group.new_tokens, group.past_tokens, self.window, self.chunk)
        seen = self.cached_tokens(group.past_tokens + group.new_tokens)
        read = seen if group.phase == "decode" else minimum(group.past_tokens + group.new_tokens, seen + group.new_tokens)
        written = 0 if self.shares_cache else group.new_tokens
        cache = group.n_sequences * (read + written) * kv_heads * pair_width * precision.kv_bytes
        return Op(
            name=f"attention.{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            flops=2.0 * group.n_sequences * heads * pairs * pair_width,
            cache_bytes=cache,
            activation_bytes=precision.activation_bytes * group.tokens * heads * pair_width,
            items=group.n_sequences * kv_heads,
            shape={
                "batch": group.n_sequences, "new": group.new_tokens, "past": group.past_tokens,
                "heads": heads, "kv_heads": kv_heads, "d_head": self.d_head, "window": self.window or 0,
            },
        )  # fmt: skip


@dataclass(frozen=True)
class LatentAttention:
    """Multi-head latent attention (DeepSeek V2/V3, Kimi K2): one latent per token is cached.

    Prefill expands the latent into keys and values; decode absorbs the expansion into the
    query and output, so that it reads the latent only. The latent is the same for all
    heads: tensor parallelism copies it to every rank.
    """

    d_model: int
    n_heads: int
    q_lora_rank: int  # 0: one full query projection
    kv_lora_rank: int
    d_nope: int
    d_rope: int
    d_value: int
    bias: bool = False
    n_index_heads: int = 0  # sparse indexer (DeepSeek V3.2, GLM-5)
    d_index: int = 0
    index_topk: int = 0

    def parameters(self) -> tuple[Weight, ...]:
        """Weights of one layer: query, latent and output projections, their norms, the indexer."""
        q_out = self.n_heads * (self.d_nope + self.d_rope)
        latent = self.kv_lora_rank + self.d_rope
        weights = []
        if self.q_lora_rank:
            weights += [
                Weight("attention.q_a_proj", "attention", self.q_lora_rank, self.d_model),
                Weight("attention.q_a_norm", "norm", self.q_lora_rank),
                Weight("attention.q_b_proj", "attention", q_out, self.q_lora_rank, split="out"),
            ]
        else:
            weights.append(Weight("attention.q_proj", "attention", q_out, self.d_model, split="out"))
        kv_out = self.n_heads * (self.d_nope + self.d_value)
        weights += [
            Weight("attention.kv_a_proj", "attention", latent, self.d_model),
            Weight("attention.kv_a_norm", "norm", self.kv_lora_rank),
            Weight("attention.kv_b_proj", "attention", kv_out, self.kv_lora_rank, split="out"),
            Weight("attention.o_proj", "attention", self.d_model, self.n_heads * self.d_value, split="in"),
        ]
        if self.bias:
            weights += [Weight("attention.kv_a_proj.bias", "bias", latent), Weight("attention.o_proj.bias", "bias", self.d_model)]
            weights += [Weight("attention.q_a_proj.bias", "bias", self.q_lora_rank)] if self.q_lora_rank else []
        return (*weights, *self._indexer_parameters())

    def _indexer_parameters(self) -> tuple[Weight, ...]:
        if not self.n_index_heads:
            return ()
        return (
            Weight("indexer.q_b_proj", "attention", self.n_index_heads * self.d_index, self.q_lora_rank),
            Weight("indexer.k_proj", "attention", self.d_index, self.d_model),
            Weight("indexer.k_norm", "norm", self.d_index),
            Weight("indexer.k_norm.bias", "norm", self.d_index),
            Weight("indexer.weights_proj", "attention", self.n_index_heads, self.d_model),
        )

    def cache_bytes(self, tokens, dtype_bytes, tp=1):
        """Bytes that one sequence keeps in one layer, on every rank alike. [byte]

        ``tokens * (kv_lora_rank + d_rope + d_index) * dtype_bytes``: the latent, the rotary
        key and, with a sparse indexer, its key.
        """
        return tokens * (self.kv_lora_rank + self.d_rope + self.d_index) * dtype_bytes

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device."""
        tokens, heads = step_tokens(groups), self.n_heads / tp
        d_key, latent = self.d_nope + self.d_rope, self.kv_lora_rank + self.d_rope
        if self.q_lora_rank:
            down = self.q_lora_rank + latent
            ops = [
                gemm("attention.qkv_a_proj", "attention", tokens, down, self.d_model, precision),
                elementwise("attention.latent_norm", tokens * down, tokens * down, precision),
                gemm("attention.q_b_proj", "attention", tokens, heads * d_key, self.q_lora_rank, precision),
            ]
        else:
            down = heads * d_key + latent
            ops = [
                gemm("attention.qkv_a_proj", "attention", tokens, down, self.d_model, precision),
                elementwise("attention.latent_norm", tokens * latent, tokens * latent, precision),
            ]
        rotated = tokens * (heads + 1) * self.d_rope
        ops.append(elementwise("attention.rope_and_cache_write", rotated, rotated, precision))
        for group in groups:
            ops += self._indexer_ops(group, precision)
            ops += self._core(group, heads, precision)
        ops.append(gemm("attention.o_proj", "attention", tokens, self.d_model, heads * self.d_value, precision))
        return ops

    def _indexer_ops(self, group: Sequences, precision: Precision) -> list[Op]:
        if not self.n_index_heads:
            return []
        width = self.n_index_heads * self.d_index
        pairs = causal_pairs(group.new_tokens, group.past_tokens)
        scores = Op(
            name=f"indexer.scores_{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            flops=2.0 * group.n_sequences * pairs * width,
            cache_bytes=group.n_sequences * (group.past_tokens + group.new_tokens) * self.d_index * precision.kv_bytes,
            items=group.n_sequences,
        )
        return [
            gemm("indexer.q_b_proj", "attention", group.tokens, width, self.q_lora_rank, precision),
            gemm("indexer.k_proj", "attention", group.tokens, self.d_index + self.n_index_heads, self.d_model, precision),
            scores,
        ]

    def _core(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        return self._decode(group, heads, precision) if group.phase == "decode" else self._prefill(group, heads, precision)

    def _decode(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        seen = self._attended(group.past_tokens + group.new_tokens)
        latent = self.kv_lora_rank + self.d_rope
        return [
            gemm("attention.absorb_query", "attention", group.tokens, self.kv_lora_rank, self.d_nope, precision, heads),
            Op(
                name="attention.decode",
                kind="decode_mla",
                dtype=precision.activation,
                flops=2.0 * group.tokens * heads * seen * (latent + self.kv_lora_rank),
                cache_bytes=group.n_sequences * (seen + group.new_tokens) * latent * precision.kv_bytes,
                activation_bytes=precision.activation_bytes * group.tokens * heads * (latent + self.kv_lora_rank),
                items=group.n_sequences,
                shape={"batch": group.n_sequences, "past": group.past_tokens, "heads": heads},
            ),
            gemm("attention.absorb_value", "attention", group.tokens, self.d_value, self.kv_lora_rank, precision, heads),
        ]

    def _prefill(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        d_key = self.d_nope + self.d_rope
        context = group.past_tokens + group.new_tokens
        pairs = causal_pairs(group.new_tokens, group.past_tokens, self.index_topk or None)
        latent = self.kv_lora_rank + self.d_rope
        expanded = heads * (self.d_nope + self.d_value)
        return [
            gemm("attention.kv_b_proj", "attention", group.n_sequences * context, expanded, self.kv_lora_rank, precision),
            Op(
                name="attention.prefill",
                kind="prefill_mla",
                dtype=precision.activation,
                flops=2.0 * group.n_sequences * heads * pairs * (d_key + self.d_value),
                cache_bytes=group.n_sequences * (context + group.new_tokens) * latent * precision.kv_bytes,
                activation_bytes=precision.activation_bytes
                * (group.tokens * heads * (d_key + self.d_value) + group.n_sequences * context * expanded),
                items=group.n_sequences * heads,
                shape={"batch": group.n_sequences, "new": group.new_tokens, "past": group.past_tokens, "heads": heads},
            ),
        ]

    def _attended(self, context):
        return minimum(context, self.index_topk) if self.index_topk else context


#: kind named in a Part -> class
KINDS = {
    "gqa": GroupedQuery,
    "mla": LatentAttention,
    "gated_delta_net": GatedDeltaNet,
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
