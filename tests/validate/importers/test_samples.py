"""Every importer on a small hand-made sample in its tool's own fields."""

import csv
import io
from pathlib import Path

import pytest

from validate.importers.document import read_document
from validate.importers.measured import SCHEMA, Context
from validate.importers.registry import IMPORTERS, as_csv, imported
from validate.runs.table import read_runs
from validate.score import score_of

SAMPLES = Path(__file__).resolve().parents[1] / "results"
#: sample -> importer, and what its file does not say
SAID_BY = {
    "vllm-serve.json": ("vllm-bench", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "vllm-append.json": ("vllm-bench", {}),
    "vllm-rate.json": ("vllm-bench", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "vllm-at-once.json": ("vllm-bench", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "sglang.jsonl": ("sglang-bench", {"device": "h100-sxm"}),
    "sglang-old.jsonl": ("sglang-bench", {"device": "h100-sxm", "tp": 2, "model": "Qwen/Qwen3-32B"}),
    "guidellm-0.3.json": ("guidellm", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "guidellm-0.7.json": ("guidellm", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "profile_export_genai_perf.json": ("genai-perf", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "profile_export_aiperf.json": ("genai-perf", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "profile_export_aiperf_1.5.json": ("genai-perf", {"device": "h100-sxm", "tp": 1, "engine": "vllm"}),
    "profile_export_aiperf.csv": (
        "genai-perf",
        {"device": "h100-sxm", "tp": 1, "engine": "vllm", "model": "meta-llama/Llama-3.1-8B"},
    ),
    "trtllm-throughput.json": ("trtllm-bench", {}),
    "trtllm-concurrency.json": ("trtllm-bench", {}),
    "trtllm-latency.json": ("trtllm-bench", {}),
    "trtllm-stdout.txt": ("trtllm-bench", {}),
}


def rows_of(name: str, **more) -> list[dict]:
    return imported([str(SAMPLES / name)], Context(**SAID_BY[name][1], **more)).rows


def figures(rows) -> dict[str, float]:
    return {row["metric"]: float(row["value"]) for row in rows}


def test_every_sample_is_listed_and_every_importer_has_one():
    assert {path.name for path in SAMPLES.iterdir()} == set(SAID_BY)
    assert {name for name, _ in SAID_BY.values()} == {each.NAME for each in IMPORTERS}


@pytest.mark.parametrize("name", SAID_BY)
def test_a_sample_is_recognised_by_its_importer_alone(name):
    document = read_document(SAMPLES / name)
    assert [each.NAME for each in IMPORTERS if each.recognises(document)] == [SAID_BY[name][0]]


@pytest.mark.parametrize("name", SAID_BY)
def test_score_answers_every_imported_row(name, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(rows_of(name)))
    cache = {}
    scores = [score_of(run, cache=cache) for run in read_runs(str(path))]
    assert scores
    assert [score.reason for score in scores if score.predicted is None] == []


def test_rows_have_the_columns_of_the_schema_and_ids_of_their_own():
    names = [name for name in SAID_BY if name.startswith(("vllm", "guidellm", "profile"))]
    said = Context(device="h100-sxm", tp=1, engine="vllm", model="meta-llama/Llama-3.1-8B")
    rows = imported([str(SAMPLES / name) for name in names], said).rows
    header, *body = csv.reader(io.StringIO(as_csv(rows)))
    assert tuple(header) == SCHEMA
    assert len({row[0] for row in body}) == len(body)


def test_a_run_of_vllm_gives_its_three_figures():
    rows = rows_of("vllm-serve.json")
    assert figures(rows) == {"ttft_s": 0.1524, "tpot_s": 0.0119, "output_tokens_per_s": 5141.05}
    row = rows[0]
    assert (row["mode"], row["concurrency"], row["prompt_tokens"], row["output_tokens"]) == (
        "closed_loop", 64, 1024, 256,
    )  # fmt: skip
    assert (row["source"], row["trust"], row["notes"]) == ("vllm-serve.json", "A", "ttft: mean; tpot: mean")


def test_appended_runs_of_vllm_are_all_read_and_metadata_says_the_rest():
    rows = rows_of("vllm-append.json")
    assert [row["concurrency"] for row in rows] == [8] * 3 + [32] * 3 + [128] * 3
    assert {(row["device"], row["tp"], row["engine_version"]) for row in rows} == {("h100-sxm", 1, "0.10.0")}


def test_a_request_rate_alone_becomes_the_number_in_flight_on_average():
    row = rows_of("vllm-rate.json")[0]
    # 6 requests/s of 0.058 s + 255 * 0.0085 s each (Little's law)
    assert (row["mode"], row["concurrency"], row["trust"]) == ("closed_loop", round(6 * 2.2255), "A-")
    assert "6 requests/s" in row["notes"]


def test_all_requests_at_once_are_a_maximum_load_without_times():
    rows = rows_of("vllm-at-once.json")
    assert [(row["mode"], row["metric"]) for row in rows] == [("max_load", "output_tokens_per_s")]


def test_a_newer_sglang_says_model_ranks_formats_and_version():
    row = rows_of("sglang.jsonl")[0]
    assert (row["engine"], row["engine_version"], row["model"], row["tp"], row["weight_dtype"]) == (
        "sglang", "0.5.3", "Qwen/Qwen3-32B", 2, "fp8",
    )  # fmt: skip
    assert (row["concurrency"], row["kv_dtype"]) == (16, "")


def test_both_layouts_of_guidellm_are_read():
    old, new = rows_of("guidellm-0.3.json"), rows_of("guidellm-0.7.json")
    assert [row["concurrency"] for row in old[::3]] == [1, 190, 5]  # synchronous, throughput, 5 per second
    assert [row["concurrency"] for row in new[::3]] == [4, 32]
    assert figures(new[:3])["tpot_s"] == 0.0068  # inter-token latency: without the first token
    assert {row["model"] for row in old + new} == {"meta-llama/Llama-3.1-8B-Instruct"}


def test_the_csv_of_aiperf_gives_the_figures_of_its_json():
    from_json, from_csv = rows_of("profile_export_aiperf.json"), rows_of("profile_export_aiperf.csv")
    assert figures(from_csv) == pytest.approx(figures(from_json), rel=1e-3)
    assert [row["concurrency"] for row in from_csv] == [16] * 3  # throughput times latency
    assert {row["trust"] for row in from_csv} == {"A-"}


def test_a_newer_aiperf_lists_phases_of_which_the_measured_one_counts():
    new, old = rows_of("profile_export_aiperf_1.5.json"), rows_of("profile_export_aiperf.json")
    for name in ("model", "concurrency", "metric", "value", "trust"):
        assert [row[name] for row in new] == [row[name] for row in old]


def test_genai_perf_takes_the_concurrency_of_its_stimulus():
    assert {row["concurrency"] for row in rows_of("profile_export_genai_perf.json")} == {10}


def test_trtllm_reports_say_device_formats_and_ranks():
    row = rows_of("trtllm-concurrency.json")[0]
    assert (row["device"], row["tp"], row["weight_dtype"], row["kv_dtype"]) == ("h100-sxm", 1, "fp8", "fp8")
    assert (row["mode"], row["concurrency"]) == ("closed_loop", 31)
    assert rows_of("trtllm-latency.json")[0]["concurrency"] == 1
    (most,) = rows_of("trtllm-throughput.json")
    assert (most["mode"], most["concurrency"]) == ("max_load", "")  # more than the engine runs together


def test_the_table_that_trtllm_prints_is_read_like_its_report():
    rows = rows_of("trtllm-stdout.txt")
    assert figures(rows) == {"ttft_s": 0.0553, "tpot_s": 0.0078, "output_tokens_per_s": 1908.48}
    assert (rows[0]["model"], rows[0]["engine_version"], rows[0]["concurrency"]) == (
        "meta-llama/Llama-3.1-8B", "1.1.0", 16,
    )  # fmt: skip


def test_the_user_may_say_the_load():
    assert {row["concurrency"] for row in rows_of("trtllm-concurrency.json", concurrency=32)} == {32}
    row = rows_of("trtllm-throughput.json", mode="static")[0]
    assert (row["mode"], row["concurrency"]) == ("static", 3000)
