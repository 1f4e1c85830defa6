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
    "does not fit": ("llama-3.1-70b", "h100-sxm", {}, {"concurrency": 8}),
    "links to single peers": ("llama-3.1-70b", "mi300x", {"tp": 4}, {"concurrency": 64}),
    "a collective that takes longest": (
        "llama-3.1-8b", "l40s", {"tp": 8}, {"concurrency": 1, "prompt_tokens": 8000},
    ),
    "no price": ("llama-3.1-8b", "rtx-3090", {}, {"concurrency": 4}),
}  # fmt: skip


@pytest.fixture(params=SCENARIOS, scope="session")
def estimate(request):
    model, device, deployment, load = SCENARIOS[request.param]
    return calc.estimate(model, device, calc.Deployment(**deployment), calc.Workload(**load))


@pytest.fixture(scope="session")
def own_price():
    return calc.estimate("llama-3.1-8b", "rtx-3090", usd_per_device_hour=0.5)
