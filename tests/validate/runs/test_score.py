"""``python -m validate score`` in one call: every row answered, or refused with the reason."""

import csv
import json

import pytest

from validate.cli import main


@pytest.fixture
def table(tmp_path, row):
    rows = [
        row(), row(id="b", metric="ttft_s", value="0.2"), row(id="c", model="no/such-model"),
        row(id="d", device="rtx-4090", n_devices="1", tp="1"),
    ]  # fmt: skip
    path = tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def test_every_row_is_answered_or_refused_with_the_reason(table, capsys):
    assert main(["score", table, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [each["predicted"] is None for each in record["rows"]] == [False, False, True, True]
    assert "no/such-model" in record["rows"][2]["reason"]
    assert "weights need" in record["rows"][3]["reason"]
    first = record["rows"][0]
    assert first["low"] < first["predicted"] < first["high"]
    assert first["trust"] == "calibrated"


def test_the_table_for_people_has_a_line_a_group_and_metric(table, capsys):
    assert main(["score", table]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["group", "metric", "n", "answered"]
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["own", "tpot_s", "3", "1"],
        ["own", "ttft_s", "1", "1"],
    ]


def test_a_table_that_is_not_there_is_one_line(capsys):
    assert main(["score", "nowhere.csv"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
