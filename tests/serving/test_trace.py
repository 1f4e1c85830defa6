"""Traces: formats, bad rows named by line, and the fewest replicas for an SLO."""

from pathlib import Path

import numpy as np
import pytest

import calc
from calc.serving.simulate import ready


def written(tmp_path, text: str) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    return path


def test_plain_columns_are_read_in_order_of_arrival(tmp_path):
    path = written(tmp_path, "time,prompt,output,user\n2.5,30,3,b\n1.0,10,1,a\n\n4,20,2,c\n")
    r = calc.read_trace(path)
    assert r.arrival_s.tolist() == [0, 1.5, 3]
    assert r.prompt_tokens.tolist() == [10, 30, 20]
    assert r.output_tokens.tolist() == [1, 3, 2]


def test_azure_columns_and_times_to_a_tenth_of_a_microsecond_are_read(tmp_path):
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n"
    r = calc.read_trace(written(tmp_path, text + "2023-11-16 18:17:04.0319600,3180,8\n"))
    assert r.arrival_s == pytest.approx([0, 0.052], abs=1e-6)
    assert r.prompt_tokens.tolist() == [4808, 3180]


def test_a_limit_reads_the_first_requests_only(tmp_path):
    path = written(tmp_path, "time,prompt,output\n1,1,1\n2,2,2\nbroken\n")
    assert len(calc.read_trace(path, limit=2)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,prompt,output\n1,1,1\n2,many,2\n", "line 3: prompt 'many'; allowed are whole numbers from 1"),
        ("time,prompt,output\n1,1,0\n", "line 2: output '0'; allowed are whole numbers from 1"),
        ("time,prompt,output\n1,5.5,1\n", "line 2: prompt '5.5'"),
        ("time,prompt,output\nsoon,1,1\n", "line 2: time 'soon'; allowed are seconds or a date and time"),
        ("time,prompt,output\nnan,1,1\n", "line 2: time 'nan'"),
        ("time,prompt,output\n1,1\n", "line 2: 2 values; allowed are as many as columns"),
        (
            "when,prompt,output\n1,1,1\n",
            "line 1: columns 'when,prompt,output'; allowed are time,prompt,output or",
        ),
        ("time,prompt,output\n", "no requests"),
        ("", "line 1: columns ''"),
    ],
)
def test_a_bad_row_is_named_by_line_and_value(tmp_path, text, message):
    with pytest.raises(calc.SpecError, match=message) as caught:
        calc.read_trace(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_traces_are_refused(tmp_path):
    with pytest.raises(calc.SpecError, match="cannot be read"):
        calc.read_trace(tmp_path / "missing.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(calc.SpecError, match="not a CSV text file"):
        calc.read_trace(tmp_path / "binary")


def test_replaying_faster_shortens_the_gaps():
    r = calc.poisson_requests(2.0, 100, 10, 10)
    assert r.faster(4).requests_per_s == pytest.approx(4 * r.requests_per_s)
    with pytest.raises(calc.SpecError, match="rate_scale: 0 is not allowed"):
        r.faster(0)


def search(requests, **limits):
    table, scheduler = ready(calc.steps_of("llama-3.1-8b", "h100-sxm"), requests)
    return calc.fewest_replicas(table, scheduler, requests, **limits), (table, scheduler)


def test_one_replica_less_than_the_fewest_does_not_meet_the_limits():
    requests = calc.poisson_requests(60, 3000, 1024, 256, seed=5)
    fleet, made = search(requests, ttft_s=0.3, tpot_s=0.03)
    assert fleet.replicas > 2
    assert fleet.simulation.meets(0.3, 0.03)
    assert not calc.simulate_requests(*made, requests, fleet.replicas - 1).meets(0.3, 0.03)
    assert dict(fleet.tried)[fleet.replicas]


def test_limits_that_one_request_alone_breaks_need_no_number_of_replicas():
    fleet, _ = search(calc.poisson_requests(5, 40, 1024, 64), ttft_s=1e-4)
    assert fleet.replicas is None
    assert "too slow on their own" in fleet.reason


def test_a_looser_percentile_needs_no_more_replicas():
    requests = calc.poisson_requests(60, 3000, 1024, 256, seed=5)
    strict, loose = (search(requests, ttft_s=0.08, percentile=p)[0].replicas for p in (99, 50))
    assert loose <= strict
    with pytest.raises(calc.SpecError, match="percentile: 0 is not allowed"):
        search(requests, ttft_s=1, percentile=0)


def test_replicas_share_the_load():
    requests = calc.poisson_requests(40, 2000, 1024, 128, seed=2)
    steps = calc.steps_of("llama-3.1-8b", "h100-sxm")
    one, four = (calc.simulate_requests(*ready(steps, requests), requests, n) for n in (1, 4))
    assert four.finished == one.finished == 2000
    assert np.median(four.tpot_s) < np.median(one.tpot_s)
