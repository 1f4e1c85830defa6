"""Labels of what ran: llama.cpp by XiongjieDai, gpt-fast, TensorRT-LLM and Intel's pages."""

import json

import pytest

import calc
from validate.cli import main
from validate.fit_rows import accuracy_pct, case_of, misses, scores_of

HEADER = "hardware,n_devices,mem_gb_each,model,weight_dtype,context,engine,fits"
LABELS = [
    "3070 8GB,1,8,Llama-3-8B,q4_k_m,8192,llama.cpp,1",
    "3070 8GB,1,8,Llama-3-8B,fp16,8192,llama.cpp,0",
    "3080 Ti 12GB,1,12,Llama-3-8B,q4_k_m,8192,llama.cpp,1",
    "3090 24GB,2,24,Llama-3-70B,q4_k_m,8192,llama.cpp,1",
    "A100-SXM4-80GB,1,80,Llama-3.1-70B,bf16,205,gpt-fast,0",
    "A100-SXM4-80GB,2,80,Llama-3.1-70B,bf16,205,gpt-fast,1",
    'L40S-48GB,1,,Llama-2-7B,fp8/kv fp8,batch 64 x (128+2048),"TensorRT-LLM (session, static batch)",1',
    "Gaudi2-96GB,1,,Llama-2-7B,fp8/kv fp8,batch 163 x (128+2048),Optimum-Habana (static batch),1",
]
NAMES = HEADER.split(",")


def row(**changes):
    values = dict(zip(NAMES, LABELS[0].split(","), strict=True))
    return {**values, **changes}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([HEADER, *LABELS]) + "\n")
    return str(file)


def test_all_of_these_labels_are_right(capsys, path):
    assert main(["memory", path]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split() == ["all", "8", "8", "100.0"]


def test_json_has_the_engine_as_group_and_fits_as_metric(capsys, path):
    assert main(["memory", path, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [g["group"] for g in record["groups"]] == [
        "llama.cpp",
        "gpt-fast",
        "tensorrt-llm",
        "optimum-habana",
    ]
    assert {r["metric"] for r in record["rows"]} == {"fits"}
    assert [r["measured"] for r in record["rows"]] == [1, 0, 1, 1, 0, 1, 1, 1]
    assert [r["predicted"] for r in record["rows"]] == [1, 0, 1, 1, 0, 1, 1, 1]


def test_several_devices_of_llama_cpp_share_out_layers():
    deployment = case_of(row(n_devices="4")).deployment
    assert (deployment.tp, deployment.pp) == (1, 4)
    deployment = case_of(row(n_devices="4", engine="gpt-fast", weight_dtype="int8")).deployment
    assert (deployment.tp, deployment.pp) == (4, 1)


def test_a_card_without_a_spec_is_as_large_as_its_row_says():
    assert case_of(row(hardware="Some Card", mem_gb_each="11")).device.memory_bytes == 11 * 2**30
    with pytest.raises(calc.SpecError, match="unknown device 'Some Card'"):
        case_of(row(hardware="Some Card", mem_gb_each=""))


def test_a_miss_is_listed_with_what_was_needed(capsys, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("\n".join([HEADER, LABELS[1].removesuffix("0") + "1"]))
    assert main(["memory", str(file)]) == 0
    out = capsys.readouterr().out
    assert "3070 8GB, Llama-3-8B, fp16, 8192" in out
    assert "usable" in out


def test_what_is_not_answered_counts_as_a_miss():
    scores = scores_of([row(), row(model="nobody/nothing-7x"), row(n_devices="")])
    assert [score.row for score in misses(scores)] == [1, 2]
    assert accuracy_pct(scores) == pytest.approx(100 / 3)


def test_a_label_that_is_neither_0_nor_1_is_refused():
    with pytest.raises(calc.SpecError, match="row 0: fits: 'maybe'"):
        scores_of([row(fits="maybe")])
