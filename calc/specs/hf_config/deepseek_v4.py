"""DeepSeek-V4: compressed attention, hyper-connections, routed experts in every layer."""

from calc.specs.hf_config.assemble import model_fields, mtp_outer, norms
from calc.specs.hf_config.fields import Fields, layer_kinds, n_layers_of
from calc.specs.hf_config.llama_like import TWO_NORMS
from calc.specs.hf_config.moe import experts
from calc.specs.model import Layer, Part, Weight

#: tokens in one compressed entry -> name in ``layer_types``
_KINDS = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}


def build(c: Fields) -> dict:
    """Return the Model fields of a config, with the ratio of each layer."""
    d_model, streams = c.count("hidden_size"), c.count("hc_mult", default=4, most=64)
    kinds = _kinds(c)
    parts = {kind: _attention(c, kind, streams) for kind in {*kinds, _KINDS[0]}}
    width = c.count("moe_intermediate_size")
    routed = experts(c, width, d_shared=width * c.count("n_shared_experts", default=1, least=0, most=1000))
    weights, head = norms(d_model, *TWO_NORMS), _head(d_model, streams)
    n_mtp = c.count("num_nextn_predict_layers", default=0, least=0, most=16)
    more = {}
    if n_mtp:
        more = {
            "mtp": (Layer(parts[_KINDS[0]], routed, weights),) * n_mtp,
            "mtp_outer": mtp_outer(d_model, layers=n_mtp) + head * n_mtp,
        }
    return model_fields(c, [Layer(parts[kind], routed, weights) for kind in kinds], extra=head, **more)


def _kinds(c: Fields) -> list[str]:
    """Return the kind of each layer, from the ratios; entries for next-token layers may follow."""
    n_layers, ratios = n_layers_of(c), None
    if "compress_ratios" in c and "layer_types" not in c:
        extra = max(len(c.items("compress_ratios")) - n_layers, 0)
        ratios = c.per_layer("compress_ratios", n_layers, _KINDS, extra=min(extra, 16))
    if ratios is not None:
        return [_KINDS[ratio] for ratio in ratios]
    alternating = (_KINDS[128], _KINDS[4])
    return layer_kinds(c, n_layers, _KINDS.values(), lambda i: alternating[i >= 2 and i % 2])


def _attention(c: Fields, kind: str, streams: int) -> Part:
    n_heads, o_groups = c.count("num_attention_heads"), c.count("o_groups", default=8)
    if n_heads % o_groups:
        raise c.wrong("o_groups", f"a divisor of {n_heads} attention heads")
    sizes = {
        "d_model": c.count("hidden_size"),
        "n_heads": n_heads,
        "d_head": c.count("head_dim"),
        "q_lora_rank": c.count("q_lora_rank"),
        "o_groups": o_groups,
        "o_lora_rank": c.count("o_lora_rank"),
        "window": c.count("sliding_window", default=128, most=10**9),
        "ratio": {name: ratio for ratio, name in _KINDS.items()}[kind],
        "streams": streams,
    }
    if kind == "compressed_sparse_attention":
        sizes |= {
            "n_index_heads": c.count("index_n_heads"),
            "d_index": c.count("index_head_dim"),
            "index_topk": c.count("index_topk"),
        }
    return Part.of("compressed", **sizes)


def _head(d_model: int, streams: int) -> tuple[Weight, ...]:
    """Return what joins the streams of the hidden state at the end."""
    return (
        Weight("hyper_connection.head", "router", streams, streams * d_model),
        Weight("hyper_connection.head.base_and_scale", "bias", streams + 1),
    )
