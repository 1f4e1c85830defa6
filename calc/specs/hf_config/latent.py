"""Families with multi-head latent attention: DeepSeek V2 to V3.2, Kimi K2, GLM-5."""

from calc.specs.hf_config.assemble import model_fields, mtp_outer, norms
from calc.specs.hf_config.fields import Fields, n_layers_of
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.hf_config.moe import deepseek_feedforward
from calc.specs.model import Layer, Part

_INDEXERS = ("full", "shared")


def build(c: Fields) -> dict:
    """Return the Model fields of a config with latent attention, with or without an indexer."""
    n_layers = n_layers_of(c)
    feedforward = deepseek_feedforward(c)
    weights = norms(c.count("hidden_size"), *TWO_NORMS)
    kinds = _indexers(c, n_layers)
    parts = {kind: latent_attention(c, kind) for kind in set(kinds)}
    layers = [Layer(parts[kind], feedforward(i), weights) for i, kind in enumerate(kinds)]
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    outer = mtp_outer(c.count("hidden_size"), c.count("vocab_size"), n_mtp) if n_mtp else ()
    # the next-token layer runs its own indexer: it is built as a full layer
    mtp = (Layer(parts[kinds[0]], feedforward(n_layers), weights),) * n_mtp
    return model_fields(c, layers, mtp=mtp, mtp_outer=outer)


def _indexers(c: Fields, n_layers: int) -> list[str | None]:
    """Return each layer's indexer: its own, shared with the layer before, or None."""
    if "index_topk" not in c:
        return [None] * n_layers
    given = c.per_layer("indexer_types", n_layers, _INDEXERS)
    if given is not None:
        return given
    every = max(c.count("index_topk_freq", default=1, least=0), 1)
    offset = c.count("index_skip_topk_offset", default=2, least=0)
    return [_INDEXERS[max(i - offset + 1, 0) % every != 0] for i in range(n_layers)]


def latent_attention(c: Fields, indexer: str | None = None) -> Part:
    """Return the latent attention of a config, with its own indexer, a shared one or none."""
    sizes = {
        "d_model": c.count("hidden_size"),
        "n_heads": c.count("num_attention_heads"),
        "q_lora_rank": c.count("q_lora_rank", default=0, least=0),
        "kv_lora_rank": c.count("kv_lora_rank"),
        "d_nope": c.count("qk_nope_head_dim"),
        "d_rope": c.count("qk_rope_head_dim"),
        "d_value": c.count("v_head_dim"),
        "bias": c.flag("attention_bias"),
    }
    if indexer:
        sizes |= {"index_topk": c.count("index_topk")}
    if indexer == "full":
        sizes |= {"n_index_heads": c.count("index_n_heads"), "d_index": c.count("index_head_dim")}
    return Part.of("mla", **sizes)
