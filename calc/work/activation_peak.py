"""Activation peak that an engine sets aside before it gives memory to the cache."""

from calc.specs.deployment import Deployment
from calc.specs.engine import Engine
from calc.specs.model import Model
from calc.specs.numeric import maximum
from calc.specs.workload import Workload
from calc.work.op import Precision


def activation_peak_bytes(
    fixed_bytes, bytes_per_logit, sequences, vocab_size, token_copies=0, batched_tokens=0, width=0
):
    """Activation peak that an engine sets aside. [byte]

    The sampler's logits, plus copies of the activations of one step in 16 bits, plus a
    fixed part.

    Examples
    --------
    vLLM 0.19 with Llama-3.1-8B logs 1.89 GiB:

    >>> print(f"{activation_peak_bytes(0.12 * 2**30, 14, 1024, 128256, 1, 8192, 4096) / 2**30:.2f} GiB")
    1.89 GiB
    """
    return fixed_bytes + bytes_per_logit * sequences * vocab_size + 2 * token_copies * batched_tokens * width


def moe_workspace_width(model: Model, tp=1):
    """Elements per token that the routed experts' kernels keep beside the hidden state.

    Two buffers hold, for each of ``top_k`` experts of a token, gate and up projection or
    output (the wider), and the product of gate and up. 4-bit kernels with their own
    buffers are not meant.
    """
    widths = [0]
    for layer, _ in model.distinct_layers:
        part = layer.feedforward
        if part is not None and part.kind == "moe":
            widths.append(routed_width(part["top_k"], part["d_expert"], part["d_model"], tp))
    return maximum(*widths)


def routed_width(top_k, d_expert, d_model, tp=1):
    """Elements per token that the routed experts of one layer keep beside the hidden state. [count]

    Examples
    --------
    Mixtral-8x7B on four devices:

    >>> routed_width(2, 14336, 4096, 4)
    21504.0
    """
    inner = d_expert / tp
    return top_k * (maximum(2 * inner, d_model) + inner)


def stage_activation_bytes(stage: Model, d: Deployment, load: Workload, engine: Engine, precision: Precision):
    """Activation peak of one device of a pipeline stage. [byte]"""
    if d.pp > 1 and engine.activation_pipeline:
        return engine.activation_pipeline
    peak = activation_peak_bytes(
        engine.activation_fixed, engine.activation_per_logit, d.max_sequences or engine.max_sequences,
        stage.vocab_size, engine.activation_token_copies,
        profiled_tokens(d, load, engine), activation_width(stage, d, engine, precision),
    )  # fmt: skip
    return peak + vision_peak_bytes(stage, engine)


def profiled_tokens(d: Deployment, load: Workload, engine: Engine):
    """Tokens of the step with which an engine finds its activation peak. [tokens]

    The token budget of a step; without one (vLLM V0) the longest request.
    """
    batched = d.max_batched_tokens or engine.max_batched_tokens
    longest = (
        d.max_context_tokens if d.max_context_tokens is not None else load.prompt_tokens + load.output_tokens
    )
    return batched or longest


def activation_width(stage: Model, d: Deployment, engine: Engine, precision: Precision):
    """Elements per token in one copy of a step's activations, the experts' workspace included."""
    width = stage.d_model
    if engine.activation_ff:
        width = width + engine.activation_ff * widest_feedforward(stage) / d.tp
    if precision.bits["expert"] > 4.5:  # 4-bit expert kernels bring buffers of their own
        width = width + moe_workspace_width(stage, d.tp * d.dp / d.ep)
    return width


def widest_feedforward(model: Model) -> int:
    """Width of the widest dense feed-forward, 0 where there is none."""
    parts = [layer.feedforward for layer, _ in model.distinct_layers if layer.feedforward]
    return max((part["d_ff"] for part in parts if part.kind == "dense"), default=0)


def vision_peak_bytes(stage: Model, engine: Engine):
    """Extra activation peak of a stage that holds a vision tower. [byte]"""
    towers = any(weight.role == "vision" for weight in stage.outer)
    return engine.activation_vision if towers else 0.0
