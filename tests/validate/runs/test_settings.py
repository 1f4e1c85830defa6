"""What published benchmarks set beside what their rows say."""

import pytest

import calc
from validate.runs.inferencex import held_steps
from validate.runs.scenario import scenario_of
from validate.runs.settings import ACCEPTANCE

B200 = {"group": "inferencex", "device": "b200-sxm", "n_devices": 8, "tp": 8, "output_tokens": 1024}
R1 = {**B200, "model": "deepseek-ai/DeepSeek-R1"}
TRT = {**R1, "engine": "tensorrt-llm", "concurrency": 32}


def deployment(run, **changes):
    return scenario_of(run(**changes)).deployment


@pytest.mark.parametrize(
    ("version", "day", "drafts"),
    [
        ("1.2.0rc6.post3", "2026-02-05", 3),  # dsr1-fp8-b200-trt-mtp
        ("1.2.0rc6.post2", "2026-01-29", 0),  # dsr1-fp8-b200-trt
        ("1.1.0rc2.post2", "2026-01-14", 3),  # the day that drafts came
        ("1.1.0rc2.post2", "2025-12-15", 0),
    ],
)
def test_version_and_day_tell_whether_deepseek_r1_was_run_with_drafts(run, version, day, drafts):
    found = deployment(run, **TRT, engine_version=version, notes=f"measured {day}; x").speculation
    expected = calc.Speculation("mtp", drafts, ACCEPTANCE) if drafts else None
    assert found == expected


def test_ranks_of_attention_data_draft_one_token(run):
    ranks = {**TRT, "tp": 1, "dp": 8, "ep": 8, "engine_version": "1.2.0rc6.post3"}
    assert deployment(run, **ranks).speculation.draft_tokens == 1


@pytest.mark.parametrize(("concurrency", "drafts"), [(64, 0), (128, 2)])
def test_cells_that_were_run_both_ways_count_as_run_without_drafts(run, concurrency, drafts):
    cell = {**R1, "engine": "sglang", "engine_version": "0.5.9", "concurrency": concurrency}
    found = deployment(run, **cell).speculation
    assert (found.draft_tokens if found else 0) == drafts


def test_rows_of_other_sources_have_no_settings(run):
    own = {**TRT, "group": "own", "engine_version": "1.2.0rc6.post3"}
    found = deployment(run, **own)
    assert (found.speculation, found.max_batched_tokens, found.hold_steps) == (None, None, 0)


def test_launch_scripts_say_how_many_tokens_a_step_may_have(run):
    """TensorRT-LLM: 8192 or prompt, requests and 64, to the next 64; with drafts just that."""
    assert deployment(run, **TRT, engine_version="1.2.0rc6.post2").max_batched_tokens == 8192
    long = {**TRT, "prompt_tokens": 8192, "engine_version": "1.2.0rc6.post2"}
    assert deployment(run, **long).max_batched_tokens == 8320  # 8192 + 32 + 64 = 8288
    drafted = deployment(run, **TRT, engine_version="1.2.0rc6.post3")
    assert drafted.max_batched_tokens == 1216  # 4 * 32 + 1024 + 64
    early = deployment(run, **TRT, engine_version="1.1.0rc2.post2", notes="measured 2025-12-15; x")
    assert early.max_batched_tokens == 1152  # 1024 + 32 + 64 = 1120, no least then


@pytest.mark.parametrize(
    ("engine", "device", "model", "weights", "cache"),
    [
        ("vllm", "h100-sxm", "meta-llama/Llama-3.1-70B", "fp8", "fp8"),
        ("vllm", "b200-sxm", "openai/gpt-oss-120b", "mxfp4", "fp8"),
        ("vllm", "h100-sxm", "openai/gpt-oss-120b", "mxfp4", None),
        ("sglang", "b200-sxm", "Qwen/Qwen3.5-397B-A17B", "bf16", None),
        ("sglang", "b200-sxm", "Qwen/Qwen3.5-397B-A17B", "fp8", "fp8"),
        ("tensorrt-llm", "b200-sxm", "openai/gpt-oss-120b", "mxfp4", "fp8"),
    ],
)
def test_launch_scripts_say_the_format_of_the_cache(run, engine, device, model, weights, cache):
    row = {**B200, "engine": engine, "engine_version": "", "device": device, "model": model}
    assert deployment(run, **row, weight_dtype=weights).kv_dtype == cache


def test_launch_scripts_say_how_long_requests_are_held(run):
    sglang = {**R1, "engine": "sglang", "engine_version": "0.5.9", "notes": "measured 2026-03-25; x"}
    assert deployment(run, **sglang, concurrency=8).hold_steps == 5
    assert deployment(run, **sglang, concurrency=16).hold_steps == 15
    llama = {**B200, "engine": "tensorrt-llm", "engine_version": "", "model": "meta-llama/Llama-3.1-70B"}
    four = {**llama, "tp": 4, "n_devices": 4, "concurrency": 4}
    assert deployment(run, **four).hold_steps == pytest.approx(held_steps(20, 4, 1024))
    assert deployment(run, **llama).hold_steps == 0  # tp 8 runs without


def test_requests_that_come_while_others_are_held_wait_less():
    """Every step a request: the first waits 10 steps, ten more 5 on average."""
    assert held_steps(10, 2, 1) == pytest.approx((10 + 10 * 5) / 11)
    assert held_steps(10, 1, 1000) == 10


@pytest.mark.parametrize(
    ("model", "weights", "tp", "tokens"),
    [
        ("deepseek-ai/DeepSeek-R1", "nvfp4", 8, 16384),
        ("deepseek-ai/DeepSeek-R1", "fp8", 8, 32768),
        ("deepseek-ai/DeepSeek-R1", "fp8", 4, 8192),
        ("Qwen/Qwen3.5-397B-A17B", "fp8", 8, 32768),
    ],
)
def test_chunks_of_sglang_are_those_of_the_script_of_model_and_format(run, model, weights, tp, tokens):
    row = {**B200, "engine": "sglang", "engine_version": "0.5.9", "model": model, "tp": tp, "n_devices": tp}
    assert deployment(run, **row, weight_dtype=weights, concurrency=4).max_batched_tokens == tokens


@pytest.mark.parametrize(
    ("changes", "split"),
    [
        ({"weight_dtype": "nvfp4", "concurrency": 8}, (8, 1, 1)),
        ({"weight_dtype": "nvfp4", "concurrency": 16}, (8, 8, 1)),  # experts above 8
        ({"weight_dtype": "nvfp4", "concurrency": 256}, (1, 8, 8)),  # attention too from 256
        ({"weight_dtype": "nvfp4", "concurrency": 64, "prompt_tokens": 8192}, (1, 8, 8)),
        ({"weight_dtype": "fp8", "concurrency": 32}, (8, 8, 1)),
        ({"weight_dtype": "fp8", "concurrency": 64}, (1, 8, 8)),
        ({"model": "openai/gpt-oss-120b", "weight_dtype": "mxfp4", "concurrency": 128}, (8, 1, 1)),
        ({"model": "openai/gpt-oss-120b", "weight_dtype": "mxfp4", "concurrency": 256}, (1, 8, 8)),
    ],
)
def test_scripts_of_tensorrt_llm_chose_what_was_spread_until_november_2025(run, changes, split):
    """From the conditions of dsr1_fp4_b200_trt_slurm.sh and its sisters: (tp, ep, dp)."""
    row = {**TRT, "engine_version": "", "prompt_tokens": 1024, **changes}
    found = deployment(run, **row, notes="measured 2025-11-02; x")
    assert (found.tp, found.ep, found.dp) == split
    later = deployment(run, **row, notes="measured 2025-11-17; x")
    assert (later.tp, later.ep, later.dp) == (8, 1, 1), "search spaces say it from then on"


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"engine_version": "1.1.0rc2.post2"}, 0.8),
        ({"weight_dtype": "fp8", "tp": 4, "n_devices": 4, "prompt_tokens": 8192}, 0.75),
        ({"weight_dtype": "fp8", "prompt_tokens": 8192}, 0.8),
        ({"model": "openai/gpt-oss-120b", "weight_dtype": "mxfp4"}, 0.85),
        ({"engine": "sglang", "weight_dtype": "nvfp4"}, 0.85),
        ({"engine": "sglang", "weight_dtype": "fp8"}, 0.82),
        ({"engine": "vllm", "model": "openai/gpt-oss-120b", "weight_dtype": "mxfp4"}, 0.9),
    ],
)
def test_launch_scripts_say_the_share_of_memory(run, changes, share):
    row = {**TRT, "engine_version": "1.2.0rc6.post2", "notes": "measured 2026-01-29; x", **changes}
    assert deployment(run, **row).memory_utilization == share


def test_servers_are_warmed_up_before_they_are_measured_from_2026_01_22(run):
    for day, warm in (("2026-01-21", False), ("2026-01-22", True)):
        assert scenario_of(run(**TRT, notes=f"measured {day}; x")).workload.warmed_up is warm
    assert scenario_of(run(**{**TRT, "group": "own"}, notes="measured 2025-11-02; x")).workload.warmed_up


@pytest.mark.parametrize(
    ("device", "day", "tokens", "cache", "held"),
    [
        ("b300-sxm", "2026-03-25", 32768, "fp8", 15),
        ("h200-sxm", "2026-03-25", 32768, None, 0),
        ("mi300x", "2025-12-15", 196608, None, 0),
        ("mi300x", "2026-03-25", 131072, "fp8", 0),
        ("mi355x", "2026-03-25", 196608, None, 0),
    ],
)
def test_scripts_differ_by_device_and_day(run, device, day, tokens, cache, held):
    """From dsr1_fp8_b300.sh, dsr1_fp8_h200.sh, dsr1_fp8_mi300x.sh and dsr1_fp8_mi355x.sh."""
    row = {**R1, "engine": "sglang", "engine_version": "", "weight_dtype": "fp8", "concurrency": 32}
    found = deployment(run, **{**row, "device": device}, notes=f"measured {day}; x")
    assert (found.max_batched_tokens, found.kv_dtype, found.hold_steps) == (tokens, cache, held)


def test_vllm_of_long_prompts_takes_two_to_a_step(run):
    """minimaxm2.5_fp8_b200.sh: twice the prompt; gptoss_fp4_mi300x.sh leaves it to the engine."""
    mini = {**B200, "engine": "vllm", "engine_version": "", "model": "MiniMaxAI/MiniMax-M2.5"}
    long = deployment(run, **mini, weight_dtype="fp8", prompt_tokens=8192)
    assert (long.max_batched_tokens, long.memory_utilization) == (16384, 0.9)
    amd = {**mini, "model": "openai/gpt-oss-120b", "device": "mi300x", "weight_dtype": "mxfp4"}
    assert (deployment(run, **amd).max_batched_tokens, deployment(run, **amd).memory_utilization) == (
        None,
        0.95,
    )
