"""Measured runs as the tests of this folder use them; their figures are made up."""

import pytest

from validate.runs.table import run_of

ROW = {
    "id": "a-1", "group": "own", "engine": "vllm", "engine_version": "0.12.0", "mode": "closed_loop",
    "device": "h100-sxm", "n_devices": "4", "tp": "4", "pp": "1", "ep": "1", "dp": "1",
    "model": "meta-llama/Llama-3.1-70B", "weight_dtype": "fp8", "kv_dtype": "", "concurrency": "16",
    "prompt_tokens": "1024", "output_tokens": "512", "metric": "tpot_s", "value": "0.012",
    "trust": "A-", "notes": "",
}  # fmt: skip


@pytest.fixture
def row():
    """Return a function that gives a row of the table with some fields changed."""
    return lambda **changes: {**ROW, **{name: str(value) for name, value in changes.items()}}


@pytest.fixture
def run(row):
    """Return a function that gives a run with some fields changed."""
    return lambda index=0, **changes: run_of(index, row(**changes))
