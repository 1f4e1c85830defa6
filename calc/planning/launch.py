"""The command line that starts an engine with a planned deployment."""

from calc.specs.deployment import Deployment
from calc.specs.engine import load_engine
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.specs.model_files import load_model

_VLLM_ON_THE_FLY = {"fp8": "fp8", "fp8-block": "fp8"}


def launch_command(deployment: Deployment, model: Model | str, engine: str | None = None,
                   context_tokens: int | None = None) -> str:  # fmt: skip
    """Return the command that serves a model with a deployment.

    Parameters
    ----------
    deployment : Deployment
    model : Model or str
    engine : str, optional
        Engine id; the deployment's own when not given.
    context_tokens : int, optional
        Longest request, prompt and output together. [tokens]

    Raises
    ------
    SpecError
        If the engine has no server command, or no option for a kind of parallelism.

    Examples
    --------
    >>> print(launch_command(Deployment(tp=2, weight_dtype="fp8"), "llama-3.1-8b", context_tokens=4096))
    vllm serve meta-llama/Meta-Llama-3.1-8B --tensor-parallel-size 2 --quantization fp8 --max-model-len 4096
    """
    model, name = load_model(model), engine or deployment.engine
    load_engine(name)
    if name not in _COMMANDS:
        raise SpecError(f"engine: {name!r} has no server command here; allowed are {', '.join(_COMMANDS)}")
    _check_ranks(deployment, name)
    hub_name = next((alias for alias in model.aliases if "/" in alias), model.path or model.id)
    return " ".join(_COMMANDS[name](deployment, model, hub_name, context_tokens))


def _check_ranks(d: Deployment, engine: str) -> None:
    """Raise SpecError for parallelism that no option of the engine's command stands for."""
    for name in ("pp", "dp", "ep", "cp"):
        if getattr(d, name) > 1 and name not in _RANKS[engine]:
            raise SpecError(f"{name}: {getattr(d, name)}: no option of {engine} is known here; allowed is 1")
    if engine == "vllm" and d.ep not in (1, d.tp * d.dp):
        raise SpecError(f"ep: {d.ep}: vllm spreads experts over tp * dp; allowed are 1 and {d.tp * d.dp}")


def _options(sizes: dict) -> list[str]:
    """Options of those sizes that are above 1."""
    return [f"{option} {size}" for option, size in sizes.items() if size > 1]


def _vllm(deployment, model, hub_name, context_tokens):
    d, words = deployment, ["vllm serve", hub_name]
    words += _options({
        "--tensor-parallel-size": d.tp, "--pipeline-parallel-size": d.pp, "--data-parallel-size": d.dp,
        "--decode-context-parallel-size": d.cp,
    })  # fmt: skip
    if d.ep > 1:
        words.append("--enable-expert-parallel")
    wanted = deployment.weight_dtype
    if wanted and wanted != model.checkpoint.weight_dtype:
        if wanted in _VLLM_ON_THE_FLY:
            words.append(f"--quantization {_VLLM_ON_THE_FLY[wanted]}")
        elif wanted in ("bf16", "fp16", "fp32"):
            words.append(f"--dtype { {'bf16': 'bfloat16', 'fp16': 'float16', 'fp32': 'float32'}[wanted] }")
    if deployment.kv_dtype in ("fp8", "int8"):
        words.append("--kv-cache-dtype fp8")
    if context_tokens:
        words.append(f"--max-model-len {context_tokens}")
    if deployment.memory_utilization is not None:
        words.append(f"--gpu-memory-utilization {deployment.memory_utilization:g}")
    if deployment.max_sequences:
        words.append(f"--max-num-seqs {deployment.max_sequences}")
    if deployment.max_batched_tokens:
        words.append(f"--max-num-batched-tokens {deployment.max_batched_tokens}")
    return words


def _sglang(deployment, model, hub_name, context_tokens):
    d, words = deployment, ["python -m sglang.launch_server --model-path", hub_name]
    meets = d.dp > 1 and model.is_moe  # data ranks for attention alone: tp counts all of a stage's devices
    words += _options({"--tp": d.tp * d.dp if meets else d.tp, "--pp-size": d.pp, "--dp-size": d.dp})
    words += ["--enable-dp-attention"] if meets else []
    words += _options({"--ep-size": d.ep})
    wanted = deployment.weight_dtype
    if wanted and wanted != model.checkpoint.weight_dtype and wanted in _VLLM_ON_THE_FLY:
        words.append("--quantization fp8")
    if deployment.kv_dtype in ("fp8", "int8"):
        words.append("--kv-cache-dtype fp8_e4m3")
    if context_tokens:
        words.append(f"--context-length {context_tokens}")
    if deployment.memory_utilization is not None:
        words.append(f"--mem-fraction-static {deployment.memory_utilization:g}")
    return words


def _tensorrt_llm(deployment, model, hub_name, context_tokens):
    words = ["trtllm-serve", hub_name]
    words += _options({"--tp_size": deployment.tp, "--pp_size": deployment.pp, "--ep_size": deployment.ep})
    if context_tokens:
        words.append(f"--max_seq_len {context_tokens}")
    if deployment.memory_utilization is not None:
        words.append(f"--kv_cache_free_gpu_memory_fraction {deployment.memory_utilization:g}")
    if deployment.max_sequences:
        words.append(f"--max_batch_size {deployment.max_sequences}")
    return words


def _llama_cpp(deployment, model, hub_name, context_tokens):
    words = ["llama-server -hf", hub_name]
    if context_tokens:
        words.append(f"-c {context_tokens}")
    return words


#: parallelism beyond tp that a server command has options for
_RANKS = {
    "vllm": ("pp", "dp", "ep", "cp"), "sglang": ("pp", "dp", "ep"), "tensorrt-llm": ("pp", "ep"),
    "llama.cpp": (),
}  # fmt: skip
_COMMANDS = {"vllm": _vllm, "sglang": _sglang, "tensorrt-llm": _tensorrt_llm, "llama.cpp": _llama_cpp}
