"""Raw start-up logs of both engines, in the wording of several versions.

Logged figures are from public logs: llm-d-planner pull request 205 (V1), vLLM issues 10517 (0.6)
and 21348 (SGLang's cache), mellea pull request 416 (V0 of 0.9); lines are shortened, and figures
beside those (times, SGLang's weights, all of 0.27) are made up.
"""

import io
import json
from pathlib import Path

import pytest

from validate.cli import main
from validate.memory_logs import parse_log

GIB = 2**30
LOGS = Path(__file__).parent / "logs"
V1 = Path(__file__).parents[2] / "docs" / "logs" / "vllm-0.19-llama-3.1-8b.txt"
V0_06 = (LOGS / "vllm-0.6-v0.txt").read_text()
V0_09 = (LOGS / "vllm-0.9-v0.txt").read_text()
V1_LATE = (LOGS / "vllm-0.27.txt").read_text()  # tokens and concurrency in one line: vLLM issue 54662
SGLANG = (LOGS / "sglang.txt").read_text()
USAGE = ", mem usage=55.20 GB"


def test_a_v1_log_says_how_it_was_started_and_what_it_found():
    log = parse_log(V1.read_text())
    setup, logged = log.setup, log.logged
    assert (setup.engine, setup.version) == ("vllm", "0.19.0")
    assert (setup.model, setup.tp, setup.request_tokens) == ("meta-llama/Llama-3.1-8B-Instruct", 2, 8192)
    assert (setup.dtype, setup.quantization, setup.memory_utilization) == ("bfloat16", "", 0.95)
    assert logged.weights_bytes == 7.51 * GIB
    assert logged.cache_pool_bytes == 63.76 * GIB
    assert (logged.cache_tokens, logged.max_concurrency) == (1_044_688, 127.53)
    assert logged.graph_bytes == 0.76 * GIB


def test_a_v0_log_of_0_6_gives_blocks_as_tokens_and_the_memory_of_the_card():
    setup, logged = parse_log(V0_06).setup, parse_log(V0_06).logged
    assert (setup.version, setup.dtype, setup.max_sequences) == ("0.6.4", "bfloat16", 256)
    assert setup.max_batched_tokens is None
    assert setup.device_bytes == 23.58 * GIB
    assert logged.weights_bytes == 14.9888 * GIB
    assert logged.cache_pool_bytes == 3.81 * GIB
    assert logged.other_bytes == 0.35 * GIB
    assert logged.cache_tokens == 1952 * 16


def test_a_v0_log_of_0_9_gives_all_parts():
    setup, logged = parse_log(V0_09).setup, parse_log(V0_09).logged
    assert (setup.device_bytes, setup.memory_utilization) == (79.19 * GIB, 0.8)
    parts = (logged.weights_bytes, logged.other_bytes, logged.activation_bytes, logged.cache_pool_bytes)
    assert [round(part / GIB, 2) for part in parts] == [1.12, 0.16, 0.23, 61.84]
    assert logged.cache_tokens == 36_184 * 16


def test_later_v1_logs_tell_tokens_and_concurrency_in_one_line():
    log = parse_log(V1_LATE)
    assert log.setup.version == "0.27.1"
    assert (log.logged.cache_tokens, log.logged.max_concurrency) == (50_016, 6.11)


@pytest.mark.parametrize("text", [SGLANG, SGLANG.replace(USAGE, "")], ids=["newer", "older"])
def test_an_sglang_log_with_and_without_what_loading_took(text):
    log = parse_log(text)
    setup, logged = log.setup, log.logged
    assert (setup.engine, setup.tp, setup.memory_utilization) == ("sglang", 4, 0.93)
    assert (setup.model, setup.request_tokens) == ("/path/to/Qwen3-235B-A22B-FP8", 40_960)
    assert logged.weights_bytes == pytest.approx(55.2 * GIB)
    assert logged.cache_pool_bytes == pytest.approx(16.46 * GIB)
    assert logged.cache_tokens == 367_404
    assert logged.graph_bytes == 1.04 * GIB


def test_of_several_ranks_the_largest_weights_and_the_smallest_pool_count():
    logged = parse_log(
        "(Worker_PP0) Model loading took 4.26 GiB memory\n(Worker_PP1) Model loading took 3.25 GiB memory\n"
        "(Worker_PP0) Available KV cache memory: 69.80 GiB\n"
        "(Worker_PP1) Available KV cache memory: 68.90 GiB\n"
    ).logged
    assert logged.weights_bytes == 4.26 * GIB
    assert logged.cache_pool_bytes == 68.9 * GIB


def test_command_flags_colours_expert_ranks_and_device_names_are_read():
    setup = parse_log(
        "$ vllm serve Qwen/Qwen3-30B-A3B -tp 2 --tensor-parallel-size 2 --kv-cache-dtype fp8 "
        "--max-num-batched-tokens=4096 --enable-expert-parallel --quantization fp8\n"
        "\x1b[36mINFO\x1b[0m Using configuration from E=64,N=768,device_name=NVIDIA_A100-SXM4-80GB.json\n"
        "(EngineCore) Free memory on device cuda:0 (78.68/79.19 GiB) on startup.\n"
    ).setup
    assert (setup.model, setup.tp, setup.ep) == ("Qwen/Qwen3-30B-A3B", 2, 2)
    assert (setup.kv_cache_dtype, setup.quantization) == ("fp8", "fp8")
    assert (setup.device, setup.max_batched_tokens) == ("NVIDIA A100-SXM4-80GB", 4096)
    assert setup.device_bytes == 79.19 * GIB


def run(capsys, monkeypatch, text, *options):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code = main(["memory", "-", *options])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_predicted_stands_beside_logged_line_by_line(capsys):
    assert main(["memory", str(V1), "--device", "h100-sxm"]) == 0
    out = capsys.readouterr().out
    assert "vllm 0.19.0, tp 2, pp 1, share 0.95, on NVIDIA H100" in out
    lines = {line[:24].strip(): line for line in out.splitlines()}
    assert "63.76 GiB" in lines["cache pool"]
    assert "127.53x" in next(line for name, line in lines.items() if name.startswith("concurrency at 8,192"))


def test_a_pasted_log_with_the_device_given(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, SGLANG, "--device", "H100-80GB", "--json")
    record = json.loads(out)
    assert code == 0
    assert {row["group"] for row in record["rows"]} == {"sglang"}
    assert {row["metric"] for row in record["rows"]} == {"weights_bytes", "cache_pool_bytes", "cache_tokens"}


def test_options_complete_what_the_log_does_not_say(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, V0_09, "--model", "Qwen/Qwen3-0.6B", "--engine-version", "0.9.1")
    assert code == 0
    given = next(line for line in out.splitlines() if "given the logged pool" in line)
    assert given.split()[-4] == given.split()[-3] == "70.67x"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("hello\nworld\n", [], "-: no line of a vLLM or SGLang start-up log was recognised"),
        (V0_09, [], "model: not said; say which with --model"),
        (SGLANG, [], "device: not said; say which with --device"),
        (SGLANG, ["--device", "RTX 9999"], "unknown device 'RTX 9999'"),
        (
            "Graph capturing finished in 2 secs, took 0.13 GiB",
            ["--model", "qwen3-8b", "--device", "h100"],
            "-: the log holds no weights, cache or concurrency line to score",
        ),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_exit_code_2(capsys, monkeypatch, text, options, message):
    code, out, err = run(capsys, monkeypatch, text, *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
