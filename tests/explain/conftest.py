"""Scenarios that the explanations are tested on: one of each kind of model, load and trouble."""

import pytest

import calc

SCENARIOS = {
    "dense": ("llama-3.1-8b", "h100-sxm", {}, {"concurrency": 64}),
    "dense on four devices": ("llama-3.1-70b", "h100-sxm", {"tp": 4}, {"concurrency": 64}),
    "one request, one token": ("llama-3.1-8b", "h100-sxm", {}, {"concurrency": 1, "output_tokens": 1}),
    "fp8 on a device that computes it in bf16": (
        "llama-3.1-70b", "a100-sxm-80gb",
        {"tp": 4, "weight_dtype": "fp8", "kv_dtype": "fp8"}, {"concurrency": 9},
    ),
    "experts": ("mixtral-8x7b", "h100-sxm", {"tp": 4}, {"concurrency": 32}),
    "latent attention and experts": ("deepseek-v3", "h200-sxm", {"tp": 8}, {"concurrency": 16}),
    "windows": ("gemma-3-27b", "h100-sxm", {}, {"concurrency": 4, "prompt_tokens": 5000}),
    "states and experts": ("qwen3-next-80b-a3b", "h100-sxm", {"tp": 4}, {"concurrency": 8}),
    "static batch": ("llama-3.1-8b", "h100-sxm", {}, {"mode": "static", "concurrency": 16}),
    "most load": ("llama-3.1-8b", "h100-sxm", {}, {"mode": "max_load"}),
    "a queue for memory": ("llama-3.1-8b", "l4", {}, {"concurrency": 500}),
    "long prompts in small chunks": (
        "llama-3.1-8b", "h100-sxm",
        {"max_batched_tokens": 512, "memory_utilization": 0.8, "max_sequences": 100},
        {"concurrency": 30, "prompt_tokens": 9000},
    ),
    "pipeline stages": ("llama-3.1-70b", "h100-sxm", {"tp": 2, "pp": 2}, {"concurrency": 30}),
    "a static batch in a pipeline": (
        "llama-3.1-70b", "h100-sxm", {"tp": 2, "pp": 4}, {"mode": "static", "concurrency": 9},
    ),
    "data ranks and experts on all": (
        "deepseek-v3", "h200-sxm", {"tp": 1, "dp": 8, "ep": 8}, {"concurrency": 100, "expert_skew": 0.5},
    ),
    "data ranks of a dense model": ("llama-3.1-8b", "h100-sxm", {"dp": 4}, {"concurrency": 64}),
    "fewer requests than batches": ("mixtral-8x7b", "h100-sxm", {"tp": 2, "dp": 2, "pp": 2, "ep": 4}, {}),
    "context ranks": ("deepseek-v3", "h200-sxm", {"tp": 8, "cp": 4}, {"prompt_tokens": 30_001}),
    "windows in pipeline stages": (
        "gemma-3-27b", "h100-sxm", {"pp": 2, "tp": 2}, {"concurrency": 12, "prompt_tokens": 3000},
    ),
    "latent attention over two nodes in sglang": (
        "deepseek-v3", "h100-sxm", {"engine": "sglang", "tp": 8, "pp": 2, "ep": 8}, {"concurrency": 64},
    ),
    "several sequences per request": (
        "llama-3.1-8b", "h100-sxm", {"dp": 2}, {"concurrency": 32, "sequences_per_request": 4},
    ),
    "states of several sequences, a shared prefix": (
        "qwen3-next-80b-a3b", "h100-sxm", {"tp": 4},
        {"concurrency": 8, "sequences_per_request": 2, "shared_prefix_tokens": 600},
    ),
    "a static batch of beams, windows": (
        "gemma-3-27b", "h200-sxm", {}, {"mode": "static", "concurrency": 3, "sequences_per_request": 8},
    ),
    "a shared prefix": ("llama-3.1-8b", "h100-sxm", {}, {"concurrency": 32, "shared_prefix_tokens": 700}),
    "a prefix that is the whole prompt, in chunks": (
        "mixtral-8x7b", "h100-sxm", {"tp": 4, "pp": 2, "engine": "sglang"},
        {"concurrency": 50, "prompt_tokens": 20_000, "shared_prefix_tokens": 20_000},
    ),
    "a static batch with a shared prefix": (
        "llama-3.1-8b", "h100-sxm", {}, {"mode": "static", "concurrency": 4, "shared_prefix_tokens": 1000},
    ),
    "a draft model": (
        "llama-3.1-70b", "h100-sxm",
        {"tp": 4, "speculation": calc.Speculation("draft", 4, 0.7, "llama-3.2-1b")}, {"concurrency": 16},
    ),
    "a head that drafts, pipeline stages": (
        "gemma-3-27b", "h200-sxm", {"tp": 2, "pp": 2, "speculation": calc.Speculation("eagle", 3, 0.6)},
        {"concurrency": 24, "sequences_per_request": 2, "shared_prefix_tokens": 300},
    ),
    "next-token layers on data ranks": (
        "deepseek-v3", "h200-sxm",
        {"tp": 1, "dp": 8, "ep": 8, "speculation": calc.Speculation("mtp", 1, 0.85)}, {"concurrency": 64},
    ),
    "an n-gram whose matches are all kept": (
        "llama-3.1-8b", "h100-sxm", {"speculation": calc.Speculation("ngram", 5, 1.0)}, {"mode": "max_load"},
    ),
    "a static batch with drafts": (
        "llama-3.1-8b", "h100-sxm", {"tp": 2, "speculation": calc.Speculation("eagle", 3, 0.6)},
        {"mode": "static", "concurrency": 4, "sequences_per_request": 3},
    ),
    "an open loop": (
        "llama-3.1-8b", "h100-sxm", {},
        {"requests_per_s": 8.0, "prompt_lengths": "lognormal", "output_lengths": "geometric"},
    ),
    "an open loop that is nearly idle, beams": (
        "gemma-3-27b", "h200-sxm", {}, {"requests_per_s": 0.01, "sequences_per_request": 4},
    ),
    "an open loop on data ranks of stages, prompts first": (
        "mixtral-8x7b", "h100-sxm", {"tp": 2, "dp": 2, "pp": 2, "ep": 4, "engine": "sglang"},
        {"requests_per_s": 5.0, "output_tokens": 100},
    ),
    "an open loop that waits for memory": (
        "llama-3.1-8b", "l4", {}, {"requests_per_s": 0.1, "prompt_tokens": 3000, "output_tokens": 500},
    ),
    "does not fit": ("llama-3.1-70b", "h100-sxm", {}, {"concurrency": 8}),
    "links to single peers": ("llama-3.1-70b", "mi300x", {"tp": 4}, {"concurrency": 64}),
    "a collective that takes longest": (
        "llama-3.1-8b", "l40s", {"tp": 8}, {"concurrency": 1, "prompt_tokens": 8000},
    ),
    "no price": ("llama-3.1-8b", "rtx-3090", {}, {"concurrency": 4}),
    "experts' workspace, an older engine": (
        "qwen3-30b-a3b", "h100-sxm", {"tp": 2, "engine_version": "0.11.0"}, {"concurrency": 20},
    ),
    "an engine between": ("qwen3-30b-a3b", "h100-sxm", {"engine_version": "0.17.1"}, {"concurrency": 20}),
    "chunks, a tower and experts": ("llama-4-scout", "h200-sxm", {"tp": 4}, {"prompt_tokens": 20000}),
    "sliding windows and 4-bit experts": ("gpt-oss-120b", "h100-sxm", {}, {"concurrency": 64}),
    "adapters": ("llama-3.1-8b", "h100-sxm", {"lora_slots": 8, "lora_rank": 64}, {"concurrency": 16}),
    "windows in sglang": ("gemma-3-27b", "h100-sxm", {"engine": "sglang", "tp": 2}, {"concurrency": 8}),
    "latent attention in sglang": (
        "deepseek-v3", "h200-sxm", {"engine": "sglang", "tp": 8, "kv_dtype": "fp8"}, {"concurrency": 30},
    ),
    "a share of free memory": (
        "llama-3.1-70b", "h100-sxm",
        {"engine": "tensorrt-llm", "tp": 4, "weight_dtype": "fp8"},
        {"concurrency": 50, "prompt_tokens": 1000},
    ),
    "a share of free memory, states": (
        "qwen3-next-80b-a3b", "h200-sxm", {"engine": "tensorrt-llm", "tp": 2, "memory_utilization": 0.8}, {},
    ),
    "no free memory": ("llama-3.1-70b", "h100-sxm", {"engine": "tensorrt-llm"}, {}),
    "a static batch with a share of its own": (
        "llama-3.1-8b", "h100-sxm", {"engine": "tensorrt-llm", "memory_utilization": 0.5},
        {"mode": "static", "concurrency": 64},
    ),
    "a static batch of llama.cpp": (
        "llama-3.1-8b", "rtx-3090", {"engine": "llama.cpp", "weight_dtype": "q4_k_m"},
        {"mode": "static", "concurrency": 2},
    ),
    "llama.cpp": ("gemma-2-9b", "rtx-3090", {"engine": "llama.cpp"}, {"prompt_tokens": 6001}),
    "gpt-fast": ("llama-2-7b", "a100-sxm-80gb", {"engine": "gpt-fast", "weight_dtype": "int8"}, {}),
    "transformers": (
        "mistral-7b-v0.1", "a100-sxm-80gb", {"engine": "transformers"}, {"mode": "static", "concurrency": 8},
    ),
}  # fmt: skip


@pytest.fixture(params=SCENARIOS, scope="session")
def estimate(request):
    model, device, deployment, load = SCENARIOS[request.param]
    return calc.estimate(model, device, calc.Deployment(**deployment), calc.Workload(**load))


@pytest.fixture(scope="session")
def own_price():
    return calc.estimate("llama-3.1-8b", "rtx-3090", usd_per_device_hour=0.5)
