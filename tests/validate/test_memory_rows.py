"""Tables of start-up logs: what vLLM 0.19 logged on an H100, llm-d-planner pull request 205."""

import json

import pytest

from validate.cli import main
from validate.memory_rows import scores_of, setup_of

PLANNER = {
    "url": "https://github.com/llm-d-incubation/llm-d-planner/pull/205",
    "version": "0.19.0", "model": "Qwen/Qwen2.5-7B-Instruct", "gpu": "H100-80GB", "gpu_total_gib": "79.19",
    "tp": "1", "pp": "1", "dtype": "bfloat16", "quantization": "None", "kv_cache_dtype": "fp8",
    "max_model_len": "8192", "gpu_memory_utilization": "0.95", "model_loading_gib": "14.25",
    "kv_cache_gib": "58.53", "kv_cache_tokens": "2192000", "block_size": "16", "max_concurrency": "267.58",
    "somebody's own column": "does no harm",
}  # fmt: skip
#: hybrid layers, whose paging is the hard part
GEMMA = PLANNER | {
    "model": "google/gemma-3-27b-it", "kv_cache_dtype": "auto", "model_loading_gib": "51.45",
    "kv_cache_gib": "19.53", "kv_cache_tokens": "36560", "max_concurrency": "4.46",
}  # fmt: skip


def written(tmp_path, rows):
    path = tmp_path / "logs.csv"
    columns = list(rows[0])
    lines = [",".join(f'"{row.get(name, "")}"' for name in columns) for row in rows]
    path.write_text("\n".join([",".join(f'"{name}"' for name in columns), *lines]) + "\n")
    return str(path)


def by_metric(row):
    return {score.metric: score for score in scores_of([row])}


def test_logged_figures_are_predicted():
    scores = by_metric(PLANNER)
    assert set(scores) == {
        "weights_bytes", "cache_pool_bytes", "cache_tokens", "max_concurrency", "max_concurrency_given_pool",
    }  # fmt: skip
    assert abs(scores["weights_bytes"].error_pct) < 1
    assert abs(scores["cache_pool_bytes"].error_pct) < 1
    assert abs(scores["max_concurrency_given_pool"].error_pct) < 0.1


def test_given_the_logged_pool_hybrid_concurrency_is_that_of_the_log():
    assert by_metric(GEMMA)["max_concurrency_given_pool"].predicted == pytest.approx(4.46, rel=2e-3)


def test_the_block_size_of_the_log_is_used():
    """vLLM 0.11 with blocks of 128 tokens: 1444 blocks, 11.55 requests of 16,000 tokens."""
    row = PLANNER | {
        "version": "0.11.0", "model": "mistralai/Mistral-Small-3.2-24B-Instruct-2506", "kv_cache_dtype": "",
        "max_model_len": "16000", "block_size": "128", "kv_cache_gib": "28.2", "kv_cache_tokens": "184832",
        "max_concurrency": "11.55", "model_loading_gib": "44.76",
    }  # fmt: skip
    assert by_metric(row)["max_concurrency_given_pool"].predicted == pytest.approx(1444 / 125, rel=1e-3)


def test_newer_versions_print_tokens_as_concurrency_times_length():
    """From 0.21 on: vLLM issue 54662."""
    scores = by_metric(GEMMA | {"version": "0.21.0"})
    expected = scores["max_concurrency"].predicted * 8192
    assert scores["cache_tokens"].predicted == pytest.approx(expected, rel=1e-9)


def test_blank_fields_are_what_the_engine_does_by_default():
    setup = setup_of({"model": "Qwen/Qwen3-8B", "gpu": "RTX 4090", "tp": "", "kv_cache_gib": ""})
    assert (setup.engine, setup.tp, setup.pp, setup.memory_utilization) == ("vllm", 1, 1, None)


def test_the_share_follows_from_what_was_requested():
    row = {"gpu_total_gib": "79.19", "requested_gib": "71.27"}
    assert setup_of(row).memory_utilization == pytest.approx(0.9, rel=1e-3)


def test_sglang_rows_are_a_group_of_their_own():
    """Qwen3-235B-A22B-FP8 on four H100: K 8.23 + V 8.23 GB, 367,404 tokens; vLLM issue 21348."""
    row = {
        "engine": "SGLang", "model": "Qwen/Qwen3-235B-A22B-FP8", "gpu": "H100-80GB", "tp": "4",
        "gpu_memory_utilization": "0.93", "kv_cache_gib": "16.46", "kv_cache_tokens": "367404",
    }  # fmt: skip
    scores = by_metric(row)
    assert {score.group for score in scores.values()} == {"sglang"}
    assert abs(scores["cache_pool_bytes"].error_pct) < 10
    per_token = scores["cache_pool_bytes"].predicted / scores["cache_tokens"].predicted
    assert per_token == pytest.approx(94 * 1 * 128 * 2 * 2, rel=1e-3)  # one of four KV heads on each device


def test_the_table_is_detected_and_printed(capsys, tmp_path):
    assert main(["memory", written(tmp_path, [PLANNER, GEMMA])]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[:4] == ["vllm", "weights_bytes", "2", "2"]


def test_rows_shows_every_figure(capsys, tmp_path):
    main(["memory", written(tmp_path, [PLANNER]), "--rows"])
    assert "2,192,000" in capsys.readouterr().out


def test_what_is_not_known_is_not_answered_with_the_reason(capsys, tmp_path):
    path = written(tmp_path, [PLANNER, PLANNER | {"model": "nobody/nothing-7x"}])
    assert main(["memory", path, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["groups"][0]["n"] == 2
    assert record["groups"][0]["answered"] == 1
    last = record["rows"][-1]
    assert (last["row"], last["predicted"]) == (1, None)
    assert last["reason"].startswith("unknown model 'nobody/nothing-7x'")


def test_nothing_answered_is_exit_code_2(capsys, tmp_path):
    path = written(tmp_path, [PLANNER | {"model": "nobody/nothing-7x"}])
    assert main(["memory", path]) == 2
    assert capsys.readouterr().err.startswith("validate: nothing could be answered: unknown model")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,gpu\nQwen/Qwen3-8B,H100\n", "needs the columns model and"),
        ("model,gpu,kv_cache_gib\nQwen/Qwen3-8B,H100,\n", "holds no figure to score"),
        ("", "needs the columns"),
    ],
)
def test_a_table_without_figures_is_one_line_and_exit_code_2(capsys, tmp_path, text, message):
    path = tmp_path / "logs.csv"
    path.write_text(text)
    assert main(["memory", str(path)]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_options_of_a_raw_log_are_refused_for_a_table(capsys, tmp_path):
    assert main(["memory", written(tmp_path, [PLANNER]), "--tp", "2"]) == 2
    assert "--tp: is for a raw log" in capsys.readouterr().err
