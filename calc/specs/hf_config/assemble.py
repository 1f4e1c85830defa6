"""What all families share: norms, the weights around the layers, the dict of Model fields."""

from collections.abc import Iterable

from calc.specs.errors import SpecError
from calc.specs.hf_config.fields import Fields
from calc.specs.model import Layer, Part, Weight


def norms(width: int, *names: str, bias: bool = False) -> tuple[Weight, ...]:
    """Return norm weights of a width, each with a bias where it is a LayerNorm.

    Examples
    --------
    >>> [weight.name for weight in norms(8, "input_norm", bias=True)]
    ['input_norm', 'input_norm.bias']
    """
    weights = []
    for name in names:
        weights.append(Weight(name, "norm", width))
        if bias:
            weights.append(Weight(f"{name}.bias", "norm", width))
    return tuple(weights)


def embedding(vocab: int, d_model: int, name: str = "embed_tokens") -> Weight:
    """Return the embedding table."""
    return Weight(name, "embedding", vocab, d_model, split="out")


def lm_head(vocab: int, d_model: int, bias: bool = False) -> tuple[Weight, ...]:
    """Return the output projection."""
    weights = (Weight("lm_head", "lm_head", vocab, d_model, split="out"),)
    return (*weights, Weight("lm_head.bias", "bias", vocab, split="out")) if bias else weights


def model_fields(
    c: Fields,
    layers: Iterable[Layer],
    *,
    tied: bool = False,
    layer_norm: bool = False,
    head_bias: bool = False,
    max_context: int | None = None,
    extra: tuple[Weight, ...] = (),
    **mtp,
) -> dict:
    """Return the fields of a Model with an embedding, layers, a final norm and an lm_head.

    Parameters
    ----------
    c : Fields
        Where sizes, vocabulary and context are read.
    layers : iterable of Layer
    tied : bool
        What ``tie_word_embeddings`` means where it is absent.
    layer_norm, head_bias : bool
        Whether the final norm and the lm_head have a bias.
    max_context : int
        Longest context, where the config does not say it. [tokens]
    extra : tuple of Weight
        More weights outside of the layers.
    **mtp
        ``mtp`` and ``mtp_outer`` of the Model.
    """
    d_model, vocab = c.count("hidden_size", "n_embd", "d_model"), c.count("vocab_size")
    tied = c.flag("tie_word_embeddings", tied)
    outer = [embedding(vocab, d_model), *norms(d_model, "norm", bias=layer_norm), *extra]
    if not tied:
        outer += lm_head(vocab, d_model, head_bias)
    context = {} if max_context is None else {"default": max_context}
    return {
        "d_model": d_model,
        "vocab_size": vocab,
        "max_context_tokens": c.count(
            "max_position_embeddings", "n_positions", "max_seq_len", most=10**9, **context
        ),
        "layers": tuple(layers),
        "outer": tuple(outer),
        "tied_embeddings": tied,
        **mtp,
    }


def head_sizes(c: Fields, d_head: int = 0) -> dict[str, int]:
    """Return d_model, heads, KV heads and head width of a config, checked against each other.

    Parameters
    ----------
    c : Fields
    d_head : int
        Head width where the config names none; 0 means hidden size over heads.
    """
    d_model = c.count("hidden_size", "n_embd", "d_model")
    n_heads = c.count("num_attention_heads", "n_head", "n_heads")
    n_kv_heads = c.count("num_key_value_heads", default=n_heads)
    width = c.count("head_dim", default=d_head)
    if not width and d_model % n_heads:
        raise SpecError(f"{c.where}: hidden_size {d_model} is not a multiple of {n_heads} attention heads")
    check_groups(c, n_heads, n_kv_heads)
    width = width or d_model // n_heads
    return {"d_model": d_model, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "d_head": width}


def check_groups(c: Fields, n_heads: int, n_kv_heads: int) -> None:
    """Raise SpecError unless every KV head serves the same number of query heads."""
    if n_heads % n_kv_heads:
        raise SpecError(f"{c.where}: {n_heads} attention heads cannot share {n_kv_heads} KV heads evenly")


def mtp_outer(d_model: int, vocab: int = 0, layers: int = 1) -> tuple[Weight, ...]:
    """Return what a DeepSeek-style next-token prediction layer has around its decoder layer.

    Two norms, the projection of hidden state and embedding, the norm before the head; with
    ``vocab`` also the copies of embedding and lm_head that the checkpoint stores and an
    engine shares with the main model.
    """
    weights = [
        Weight("mtp.eh_proj", "mtp", d_model, 2 * d_model, copies=layers),
        *(Weight(f"mtp.{name}", "norm", d_model, copies=layers) for name in ("enorm", "hnorm", "head_norm")),
    ]
    if vocab:
        weights += [
            Weight("mtp.embed_tokens", "embedding", vocab, d_model, copies=layers, split="out"),
            Weight("mtp.lm_head", "lm_head", vocab, d_model, copies=layers, split="out"),
        ]
    return tuple(weights)


def dense(c: Fields, d_ff: int, bias: bool = False, **more) -> Part:
    """Return a gated feed-forward of a width."""
    return Part.of("dense", d_model=c.count("hidden_size"), d_ff=d_ff, bias=bias, **more)


def check_top_k(c: Fields, top_k: int, n_experts: int) -> None:
    """Raise SpecError unless a token can visit ``top_k`` different experts."""
    if top_k > n_experts:
        raise SpecError(f"{c.where}: a token cannot visit {top_k} of {n_experts} experts")
