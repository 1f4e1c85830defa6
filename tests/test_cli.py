"""The command line: text, JSON, CSV, exit codes, one-line errors."""

import csv
import io
import json
import os
import subprocess
import sys
import time

import pytest

from calc.cli import main

SCENARIO = ["--model", "llama-3.1-70b", "--device", "h100-sxm"]
FITTING = [*SCENARIO, "--tp", "4", "--weights", "fp8", "--users", "16", "--prompt", "1k", "--output", "256"]


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_estimate_prints_memory_speed_cost_and_the_bound_as_json(capsys):
    code, out, err = run(capsys, "estimate", *FITTING, "--json")
    record = json.loads(out)
    assert (code, err) == (0, "")
    assert record["schema_version"] == 1
    assert record["fits"] is True
    assert record["memory"]["weights_bytes"] > 70e9
    for name in ("ttft_s", "tpot_s", "output_tokens_per_s"):
        assert record[name] > 0
    assert record["cost"]["usd_per_mtok_output"] > 0
    assert record["cost"]["usd_per_mtok_input"] > 0
    assert record["bound"] == "memory bandwidth"


def test_the_same_scenario_on_one_device_in_bf16_does_not_fit_says_by_how_much_and_exits_with_1(capsys):
    code, out, _ = run(capsys, "estimate", *SCENARIO, "--weights", "bf16")
    assert code == 1
    assert "does not fit: needs 145.0 GB per device" in out
    assert "68.5 GB short" in out


def test_a_typo_suggests_the_right_name_in_one_line_and_exits_with_2(capsys):
    code, out, err = run(capsys, "estimate", "--model", "lama-3.1-70b", "--device", "h100-sxm")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "did you mean 'llama-3.1-70b'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--users", "many"], "--users: 'many' is not a number"),
        (["--users", "1.5"], "--users: '1.5' is not a whole number"),
        (["--prompt", "8x"], "--prompt: '8x' is not a token count"),
        (["--ttft", "2min"], "--ttft: '2min' is not a time"),
        (["--tp", "3"], "tp: 3 does not divide the 64 attention heads"),
        (["--engine", "vlm"], "did you mean 'vllm'"),
        (["--weights", "fp7"], "unknown weight_dtype 'fp7'"),
        (["--price", "-1"], "usd_per_device_hour: -1.0 is not allowed"),
        (["--price-term", "free"], "price term 'free' is not known"),
        (["--calibration", "none.yaml"], "none.yaml: cannot be read"),
        (["--mode", "static", "-o", "/nowhere/x"], "-o: /nowhere/x cannot be written"),
        (["--colour"], "unrecognized arguments"),
        (["--ep", "3"], "ep: 3 does not divide tp * dp (1)"),
        (["--rate", "1", "--cold"], "warmed_up: False: allowed is True in mode 'open_loop'"),
        (["--expert-skew", "2"], "expert_skew: 2.0 is not allowed; allowed are numbers from 0 to 1.5"),
    ],
)
def test_wrong_input_is_one_line_on_stderr_and_exit_code_2(capsys, arguments, message):
    code, out, err = run(capsys, "estimate", *SCENARIO, *arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err


def test_a_server_that_was_not_warmed_up_answers_later(capsys):
    sglang = [*FITTING, "--users", "64", "--engine", "sglang", "--engine-version", "0.5.5"]
    seconds = [
        json.loads(run(capsys, "estimate", *sglang, *cold, "--json")[1])["ttft_s"]
        for cold in ([], ["--cold"])
    ]
    assert seconds[1] > seconds[0] + 1


def test_every_parallelism_is_answered(capsys):
    place = ["--model", "deepseek-r1", "--device", "h200-sxm", "--dp", "8", "--ep", "8", "--users", "64"]
    code, out, err = run(capsys, "estimate", *place, "--expert-skew", "0.5", "--json")
    record = json.loads(out)
    scenario = record["scenario"]
    assert (code, err) == (0, "")
    assert (scenario["n_devices"], scenario["dp"], scenario["ep"], scenario["expert_skew"]) == (8, 8, 8, 0.5)
    assert record["tpot_s"] > json.loads(run(capsys, "estimate", *place, "--json")[1])["tpot_s"]
    assert "8 x NVIDIA H200 SXM 141GB, tp 1 dp 8 ep 8, vLLM" in run(capsys, "estimate", *place)[1]


def test_the_engines_overheads_are_shown_with_their_error(capsys):
    _, out, _ = run(capsys, "estimate", *FITTING)
    (line,) = (line for line in out.splitlines() if line.startswith("engine: "))
    record = json.loads(run(capsys, "estimate", *FITTING, "--json")[1])["scenario"]["overheads"]
    assert f"vllm {record['versions']} (measured on {record['errors']['tpot_s']['n']:,} figures" in line
    assert f"median error {record['errors']['tpot_s']['median_pct']:.1f} %" in line
    shown = run(capsys, "show", "vllm")[1]
    assert "host step_s" in shown
    assert "kernel factor gemm" in shown


def test_plan_shows_what_was_rejected_the_answer_and_the_launch_line(capsys):
    code, out, _ = run(capsys, "plan", *SCENARIO, "--users", "64", "--ttft", "2s", "--tpot", "50ms")
    assert code == 0
    assert "1 x h100-sxm: no, does not fit" in out
    assert "4 x h100-sxm: yes" in out
    assert "vllm serve meta-llama/Meta-Llama-3.1-70B --tensor-parallel-size 4 --max-model-len 1280" in out


def test_a_plan_that_misses_its_limits_exits_with_1(capsys):
    code, out, _ = run(capsys, "plan", *SCENARIO, "--tpot", "10us", "--json")
    record = json.loads(out)
    assert code == 1
    assert record["meets"] is False
    assert [row["n_devices"] for row in record["rejected"]] == [1, 2, 4, 8]


def test_an_estimate_that_misses_its_limits_exits_with_1(capsys):
    assert run(capsys, "estimate", *FITTING, "--tpot", "10us")[0] == 1


def test_the_lines_that_vllm_prints_are_printed_for_comparison(capsys):
    _, out, _ = run(capsys, "estimate", *FITTING)
    assert "GPU KV cache size: " in out
    assert "Maximum concurrency for 1,280 tokens per request: " in out


def test_csv_is_one_header_and_one_row_and_o_writes_a_file(capsys, tmp_path):
    path = tmp_path / "row.csv"
    code, out, _ = run(capsys, "estimate", *FITTING, "--csv", "-o", str(path))
    assert (code, out) == (0, "")
    (row,) = csv.DictReader(io.StringIO(path.read_text()))
    assert float(row["tpot_s"]) > 0
    assert row["scenario.model"] == "llama-3.1-70b"


@pytest.mark.parametrize(("what", "least"), [("models", 60), ("devices", 55), ("engines", 6), ("prices", 60)])
def test_lists_are_complete_in_every_form(capsys, what, least):
    code, out, _ = run(capsys, "list", what, "--json")
    rows = json.loads(out)[what]
    assert code == 0
    assert len(rows) >= least
    assert len(run(capsys, "list", what, "--csv")[1].splitlines()) == len(rows) + 1
    assert len(run(capsys, "list", what)[1].splitlines()) == len(rows) + 1


@pytest.mark.parametrize("name", ["h100-sxm", "llama-3.1-70b", "vllm"])
def test_show_gives_facts_and_with_sources_where_they_come_from(capsys, name):
    code = run(capsys, "show", name)[0]
    assert code == 0
    with_sources = run(capsys, "show", name, "--sources")[1]
    assert "http" in with_sources
    assert json.loads(run(capsys, "show", name, "--json")[1])["facts"]


def test_show_keeps_the_figures_not_taken_with_their_reason(capsys):
    assert "not taken" in run(capsys, "show", "h100-sxm", "--sources")[1]


def test_show_of_an_unknown_name_suggests_a_known_one(capsys):
    code, _, err = run(capsys, "show", "h100-sxn")
    assert code == 2
    assert "did you mean 'h100-sxm'" in err


@pytest.mark.parametrize("metric", ["tpot_s", "weights_bytes", "cache_bytes", "usd_per_mtok_output"])
def test_explain_shows_formula_and_numbers(capsys, metric):
    code, out, err = run(capsys, "explain", metric, *FITTING)
    assert (code, err) == (0, "")
    assert "=" in out
    assert json.loads(run(capsys, "explain", metric, *FITTING, "--json")[1])["metric"] == metric


@pytest.mark.parametrize("command", ["plan", "estimate", "explain", "list", "show", "serve"])
def test_every_command_shows_an_example_in_its_help(capsys, command):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert "example: ullage" in " ".join(out.split())


def test_a_config_json_of_ones_own_is_answered(capsys, tmp_path):
    config = dict(calc_config())
    path = tmp_path / "my-model" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(config))
    for given in (str(path), str(path.parent)):
        code, out, _ = run(capsys, "estimate", "--model", given, "--device", "l40s", "--json")
        assert code == 0
        assert json.loads(out)["scenario"]["model"] == "my-model"


def calc_config():
    return {
        "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "max_position_embeddings": 131072, "tie_word_embeddings": True,
    }  # fmt: skip


def test_a_whole_process_answers_in_under_a_second_on_a_quiet_machine():
    """The bar is 1 s; the best of three runs leaves room for a busy machine."""
    command = [sys.executable, "-m", "calc", "estimate", *FITTING, "--json"]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            command, check=True, capture_output=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
        )
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0


def test_validate_is_handed_to_the_validator_with_its_exit_code(capfd):
    code, _, err = run(capfd, "validate", "score", "nowhere.csv")
    assert code == 2
    assert err.startswith("validate: nowhere.csv: ")
    assert err.count("\n") == 1
    code, out, _ = run(capfd, "validate")
    assert code == 0
    assert "python -m validate COMMAND" in out


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    rows = "".join(f"{i / 4},{300 + i},{20 + i % 7}\n" for i in range(60))
    path.write_text("time,prompt,output\n" + rows)
    return path


SMALL = ["--model", "llama-3.1-8b", "--device", "h100-sxm"]


def test_a_trace_is_played_and_reported(trace, capsys):
    assert main(["trace", str(trace), *SMALL]) == 0
    out = capsys.readouterr().out
    assert "60 requests in 15 s" in out
    assert "time to first token" in out


def test_a_trace_with_limits_gives_the_fewest_replicas(trace, capsys):
    assert main(["trace", str(trace), *SMALL, "--ttft", "1s", "--tpot", "50ms", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["fewest_replicas"] == 1
    assert record["finished"] == 60
    assert record["ttft_s"]["p50"] <= record["ttft_s"]["p99"]
    assert main(["trace", str(trace), *SMALL, "--ttft", "1us"]) == 1


def test_a_bad_row_of_a_trace_is_one_line_and_code_2(trace, capsys):
    trace.write_text("time,prompt,output\n1,2,x\n")
    assert main(["trace", str(trace), *SMALL]) == 2
    assert capsys.readouterr().err.endswith(
        "line 2: output 'x'; allowed are whole numbers from 1 to 16777216\n"
    )


def test_a_rate_is_answered_with_percentiles_and_its_steady_state(capsys):
    assert main(["estimate", *SMALL, "--rate", "4"]) == 0
    assert "p99" in capsys.readouterr().out
    assert main(["estimate", *SMALL, "--rate", "400"]) == 1
    assert "no steady state above" in capsys.readouterr().out
