"""Limits of the engines that trtllm-bench builds, by version."""

import pytest

import calc
from validate.runs.bench_limits import DEFAULT, fixed_limits, tuned_limits
from validate.runs.scenario import scenario_of

MAX_LOAD = {
    "group": "trtllm_maxload", "engine": "tensorrt-llm", "mode": "max_load", "concurrency": "",
    "kv_dtype": "fp8", "metric": "output_tokens_per_s",
}  # fmt: skip


def limits(run, **changes):
    found = scenario_of(run(**{**MAX_LOAD, **changes})).deployment
    return found.max_sequences, found.max_batched_tokens


def test_early_versions_take_limits_from_a_table_by_model_and_ranks(run):
    eight = {"engine_version": "v0.14 (2024-11)", "tp": 8, "n_devices": 8}
    assert limits(run, **eight) == (8192, 16384)
    assert limits(run, **eight, model="meta-llama/Llama-3.1-405B") == DEFAULT


def test_a_length_of_its_own_in_the_table_comes_first():
    assert fixed_limits("meta-llama/Llama-2-70b-hf", 8, 2176) == (1024, 16384)
    assert fixed_limits("meta-llama/Llama-2-70b-hf", 8, 4096) == (8192, 16384)


def test_later_versions_limit_a_step_to_what_memory_holds(run):
    """70B in fp8 on two H100: 95 % of what 70.55 GB of weights leave; from 256 on in steps of 128."""
    two = {"tp": 2, "n_devices": 2, "prompt_tokens": 128, "output_tokens": 2048}
    memory = calc.load_device("h100-sxm").memory_bytes
    fitting = 0.95 * (2 * memory - 70.55e9) / (163840 * 2176)
    assert fitting == pytest.approx(265, abs=1)
    assert limits(run, **two, engine_version="0.17") == (384, 2048)


@pytest.mark.parametrize("most", [1, 40, 200, 300, 900, 1500, 4096])
def test_tuned_limits_hold_what_fits(most):
    sequences, tokens = tuned_limits(most, 1000, 1000)
    assert sequences >= most
    assert tokens >= 2 * most
    assert sequences % 32 == 0
    assert tokens % 256 == 0
