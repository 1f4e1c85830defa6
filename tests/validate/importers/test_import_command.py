"""The commands import and calibrate: folders, options, errors of one line."""

import json
import shutil
from pathlib import Path

import pytest

from calc.cli import main as ullage
from validate.cli import main
from validate.runs.table import read_runs

SAMPLES = Path(__file__).resolve().parents[1] / "results"
VLLM = str(SAMPLES / "vllm-serve.json")
APPENDED = str(SAMPLES / "vllm-append.json")
SAID = ["--device", "h100-sxm", "--tp", "1", "--engine", "vllm"]


def run(capsys, *arguments):
    try:
        code = main([str(each) for each in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def sample(**changes) -> str:
    record = json.loads(Path(VLLM).read_text()) | changes
    return json.dumps({name: value for name, value in record.items() if value != "gone"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tp", "1", "--engine", "vllm"], "does not say the device: give --device"),
        (["--device", "h100-sxm", "--engine", "vllm"], "give --tp"),
        (["--device", "h100-sxm", "--tp", "1"], "does not say the engine: give --engine"),
        ([*SAID, "--model", "llama-9"], "say which with --model"),
        ([*SAID[:4], "--engine", "vlm"], "did you mean 'vllm'"),
        (["--device", "h1000", *SAID[2:]], "--device"),
        ([*SAID, "--tp", "0"], "allowed are whole numbers from 1"),
        ([*SAID, "--mode", "open"], "invalid choice: 'open'"),
        ([*SAID, "--out", "/nowhere/rows.csv"], "--out: /nowhere/rows.csv cannot be written"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_with_the_option(capsys, arguments, message):
    code, out, err = run(capsys, "import", VLLM, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("cut.json", Path(VLLM).read_text()[:300], "is not whole JSON"),
        ("cut.jsonl", (SAMPLES / "sglang.jsonl").read_text()[:-40], "is not whole JSON"),
        ("cut.txt", "= PERFORMANCE OVERVIEW", "no 'performance.system_output_throughput_tok_s'"),
        ("foreign.json", '{"a": 1}', "is not a known result file; allowed are those of vllm-bench"),
        ("list.json", "[1, 2]", "is not a known result file"),
        ("empty.json", "", "is not a known result file"),
        ("notes.txt", "hello", "is not a known result file"),
        ("other.csv", "Metric,avg\nUptime,3\n", "is not a known result file"),
        ("failed.json", sample(completed=0), "no 'completed' above 0"),
        ("short.json", sample(output_throughput="gone"), "no 'output_throughput' above 0"),
        ("embeddings.json", sample(total_output_tokens="gone"), "no tokens were generated"),
        ("drafts.json", sample(spec_decode_num_drafts=9), "speculative decoding was on"),
        ("odd.json", '{"benchmarks": [{"metrics": 1, "args": {"strategy": 1}}]}', "no request completed"),
    ],
)
def test_a_cut_off_or_foreign_file_is_one_line(capsys, tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    code, out, err = run(capsys, "import", path, *SAID)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_file_laid_out_otherwise_is_one_line(capsys, tmp_path):
    path = tmp_path / "odd.jsonl"
    first = (SAMPLES / "sglang.jsonl").read_text().splitlines()[0]
    path.write_text(json.dumps(json.loads(first) | {"server_info": "none"}))
    code, _, err = run(capsys, "import", path, *SAID[:4])
    assert (code, err.count("\n")) == (2, 1)
    assert "is not laid out as results of sglang-bench" in err


def test_a_file_that_contradicts_an_option_is_refused(capsys):
    report = SAMPLES / "trtllm-concurrency.json"
    assert "--tp: 4 is not what the file says, 1" in run(capsys, "import", report, "--tp", "4")[2]
    assert "--engine: vllm is not" in run(capsys, "import", report, "--engine", "vllm")[2]


def test_attention_data_parallel_ranks_are_taken_out_of_the_tensor_parallel_ones(capsys, tmp_path):
    report = json.loads((SAMPLES / "trtllm-concurrency.json").read_text())
    report["world_info"]["tp_size"] = 8
    (tmp_path / "report.json").write_text(json.dumps(report))
    out = tmp_path / "rows.csv"
    assert run(capsys, "import", tmp_path / "report.json", "--dp", "4", "--out", out)[0] == 0
    row = read_runs(str(out))[0]
    assert (row.tp, row.dp, row.n_devices) == (2, 4, 8)


def test_a_folder_is_searched_and_what_is_left_out_is_said(capsys, tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    shutil.copy(VLLM, deep)
    shutil.copy(VLLM, tmp_path)
    for kind in ("json", "csv"):
        shutil.copy(SAMPLES / f"profile_export_aiperf.{kind}", deep)
    (tmp_path / "cut.json").write_text('{"a": ')
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "drafts.json").write_text(sample(spec_decode_num_drafts=9))
    rows = tmp_path / "rows.csv"
    code, out, err = run(capsys, "import", tmp_path, *SAID, "--out", rows)
    assert (code, out) == (0, f"9 rows -> {rows}\n")
    assert [line.rpartition("/")[2].split(":")[0] for line in err.splitlines()] == ["cut.json", "drafts.json"]
    ids = [run.id for run in read_runs(str(rows))]
    assert len(set(ids)) == 9


def test_a_folder_without_results_says_so(capsys, tmp_path):
    code, _, err = run(capsys, "import", tmp_path, *SAID)
    assert (code, err.count("\n")) == (2, 1)
    assert "no result files" in err


def test_calibrate_fits_imported_runs_and_writes_the_file(capsys, tmp_path):
    """What was fitted to nine figures answers them better than what is shipped."""
    out, table = tmp_path / "mine.yaml", tmp_path / "rows.csv"
    code, text, err = run(capsys, "calibrate", APPENDED, "--out", out, "--title", "our rack")
    assert (code, err) == (0, "")
    assert text.endswith(f"overheads of vllm from 9 rows -> {out}\n")
    assert 'title: "our rack"' in out.read_text()
    run(capsys, "import", APPENDED, "--out", table)
    shipped, mine = (
        json.loads(run(capsys, "score", table, "--json", *more)[1]) for more in ((), ("--overheads", out))
    )
    off = [
        sum(abs(row["predicted"] / row["measured"] - 1) for row in record["rows"])
        for record in (shipped, mine)
    ]
    assert off[1] < off[0]


def test_calibrate_reads_a_table_that_import_wrote(capsys, tmp_path):
    table = tmp_path / "rows.csv"
    run(capsys, "import", APPENDED, "--out", table)
    assert run(capsys, "calibrate", table, "--out", tmp_path / "mine.yaml")[0] == 0


def test_too_few_rows_to_calibrate_are_refused_in_one_line(capsys, tmp_path):
    code, _, err = run(capsys, "calibrate", VLLM, "--out", tmp_path / "mine.yaml", *SAID)
    assert code == 2
    assert "rows of vllm are too few to fit; allowed are 6 or more" in err


def test_calibrate_asks_which_of_several_engines(capsys, tmp_path):
    other = SAMPLES / "trtllm-latency.json"
    code, _, err = run(capsys, "calibrate", APPENDED, other, "--out", tmp_path / "mine.yaml")
    assert (code, err) == (2, "validate: --engine: the files hold tensorrt-llm, vllm; say which to fit\n")


def test_ullage_calibrate_is_handed_to_the_validator(capfd):
    assert ullage(["calibrate"]) == 2
    assert capfd.readouterr().err == "validate: the following arguments are required: FILES\n"
