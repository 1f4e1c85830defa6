"""Parameters of a model: per module class, in total and active per token."""

from functools import lru_cache

from calc.specs.model import Layer, Model, Weight
from calc.work.attention import attention
from calc.work.feedforward import feedforward


@lru_cache(maxsize=4096)
def layer_weights(layer: Layer) -> tuple[Weight, ...]:
    """Return the weights of one layer: attention, feed-forward, norms.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> len(layer_weights(load_model("llama-3.1-8b").layers[0]))
    9
    """
    weights: tuple[Weight, ...] = ()
    if layer.attention:
        weights += attention(layer.attention).parameters()
    if layer.feedforward:
        weights += feedforward(layer.feedforward).parameters()
    return weights + layer.norms


def weights(model: Model) -> list[tuple[Weight, int]]:
    """Return every weight of a model with how often it occurs.

    Next-token prediction layers are left out, see ``mtp_weights``. Buffers that a
    checkpoint also stores (a router's score correction) are no parameters and not listed.

    Parameters
    ----------
    model : Model

    Returns
    -------
    list of (Weight, int)
        Weights outside of the layers once, those of equal layers together, an encoder's too.
    """
    rows = [(weight, 1) for weight in model.outer]
    for layer, count in (*model.distinct_layers, *model.distinct_encoder_layers):
        rows += [(weight, count) for weight in layer_weights(layer)]
    return rows


def mtp_weights(model: Model) -> list[tuple[Weight, int]]:
    """Return the weights of the next-token prediction layers a checkpoint may carry.

    Copies of embedding and lm_head are among them where the checkpoint stores such; an
    engine shares these with the main model.
    """
    rows = [(weight, 1) for weight in model.mtp_outer]
    for layer in model.mtp:
        rows += [(weight, 1) for weight in layer_weights(layer)]
    return rows


def parameter_counts(model: Model) -> dict[str, int]:
    """Return the number of parameters of each module class. [parameters]

    Tied embeddings count once, as ``"embedding"``; next-token layers are left out.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> counts = parameter_counts(load_model("llama-3.1-8b"))
    >>> counts["attention"], counts["feedforward"], counts["embedding"], counts["lm_head"]
    (1342177280, 5637144576, 525336576, 525336576)
    """
    return _by_role(weights(model))


def mtp_parameters(model: Model) -> int:
    """Return the number of parameters of the next-token prediction layers. [parameters]

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> print(f"{mtp_parameters(load_model('deepseek-v3')):,}")
    13,463,426,048
    """
    return sum(weight.parameters * count for weight, count in mtp_weights(model))


def total_parameters(model: Model) -> int:
    """Return the number of parameters, next-token prediction layers left out. [parameters]

    Parameters
    ----------
    model : Model

    Returns
    -------
    int
        What the main model holds; tied embeddings once, vision tower included.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> print(f"{total_parameters(load_model('llama-3.1-70b')):,}")
    70,553,706,496
    """
    return sum(weight.parameters * count for weight, count in weights(model))


def active_parameters(model: Model, with_embedding: bool = True) -> int:
    """Return the number of parameters that one token visits. [parameters]

    Total minus the routed experts that a token does not visit.

    Parameters
    ----------
    model : Model
    with_embedding : bool
        Published figures differ: with False the input embedding, of which a token reads
        one row, is left out (gpt-oss-120b: 5.71 or 5.13 billion). A tied embedding stays,
        being the lm_head. Position tables are input embeddings too.

    Examples
    --------
    >>> from calc.specs.model_files import load_model
    >>> model = load_model("gpt-oss-120b")
    >>> active_parameters(model) / 1e9, active_parameters(model, with_embedding=False) / 1e9
    (5.712, 5.133)
    """
    active = sum(weight.active_parameters * count for weight, count in weights(model))
    return active if with_embedding else active - _input_embedding(model)


def _input_embedding(model: Model) -> int:
    head = "embed_tokens" if model.tied_embeddings else None
    return sum(table.parameters for table in model.outer if table.role == "embedding" and table.name != head)


def _by_role(rows: list[tuple[Weight, int]]) -> dict[str, int]:
    totals: dict[str, int] = {}
    for weight, count in rows:
        totals[weight.role] = totals.get(weight.role, 0) + weight.parameters * count
    return totals
