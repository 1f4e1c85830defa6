"""Tables of measured runs are read strictly; what is wrong is named with its row."""

import csv

import pytest

import calc
from validate.runs.table import read_runs, version_of


def written(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_a_row_becomes_numbers(tmp_path, row):
    (run,) = read_runs(written(tmp_path / "rows.csv", [row()]))
    assert (run.tp, run.concurrency, run.value, run.metric) == (4, 16, 0.012, "tpot_s")


def test_no_concurrency_is_allowed_for_maximum_load_only(tmp_path, row):
    path = tmp_path / "rows.csv"
    (run,) = read_runs(written(path, [row(mode="max_load", concurrency="", metric="output_tokens_per_s")]))
    assert run.concurrency is None
    with pytest.raises(calc.SpecError, match="row 1: concurrency"):
        read_runs(written(path, [row(), row(concurrency="")]))


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", "burst"), ("metric", "speed"), ("tp", "0"), ("tp", "two"), ("value", "-1"), ("value", "nan"),
     ("value", ""), ("prompt_tokens", "1.5")],
)  # fmt: skip
def test_a_wrong_value_is_named_with_its_row(tmp_path, row, field, value):
    path = written(tmp_path / "rows.csv", [row(), row(**{field: value})])
    with pytest.raises(calc.SpecError, match=rf"row 1: {field}: .*allowed"):
        read_runs(path)


def test_a_file_of_something_else_is_one_clear_error(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    with pytest.raises(calc.SpecError, match="column 'id' is missing"):
        read_runs(str(tmp_path / "rows.csv"))
    with pytest.raises(calc.SpecError, match=r"missing\.csv"):
        read_runs(str(tmp_path / "missing.csv"))


@pytest.mark.parametrize(
    ("engine", "text", "version"),
    [("vllm", "v0.17 (2025-02)", "0.17"), ("vllm", "vLLM 0.10.0 ROCm 6.4.1", "0.10.0"),
     ("vllm", "2024 (paper)", "0.6"), ("sglang", "nightly-dev-20260402", None), ("vllm", "", None)],
)  # fmt: skip
def test_versions_are_found_in_words(run, engine, text, version):
    assert version_of(run(engine=engine, engine_version=text)) == version


@pytest.mark.parametrize(
    ("engine", "model", "day", "version"),
    [
        ("sglang", "deepseek-ai/DeepSeek-R1", "2025-11-02", "0.5.3"),
        ("sglang", "deepseek-ai/DeepSeek-R1", "2025-11-10", "0.5.5"),
        ("tensorrt-llm", "openai/gpt-oss-120b", "2025-11-02", "1.2.0"),
        ("tensorrt-llm", "meta-llama/Llama-3.1-70B", "2025-10-29", "1.1.0"),
        ("vllm", "meta-llama/Llama-3.1-70B", "2025-10-29", "0.10.2"),
        ("sglang", "Qwen/Qwen3.5-397B-A17B", "2026-02-20", None),
    ],
)
def test_the_day_tells_the_version_of_inferencex_rows_that_say_none(run, engine, model, day, version):
    row = run(group="inferencex", engine=engine, model=model, engine_version="", notes=f"measured {day}; x")
    assert version_of(row) == version
    assert version_of(run(engine=engine, engine_version="", notes=f"measured {day}; x")) is None
