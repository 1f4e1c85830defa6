"""``python -m validate overheads`` on small tables: what is refitted, what stays, what is said."""

import csv

import pytest
import yaml

from calc.specs.facts import spec_files
from validate.cli import main
from validate.runs.fit import FREE

MAX_LOAD = {
    "group": "trtllm_maxload", "engine": "tensorrt-llm", "mode": "max_load", "concurrency": "",
    "kv_dtype": "fp8", "metric": "output_tokens_per_s", "tp": 8, "n_devices": 8,
}  # fmt: skip
LENGTHS = ((128, 128), (128, 2048), (500, 2000), (1000, 1000))


@pytest.fixture
def table(tmp_path, row):
    """Write rows with these changes as a table, and return its path."""

    def write(changes):
        rows = [row(**each) for each in changes]
        path = tmp_path / "rows.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return str(path)

    return write


def fitted_file(tmp_path, table, engine, *options):
    assert main(["overheads", table, "--engine", engine, "--out", str(tmp_path), *options]) == 0
    return yaml.safe_load((tmp_path / f"{engine}.yaml").read_text())["profiles"]


def of_versions(profiles, versions):
    return next(each for each in profiles if each["versions"] == versions)


def test_profiles_with_runs_are_refitted_and_the_others_stay_as_they_are(tmp_path, table):
    rows = table([{"concurrency": n, "device": d} for n in (1, 4, 16, 64) for d in ("h100-sxm", "b200-sxm")])
    profiles = fitted_file(tmp_path, rows, "vllm", "--report", str(tmp_path / "page.md"))
    shipped = yaml.safe_load(spec_files("calibrations", "overheads")["vllm"].read_text())["profiles"]
    assert [each["note"] == "8 rows: own" for each in profiles].count(True) == 1
    assert profiles[0]["note"] == "8 rows: own"
    assert profiles[1:] == shipped[1:]
    assert "| own | tpot_s | 8 |" in (tmp_path / "page.md").read_text()


def test_runs_of_one_model_start_at_the_numbers_of_the_next_version(tmp_path, table):
    """Maximum load says nothing of a request's own time: it stays where the fit began."""
    rates = {"meta-llama/Llama-3.1-70B": 9000, "meta-llama/Llama-3.1-8B": 40000}
    later = [
        {**MAX_LOAD, "engine_version": "0.17", "model": model, "value": rate,
         "prompt_tokens": p, "output_tokens": o}
        for model, rate in rates.items() for p, o in LENGTHS
    ]  # fmt: skip
    first_token = {"mode": "closed_loop", "concurrency": 8, "metric": "ttft_s", "value": 0.2}
    later += [{**each, **first_token} for each in later]
    earlier = [
        {**MAX_LOAD, "engine_version": "0.14", "value": 8000 + p, "prompt_tokens": p, "output_tokens": o}
        for p, o in (*LENGTHS, (2048, 128), (2048, 2048))
    ]
    profiles = fitted_file(tmp_path, table(later + earlier), "tensorrt-llm")
    new, old = (of_versions(profiles, versions) for versions in (">=0.15,<1.0", ">=0.13,<0.15"))
    assert new["max_load"] == ">=0.15"
    assert (new["note"], old["note"]) == ("16 rows: trtllm_maxload", "6 rows: trtllm_maxload")
    assert old["host"]["request_s"] == pytest.approx(new["host"]["request_s"], rel=0.05)
    assert new["host"]["request_s"] > 1.5 * FREE["request_s"].start  # where fits start else
