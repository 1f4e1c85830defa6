"""Multi-head latent attention: one compressed latent per token is cached, for all heads.

The class has the three methods of ``calc.work.attention``, which registers it.
"""

from dataclasses import dataclass, replace

from calc.specs.model import Weight
from calc.specs.numeric import minimum
from calc.work.attention_core import attention_shape
from calc.work.causal import causal_pairs, step_tokens
from calc.work.op import Op, Precision, Sequences, elementwise, gemm


def math_dtype(precision: Precision) -> str:
    """Dtype of attention's products: 8 bits where the cache has them, else that of activations."""
    return "fp8" if precision.kv_bytes <= 1 else precision.activation


def absorbed(name: str, tokens, n, k, heads, precision: Precision) -> Op:
    """Return the Op of one product for each head, by which decode absorbs keys' or values' expansion."""
    return replace(gemm(name, "attention", tokens, n, k, precision, heads), kind="bmm")


def decode_core(name: str, group: Sequences, seen, heads, rank, d_rope, precision: Precision) -> Op:
    """Return the Op of absorbed queries over ``seen`` latents of each sequence.

    Scores take ``rank + d_rope`` products a pair and head, values ``rank``. The latents are
    read once for all heads, the new ones written.
    """
    latent, tokens = rank + d_rope, group.tokens
    cache_bytes = group.n_sequences * (seen + group.new_tokens) * latent * precision.kv_bytes
    return Op(
        name=name,
        kind="decode_mla",
        dtype=math_dtype(precision),
        format=precision.kv_format,
        flops=2.0 * tokens * heads * seen * (latent + rank),
        cache_bytes=cache_bytes,
        activation_bytes=precision.activation_bytes * tokens * heads * (latent + rank),
        items=group.n_sequences,
        shape={
            "batch": group.n_sequences, "past": group.past_tokens, "heads": heads, "seen": seen,
            "rows": heads * group.new_tokens, "cache_bytes": cache_bytes, "latent": latent, "rank": rank,
        },
    )  # fmt: skip


def prefill_core(
    name: str, group: Sequences, heads, rank, sizes: tuple, precision: Precision, limit=None
) -> Op:
    """Return the Op of causal attention over keys and values expanded from the latents.

    ``sizes`` are ``(d_nope, d_rope, d_value)`` of a head; a sparse indexer lets each query see
    at most ``limit`` keys. The expanded tensors are read, the latents read and written.
    """
    d_nope, d_rope, d_value = sizes
    d_key, new, past = d_nope + d_rope, group.new_tokens, group.past_tokens
    expanded = group.n_sequences * (past + new) * heads * (d_nope + d_value)
    latents = group.n_sequences * (past + 2 * new) * (rank + d_rope)
    shape = {
        "batch": group.n_sequences, "new": new, "past": past, "heads": heads, "d_key": d_key,
        "d_value": d_value, "latent": rank + d_rope,
    }  # fmt: skip
    return Op(
        name=name,
        kind="prefill_mla",
        dtype=math_dtype(precision),
        format=precision.kv_format,
        flops=2.0 * group.n_sequences * heads * causal_pairs(new, past, limit) * (d_key + d_value),
        cache_bytes=latents * precision.kv_bytes,
        activation_bytes=precision.activation_bytes * (group.tokens * heads * (d_key + d_value) + expanded),
        items=group.n_sequences * heads,
        shape=shape if limit is None else {**shape, "limit": limit},
    )


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
    output_gate: bool = False  # a gate of the output, as wide as all values (Kimi K3)

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
        if self.output_gate:
            width = self.n_heads * self.d_value
            weights.append(Weight("attention.gate_proj", "attention", width, self.d_model, split="out"))
        if self.bias:
            widths = {"kv_a_proj": latent, "o_proj": self.d_model, "q_a_proj": self.q_lora_rank}
            weights += [
                Weight(f"attention.{name}.bias", "bias", width) for name, width in widths.items() if width
            ]
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

        Examples
        --------
        DeepSeek-V3 in bf16:

        >>> LatentAttention(7168, 128, 1536, 512, 128, 64, 128).cache_bytes(1, 2)
        1152
        """
        return tokens * (self.kv_lora_rank + self.d_rope + self.d_index) * dtype_bytes

    def ops(self, groups: tuple[Sequences, ...], precision: Precision, tp) -> list[Op]:
        """Operations of one layer in one step on one device.

        Rotary embeddings and the write of the latent belong to the attention kernels: the
        measured calls hold both.

        References
        ----------
        .. [1] ai-dynamo/aiconfigurator 095f58a, collector/trtllm/collect_mla.py: the timed call is
           ``mla_rope_generation`` and ``forward`` with the latent, in prefill ``forward`` with both.
        """
        tokens, heads = step_tokens(groups), self.n_heads / tp
        d_key, latent = self.d_nope + self.d_rope, self.kv_lora_rank + self.d_rope
        gate = heads * self.d_value if self.output_gate else 0
        if self.q_lora_rank:
            down = self.q_lora_rank + latent
            ops = [
                gemm("attention.qkv_a_proj", "attention", tokens, down + gate, self.d_model, precision),
                elementwise("attention.latent_norm", tokens * down, tokens * down, precision),
                gemm("attention.q_b_proj", "attention", tokens, heads * d_key, self.q_lora_rank, precision),
            ]
        else:
            down = heads * d_key + latent + gate
            ops = [
                gemm("attention.qkv_a_proj", "attention", tokens, down, self.d_model, precision),
                elementwise("attention.latent_norm", tokens * latent, tokens * latent, precision),
            ]
        for group in groups:
            ops += self._indexer_ops(group, precision)
            ops += self._core(group, heads, precision)
        values = heads * self.d_value
        return [*ops, gemm("attention.o_proj", "attention", tokens, self.d_model, values, precision)]

    def _indexer_ops(self, group: Sequences, precision: Precision) -> list[Op]:
        if not self.n_index_heads:
            return []
        width, keys = self.n_index_heads * self.d_index, self.d_index + self.n_index_heads
        pairs = causal_pairs(group.new_tokens, group.past_tokens)
        context = group.past_tokens + group.new_tokens
        scores = Op(
            name=f"indexer.scores_{group.phase}",
            kind=f"{group.phase}_attention",
            dtype=precision.activation,
            flops=2.0 * group.n_sequences * pairs * width,
            cache_bytes=group.n_sequences * context * self.d_index * precision.kv_bytes,
            items=group.n_sequences,
            shape=attention_shape(group, context, self.n_index_heads, 1, (self.d_index, 0)),
        )
        return [
            gemm("indexer.q_b_proj", "attention", group.tokens, width, self.q_lora_rank, precision),
            gemm("indexer.k_proj", "attention", group.tokens, keys, self.d_model, precision),
            scores,
        ]

    def _core(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        core = self._decode if group.phase == "decode" else self._prefill
        return core(group, heads, precision)

    def _decode(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        seen = self._attended(group.past_tokens + group.new_tokens)
        rank, tokens = self.kv_lora_rank, group.tokens
        return [
            absorbed("attention.absorb_query", tokens, rank, self.d_nope, heads, precision),
            decode_core("attention.decode", group, seen, heads, rank, self.d_rope, precision),
            absorbed("attention.absorb_value", tokens, self.d_value, rank, heads, precision),
        ]

    def _prefill(self, group: Sequences, heads, precision: Precision) -> list[Op]:
        context, rank = group.past_tokens + group.new_tokens, self.kv_lora_rank
        rows, expanded = group.n_sequences * context, heads * (self.d_nope + self.d_value)
        return [
            gemm("attention.kv_b_proj", "attention", rows, expanded, rank, precision),
            prefill_core(
                "attention.prefill", group, heads, rank, (self.d_nope, self.d_rope, self.d_value), precision,
                self.index_topk or None,
            ),
        ]  # fmt: skip

    def _attended(self, context):
        return minimum(context, self.index_topk) if self.index_topk else context
