"""Caches against bytes measured elsewhere: transformers 5.23.0 running small copies on a CPU.

Each row of ``golden/transformers_caches.csv`` is one layer of a copy with the model's own KV
heads, head width, states and pattern (``changes`` says what the copy has otherwise: windows
of 16 tokens, fewer heads where all are KV heads), after a prompt of 40 and of 72 tokens in
bf16. Where transformers keeps its caches in another way than engines do, the difference is
written out in ``conftest.py`` and below; nothing else may differ by a byte.
"""

import copy
import csv
import json
from pathlib import Path

import pytest

from calc.specs.facts import spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.strict_yaml import read_yaml
from calc.work.attention import attention

#: what transformers stores that engines do not: Falcon's keys and values for every query head
EXPANDED = {"falcon-40b": 16 / 8}
#: what it stores where these numbers did not look: MiniMax's linear states, in a list of their own
ELSEWHERE = {("minimax-text-01", "lightning")}


def rows():
    path = Path(__file__).parents[1] / "golden" / "transformers_caches.csv"
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def small_copy(name, changes):
    config = copy.deepcopy(read_yaml(spec_files("model_specs")[name])["config"])
    config.get("text_config", config).update(json.loads(changes))
    return model_from_config(config, id=name, name=name)


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row['model']}-{row['layer']}-{row['cache']}")
def test_a_layer_keeps_the_bytes_that_transformers_was_measured_to_keep(row, transformers_bytes):
    model = small_copy(row["model"], row["changes"])
    part = model.layers[int(row["layer"])].attention
    for tokens in (40, 72):
        measured = int(row[f"bytes_at_{tokens}_tokens"])
        if part is None:
            assert measured == 0
        elif (row["model"], part.kind) in ELSEWHERE:
            assert measured == 0 < attention(part).cache_bytes(tokens, 2)
        else:
            ours = transformers_bytes(attention(part), tokens)
            assert ours * EXPANDED.get(row["model"], 1) == measured


def test_all_kinds_of_cache_were_measured():
    found = {row["cache"] for row in rows()}
    assert found == {
        "DynamicLayer", "DynamicSlidingWindowLayer", "DynamicIndexedLayer", "LinearAttentionLayer",
        "DeepseekV4CSACache", "DeepseekV4HCACache", "DummyLayer",
    }  # fmt: skip
    assert len({row["model"] for row in rows()}) == 43
