"""Limits of the engines that trtllm-bench builds: how TensorRT-LLM's performance pages were measured."""

from math import ceil

from calc.specs.device import Device
from calc.specs.engine import covers
from calc.specs.model import Model
from calc.work.memory import cache_bytes_per_token
from calc.work.parameters import total_parameters
from validate.runs.table import Run, version_of

#: how versions from 0.15 on choose limits
TUNING = "https://github.com/NVIDIA/TensorRT-LLM/blob/main/tensorrt_llm/bench/build/tuning.py"
#: the table of earlier ones
TABLE = "https://github.com/NVIDIA/TensorRT-LLM/blob/8fcf9fc2/tensorrt_llm/bench/build/benchmark_config.yml"

#: sequences and tokens of a step where the table says nothing
DEFAULT = (2048, 8192)
#: the table that trtllm-bench of 0.14 shipped, so that rows of its other models are answered too:
#: part of the model's name -> tensor parallel size, or with it the length of a sequence -> limits
FIXED = {
    "Llama-2-7b": {1: (4096, 8192)},
    "Llama-2-70b": {
        2: (2048, 2048),
        4: (4096, 8192),
        (4, 4224): (256, 8192),
        8: (8192, 16384),
        (8, 2176): (1024, 16384),
    },
    "falcon-180B": {4: (4096, 8192), 8: (2048, 8192)},
    "gpt-j-6b": {1: (128, 2048), (1, 256): (2048, 2048)},
    # as Llama-3: the table of 0.14 itself was not seen. Assumed from rows: half the sequences on one device
    # (as many as the table says would not fit), 4096 tokens on two and four (it says 1024)
    "Llama-3.1-70B": {
        1: (1024, 2048),
        2: (256, 4096),
        (2, 4096): (2048, 4096),
        4: (2048, 4096),
        8: (8192, 16384),
    },
    "Llama-3.1-8B": {1: (2048, 8192)},
    "Mixtral-8x7B": {2: (2048, 3072), 4: (8192, 8192)},
    "Mistral-7B": {1: (4098, 8192)},
}


def engine_limits(run: Run, model: Model, device: Device) -> tuple[int, int]:
    """Return the most sequences and tokens of a step of a run's engine."""
    version = version_of(run)
    if version and covers("<0.15", version):
        return fixed_limits(run.model, run.tp, run.prompt_tokens + run.output_tokens)
    bits = {"fp8": 8, "nvfp4": 4, "fp4": 4}.get(run.weight_dtype, 16)
    cache = 1 if run.kv_dtype == "fp8" or bits < 16 else 2
    weights = total_parameters(model) * bits / 8
    free = 0.95 * (device.memory_bytes * run.n_devices - weights)
    length = run.prompt_tokens + run.output_tokens
    each = float(cache_bytes_per_token(model, cache, run.tp)) * run.tp * length
    most = max(1.0, min(free / each, 4096) / run.pp)
    sequences, tokens = tuned_limits(most, run.prompt_tokens, run.output_tokens)
    return sequences * run.pp, max(tokens, run.prompt_tokens)


def fixed_limits(model: str, tp: int, length_tokens: int) -> tuple[int, int]:
    """Return the limits that trtllm-bench before 0.15 has for a model in its table, else its default.

    Examples
    --------
    >>> fixed_limits("EleutherAI/gpt-j-6b", 1, 256), fixed_limits("EleutherAI/gpt-j-6b", 1, 2176)
    ((2048, 2048), (128, 2048))
    """
    found = next((rows for name, rows in FIXED.items() if name.lower() in model.lower()), {})
    return found.get((tp, length_tokens)) or found.get(tp) or DEFAULT


def tuned_limits(most: float, prompt_tokens: int, output_tokens: int) -> tuple[int, int]:
    """Return the limits that trtllm-bench from 0.15 on chooses where ``most`` requests fit.

    Examples
    --------
    >>> tuned_limits(664, 128, 2048), tuned_limits(28, 2048, 128), tuned_limits(1700, 1000, 1000)
    ((768, 2048), (64, 2048), (1792, 3584))
    """
    step = 32 if most < 256 else 128 if most < 1024 else 256
    tokens = min(most * (1 + prompt_tokens / output_tokens), 32768)
    token_step = 256 if tokens < 4096 else 512 if tokens < 8192 else 1024
    return max(64, round_up(most, step)), max(2048, round_up(tokens, token_step))


def round_up(number: float, step: int) -> int:
    """Round up to a multiple.

    Examples
    --------
    >>> round_up(33, 32)
    64
    """
    return step * ceil(number / step)
