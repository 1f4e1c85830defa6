"""Families with an encoder and a decoder: T5, BART, Whisper."""

from calc.specs.hf_config.assemble import embedding, lm_head, norms
from calc.specs.hf_config.fields import MOST_LAYERS, Fields
from calc.specs.model import Layer, Part, Weight

_ENCODER_NORMS = ("self_attention_norm", "feedforward_norm")
_DECODER_NORMS = ("self_attention_norm", "cross_attention_norm", "feedforward_norm")


def build_t5(c: Fields) -> dict:
    """T5, T5 1.1, Flan-T5: relative positions in the first layers, no biases; heads of any width."""
    d_model, n_heads = c.count("d_model"), c.count("num_heads")
    sizes = {"d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_heads, "d_head": c.count("d_kv")}
    gated = c.text("feed_forward_proj", "relu").startswith("gated")
    feedforward = Part.of("dense", d_model=d_model, d_ff=c.count("d_ff"), gated=gated)
    n_encoder = c.count("num_layers", most=MOST_LAYERS)
    n_decoder = c.count("num_decoder_layers", default=n_encoder, most=MOST_LAYERS)
    buckets = c.count("relative_attention_num_buckets", default=32)
    outer = [
        Weight("relative_positions", "bias", buckets, n_heads, copies=2),
        *norms(d_model, "encoder.norm", "decoder.norm"),
    ]
    encoder = Layer(Part.of("encoder", **sizes), feedforward, norms(d_model, *_ENCODER_NORMS))
    decoder = Layer(Part.of("decoder_cross", **sizes), feedforward, norms(d_model, *_DECODER_NORMS))
    layers = ((encoder,) * n_encoder, (decoder,) * n_decoder)
    # trained with 512 tokens; relative positions set no limit
    return _fields(c, *layers, outer, tied=c.flag("tie_word_embeddings", True), context=2**20)


def build_bart(c: Fields) -> dict:
    """BART: learned positions with an offset of two, biases everywhere, tied embeddings."""
    d_model, context = c.count("d_model"), c.count("max_position_embeddings", default=1024, most=10**9)
    encoder, decoder = (_biased(c, side) for side in ("encoder", "decoder"))
    outer = [Weight("embed_positions", "embedding", context + 2, d_model, copies=2)]
    outer += norms(d_model, "encoder.embedding_norm", "decoder.embedding_norm", bias=True)
    return _fields(c, encoder, decoder, outer, tied=c.flag("tie_word_embeddings", True), context=context)


def build_whisper(c: Fields) -> dict:
    """Whisper: audio through two convolutions to a fixed number of positions, keys without bias."""
    d_model, positions = c.count("d_model"), c.count("max_source_positions", default=1500, most=10**6)
    context = c.count("max_target_positions", default=448, most=10**9)
    encoder = _biased(c, "encoder", key_bias=False)
    decoder = _biased(c, "decoder", key_bias=False, encoder_tokens=positions)
    bins = c.count("num_mel_bins", default=80)
    outer = [
        Weight("audio.conv1", "vision", d_model, 3 * bins),
        Weight("audio.conv2", "vision", d_model, 3 * d_model),
        Weight("audio.conv.bias", "vision", d_model, copies=2),
        Weight("audio.positions", "vision", positions, d_model),
        Weight("embed_positions", "embedding", context, d_model),
        *norms(d_model, "encoder.norm", "decoder.norm", bias=True),
    ]
    tied = c.flag("tie_word_embeddings", True)
    return _fields(c, encoder, decoder, outer, tied=tied, context=context, positions=positions)


def _biased(c: Fields, side: str, **more) -> tuple[Layer, ...]:
    """Return the layers of one side: LayerNorms, biases, a plain feed-forward."""
    d_model, n_heads = c.count("d_model"), c.count(f"{side}_attention_heads")
    if d_model % n_heads:
        raise c.wrong(f"{side}_attention_heads", f"a divisor of d_model, {d_model}")
    kind, names = ("encoder", _ENCODER_NORMS) if side == "encoder" else ("decoder_cross", _DECODER_NORMS)
    heads = {"n_heads": n_heads, "n_kv_heads": n_heads, "d_head": d_model // n_heads}
    attention = Part.of(kind, d_model=d_model, qkv_bias=True, out_bias=True, **heads, **more)
    d_ff = c.count(f"{side}_ffn_dim")
    feedforward = Part.of("dense", d_model=d_model, d_ff=d_ff, gated=False, bias=True)
    layer = Layer(attention, feedforward, norms(d_model, *names, bias=True))
    return (layer,) * c.count(f"{side}_layers", most=MOST_LAYERS)


def _fields(c: Fields, encoder, decoder, outer, tied: bool, context: int, positions: int = 0) -> dict:
    """Return the Model fields of both sides, with one embedding for both."""
    d_model, vocab = c.count("d_model"), c.count("vocab_size")
    head = () if tied else lm_head(vocab, d_model)
    return {
        "d_model": d_model,
        "vocab_size": vocab,
        "max_context_tokens": context,
        "layers": decoder,
        "encoder_layers": encoder,
        "encoder_tokens": positions,
        "outer": (embedding(vocab, d_model), *outer, *head),
        "tied_embeddings": tied,
    }
