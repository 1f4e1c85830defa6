"""Mixture-of-experts families with grouped-query attention."""

from collections.abc import Callable

from calc.specs.hf_config.assemble import (
    check_groups,
    check_top_k,
    dense,
    head_sizes,
    model_fields,
    mtp_outer,
    norms,
)
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.llama_like import KINDS, STYLES, TWO_NORMS, build_with
from calc.specs.model import Layer, Part

_SPARSE = (0, 1)


def experts(c: Fields, d_expert: int, **more) -> Part:
    """Return routed experts of a width, with the count and top-k that the config names."""
    n_experts = c.count("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
    top_k = c.count("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k")
    check_top_k(c, top_k, n_experts)
    sizes = {"d_model": c.count("hidden_size"), "d_expert": d_expert, "n_experts": n_experts, "top_k": top_k}
    return Part.of("moe", **(sizes | more))


def build_mixtral(c: Fields) -> dict:
    """Mixtral, MiniMax-M2 and OLMoE: every layer routed, no shared expert."""
    part = experts(c, c.count("intermediate_size"))
    return build_with(c, STYLES[c.text("model_type")], lambda i: part)


def build_gpt_oss(c: Fields) -> dict:
    """gpt-oss: experts and router with biases, attention sinks, every other layer slides."""
    part = experts(c, c.count("intermediate_size"), expert_bias=True, router_bias=True)
    return build_with(c, STYLES["gpt_oss"], lambda i: part)


def qwen_feedforward(c: Fields) -> Callable[[int], Part]:
    """Return the rule of the Qwen families: which layers are routed, with which shared expert."""
    shared = c.count("shared_expert_intermediate_size", default=0, least=0)
    routed = experts(c, c.count("moe_intermediate_size"), d_shared=shared, shared_gate=bool(shared))
    step = c.count("decoder_sparse_step", default=1)
    dense_layers = set(c.counts("mlp_only_layers", []))
    n_layers = n_layers_of(c)
    if all(i in dense_layers or (i + 1) % step for i in range(n_layers)):
        return lambda i: dense(c, c.count("intermediate_size"))
    if step == 1 and not dense_layers:
        return lambda i: routed
    plain = dense(c, c.count("intermediate_size"))
    return lambda i: plain if i in dense_layers or (i + 1) % step else routed


def build_qwen(c: Fields) -> dict:
    """Qwen1.5-MoE, Qwen2-MoE and Qwen3-MoE."""
    return build_with(c, STYLES[c.text("model_type")], qwen_feedforward(c))


def deepseek_feedforward(c: Fields) -> Callable[[int], Part]:
    """Return DeepSeek's rule: some dense layers first, then routed and shared experts."""
    d_expert = c.count("moe_intermediate_size")
    shared = d_expert * c.count("n_shared_experts", default=0, least=0, most=1000)
    routed = experts(c, d_expert, d_shared=shared)
    plain = dense(c, c.count("intermediate_size"))
    first = c.count("first_k_dense_replace", default=0, least=0)
    every = c.count("moe_layer_freq", default=1)
    return lambda i: routed if i >= first and i % every == 0 else plain


def build_glm4_moe(c: Fields) -> dict:
    """GLM-4.5: grouped-query attention with DeepSeek's experts and next-token layer."""
    rule = deepseek_feedforward(c)
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    more = {}
    if n_mtp:
        last = build_with(c, STYLES["glm4_moe"], rule, mtp=())["layers"][-1]
        outer = mtp_outer(c.count("hidden_size"), c.count("vocab_size"), n_mtp)
        more = {"mtp": (last,) * n_mtp, "mtp_outer": outer}
    return build_with(c, STYLES["glm4_moe"], rule, **more)


def build_dbrx(c: Fields) -> dict:
    """DBRX: sizes in two sections, two norms without bias."""
    attn, ffn = c.section("attn_config"), c.section("ffn_config")
    d_model, n_heads = c.count("d_model"), c.count("n_heads")
    heads = head_sizes(c) | {"n_kv_heads": attn.count("kv_n_heads", default=n_heads)}
    check_groups(attn, n_heads, heads["n_kv_heads"])
    n_experts, top_k = ffn.count("moe_num_experts"), ffn.count("moe_top_k")
    check_top_k(ffn, top_k, n_experts)
    routed = Part.of(
        "moe", d_model=d_model, d_expert=ffn.count("ffn_hidden_size"), n_experts=n_experts, top_k=top_k
    )
    layer = Layer(Part.of("gqa", **heads), routed, norms(d_model, *TWO_NORMS))
    return model_fields(c, (layer,) * n_layers_of(c))


def build_llama4(c: Fields) -> dict:
    """Llama 4, text part: chunked local attention, a shared expert beside the routed ones."""
    n_layers = n_layers_of(c)
    step = c.count("interleave_moe_layer_step", default=1)
    moe_layers = set(c.counts("moe_layers", list(range(step - 1, n_layers, step))))
    d_expert = c.count("intermediate_size")
    routed = experts(c, d_expert, d_shared=d_expert)
    plain = dense(c, c.count("intermediate_size_mlp", default=d_expert))
    local = c.per_layer("no_rope_layers", n_layers, _SPARSE)
    names = ("full_attention", "chunked_attention")
    kinds = layer_kinds(c, n_layers, names, lambda i: names[local[i] if local else (i + 1) % 4 != 0])
    bias = c.flag("attention_bias")
    sizes = head_sizes(c) | {"qkv_bias": bias, "out_bias": bias}
    chunk = c.count("attention_chunk_size", default=8192, most=10**9)
    parts = {
        "full_attention": Part.of("gqa", **sizes),
        "chunked_attention": Part.of("gqa", **sizes, chunk=chunk),
    }
    weights = norms(sizes["d_model"], *TWO_NORMS)
    return model_fields(
        c, [Layer(parts[kind], routed if i in moe_layers else plain, weights) for i, kind in enumerate(kinds)]
    )


def build_mimo_v2(c: Fields) -> dict:
    """MiMo-V2-Flash: sliding layers have their own KV heads and sinks; values narrower than keys."""
    n_layers = n_layers_of(c)
    full = head_sizes(c) | {"d_value": c.count("v_head_dim"), "qkv_bias": c.flag("attention_bias")}
    sliding = full | {
        "n_heads": c.count("swa_num_attention_heads", default=full["n_heads"]),
        "n_kv_heads": c.count("swa_num_key_value_heads", default=full["n_kv_heads"]),
        "d_head": c.count("swa_head_dim", default=full["d_head"]),
        "d_value": c.count("swa_v_head_dim", default=full["d_value"]),
        "window": c.count("sliding_window", "sliding_window_size", most=10**9),
        "sinks": c.flag("add_swa_attention_sink_bias"),
    }
    check_groups(c, sliding["n_heads"], sliding["n_kv_heads"])
    full |= {"sinks": c.flag("add_full_attention_sink_bias")}
    parts = (Part.of("gqa", **full), Part.of("gqa", **sliding))
    pattern = c.per_layer("hybrid_layer_pattern", n_layers, _SPARSE) or [0] * n_layers
    sparse = c.per_layer("moe_layer_freq", n_layers, _SPARSE) or [1] * n_layers
    d_expert = c.count("moe_intermediate_size")
    shared = d_expert * c.count("n_shared_experts", default=0, least=0, most=1000)
    feeds = (dense(c, c.count("intermediate_size")), experts(c, d_expert, d_shared=shared))
    weights = norms(full["d_model"], *TWO_NORMS)
    return model_fields(c, [Layer(parts[pattern[i]], feeds[sparse[i]], weights) for i in range(n_layers)])


def build_step3p7(c: Fields) -> dict:
    """Step-3.7, text part: a gate per head, sliding layers, one shared expert."""
    n_layers = n_layers_of(c)
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    kinds = layer_kinds(c, n_layers, KINDS, lambda i: KINDS[0], extra=n_mtp)
    sizes = head_sizes(c) | {"qk_norm": "head", "head_gate": True}
    window = c.count("sliding_window", default=None, most=10**9)
    parts = {KINDS[0]: Part.of("gqa", **sizes), KINDS[1]: Part.of("gqa", **sizes, window=window)}
    plain = dense(c, c.count("intermediate_size"))
    routed = experts(c, c.count("moe_intermediate_size"), d_shared=c.count("share_expert_dim"))
    first = c.count("first_k_dense_replace", default=3, least=0)
    weights = norms(sizes["d_model"], *TWO_NORMS)
    layers = [Layer(parts[kind], routed if i >= first else plain, weights) for i, kind in enumerate(kinds)]
    return model_fields(
        c,
        layers,
        mtp=(Layer(parts[KINDS[0]], plain, weights),) * n_mtp,
        mtp_outer=mtp_outer(sizes["d_model"], layers=n_mtp) if n_mtp else (),
    )


def build_minimax_m3(c: Fields) -> dict:
    """MiniMax-M3, text part: block-sparse attention and routed experts in all but the first layers."""
    n_layers, d_model = n_layers_of(c), c.count("hidden_size")
    sparse = c.section("sparse_attention_config")
    block = sparse.count("sparse_block_size", default=128) * sparse.count("sparse_topk_blocks", default=16)
    heads = head_sizes(c) | {"qk_norm": "head" if c.flag("use_qk_norm", True) else ""}
    indexer = {
        "n_index_heads": sparse.count("sparse_num_index_heads", default=4),
        "d_index": sparse.count("sparse_index_dim", default=128),
        "index_tokens": block,
    }
    parts = (Part.of("gqa", **heads), Part.of("gqa_block_sparse", **heads, **indexer))
    picks = sparse.per_layer("sparse_attention_freq", n_layers, _SPARSE) or [1] * n_layers
    routed_in = c.per_layer("moe_layer_freq", n_layers, _SPARSE) or [1] * n_layers
    shared = c.count("shared_intermediate_size", default=0, least=0)
    feeds = (
        dense(c, c.count("dense_intermediate_size")),
        experts(c, c.count("moe_intermediate_size", "intermediate_size"), d_shared=shared),
    )
    weights = norms(d_model, *TWO_NORMS)
    return model_fields(c, [Layer(parts[picks[i]], feeds[routed_in[i]], weights) for i in range(n_layers)])
