"""All collected config files against counts made elsewhere; needs a folder of reference data."""

import csv
import json
import os
from pathlib import Path

import pytest

from calc.specs.errors import SpecError
from calc.specs.hf_config import model_from_config
from calc.work.attention import attention
from calc.work.paging import layer_caches
from calc.work.parameters import active_parameters, total_parameters, weights

FOLDER = os.environ.get("ULLAGE_REFERENCE", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set ULLAGE_REFERENCE to a folder with models/model_facts.csv"
)

#: model_type, or name -> ours minus the count on the meta device, and why
KNOWN_DIFFERENCES = {
    "google--flan-t5-xxl": (
        32128 * 4096,
        "an lm_head of its own, which transformers 5 ties to the embedding",
    ),
    "llama4": (-455_178_240, "the file has no vision section; the count has the class's default tower"),
    "step3p7": (-1_980_351_232, "the count has the class's default vocabulary and tower"),
}

#: families whose cache the facts leave open
NOT_IN_FACTS = {"deepseek_v4", "deepseek_ref", "kimi_k3"}


def facts():
    with open(Path(FOLDER) / "models" / "model_facts.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def built():
    models, refused = {}, {}
    for row in facts():
        path = Path(FOLDER) / "models" / "configs" / f"{row['name']}.json"
        try:
            model = model_from_config(json.loads(path.read_text()), row["name"], id="x", name="x")
        except SpecError as error:
            refused[row["name"]] = str(error)
        else:
            models[row["name"]] = (model, row)
    return models, refused


@pytest.fixture(scope="module")
def results():
    return built()


def test_every_config_is_counted(results):
    models, refused = results
    assert refused == {}
    assert len(models) == 170


def test_totals_and_active_counts_equal_those_of_transformers_on_the_meta_device(results):
    for name, (model, row) in results[0].items():
        expected, _ = KNOWN_DIFFERENCES.get(name, KNOWN_DIFFERENCES.get(model.family, (0, "")))
        if row["params_meta_exact"]:
            assert total_parameters(model) - int(row["params_meta_exact"]) == expected, name
            assert active_parameters(model) - int(row["active_meta"]) == expected, name


def test_classes_equal_those_of_transformers(results):
    for name, (model, row) in results[0].items():
        if not row["params_meta_exact"] or model.family in KNOWN_DIFFERENCES:
            continue
        routed = sum(
            weight.parameters * count for weight, count in weights(model) if weight.visited is not None
        )
        assert routed == int(row["expert_params"] or 0), name


def test_cache_bytes_per_token_equal_the_facts(results):
    for name, (model, row) in results[0].items():
        if model.family in NOT_IN_FACTS:
            continue
        found = dict.fromkeys(("full", "sliding", "chunked", "state"), 0)
        for caches in layer_caches(model, 2):
            found[caches.kind] += caches.count * (caches.bytes_per_token + caches.state_bytes)
        # the facts list the latent alone; the indexer's key is in their note
        kinds = [(attention(layer.attention), count) for layer, count in _attending(model)]
        indexer = sum(count * getattr(kind, "d_index", 0) * 2 for kind, count in kinds)
        assert found["full"] - indexer == int(row["kv_bytes_per_token_bf16_unbounded"] or 0), name
        windowed = found["sliding"] + found["chunked"]
        assert windowed == int(row["kv_bytes_per_token_bf16_windowed_layers"] or 0), name
        if model.encoder_tokens:  # the facts say per encoder token what the cross-attention keeps
            assert found["state"] == model.encoder_tokens * found["full"], name
        else:
            assert found["state"] == int(row["state_bytes_per_seq"] or 0), name


def _attending(model):
    return [(layer, count) for layer, count in model.distinct_layers if layer.attention]
