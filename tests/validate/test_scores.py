"""One line a group, and the JSON object."""

import json

import pytest

from validate.scores import Score, as_record, as_table, grouped

SCORES = [
    Score(0, "a", "vllm", "weights_bytes", 100.0, 99.0),
    Score(1, "b", "vllm", "weights_bytes", 100.0, 102.0),
    Score(2, "c", "vllm", "weights_bytes", 100.0, 110.0),
    Score(3, "d", "vllm", "weights_bytes", 100.0, reason="unknown model 'x'"),
    Score(0, "a", "sglang", "tpot_s", 10.0, 12.0, 9.0, 13.0, "family"),
    Score(1, "b", "sglang", "tpot_s", 10.0, 20.0, 15.0, 25.0, "family"),
]


def test_a_group_holds_median_p90_and_bias_of_what_was_answered():
    weights, tpot = grouped(SCORES)
    assert (weights.n, weights.answered) == (4, 3)
    assert (weights.mdape_pct, weights.bias_pct) == (2.0, 2.0)
    assert weights.p90_pct == pytest.approx(8.4)
    assert weights.inside80_pct is None
    assert tpot.inside80_pct == 50.0


def test_the_json_object_has_the_documented_keys():
    record = json.loads(json.dumps(as_record(SCORES), allow_nan=False))
    assert list(record) == ["schema_version", "calibration", "groups", "rows"]
    assert record["schema_version"] == 1
    assert set(record["groups"][0]) == {
        "group", "metric", "n", "answered", "mdape_pct", "p90_pct", "bias_pct", "inside80_pct",
    }  # fmt: skip
    assert set(record["rows"][0]) == {
        "row", "id", "group", "metric", "measured", "predicted", "low", "high", "trust", "reason",
    }  # fmt: skip
    assert record["rows"][3]["predicted"] is None
    assert record["rows"][3]["reason"] == "unknown model 'x'"


def test_the_table_shows_a_dash_where_there_is_no_interval():
    lines = as_table(SCORES).splitlines()
    assert lines[1].split() == ["vllm", "weights_bytes", "4", "3", "2.00", "8.40", "+2.00", "-"]
    assert lines[2].split()[-1] == "50.00"


def test_a_group_without_answers_has_no_figures():
    (group,) = grouped([SCORES[3]])
    assert (group.answered, group.mdape_pct, group.p90_pct) == (0, None, None)
