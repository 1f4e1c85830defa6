"""All collected config files against counts made elsewhere; needs a folder of reference data."""

import csv
import json
import os
from pathlib import Path

import pytest

from calc.specs.errors import SpecError
from calc.specs.hf_config import model_from_config
from calc.work.attention import attention
from calc.work.parameters import active_parameters, total_parameters, weights

FOLDER = os.environ.get("ULLAGE_REFERENCE", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set ULLAGE_REFERENCE to a folder with models/model_facts.csv"
)

#: model_type -> ours minus the count on the meta device, and why
KNOWN_DIFFERENCES = {
    "llama4": (-455_178_240, "the file has no vision section; the count has the class's default tower"),
    "step3p7": (-1_980_351_232, "the count has the class's default vocabulary and tower"),
}


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


def test_configs_are_counted_or_refused_as_not_counted_yet(results):
    models, refused = results
    assert all("not counted yet" in message for message in refused.values())
    assert len(models) >= 140
    print(f"\n{len(models)} counted, {len(refused)} refused:", *sorted(refused), sep="\n  ")


def test_totals_and_active_counts_equal_those_of_transformers_on_the_meta_device(results):
    for name, (model, row) in results[0].items():
        expected, _ = KNOWN_DIFFERENCES.get(model.family, (0, ""))
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
        unbounded = windowed = fixed = 0
        for layer, count in _attending(model):
            kind = attention(layer.attention)
            growth = kind.cache_bytes(2, 2) - kind.cache_bytes(1, 2)
            fixed += count * (kind.cache_bytes(1, 2) - growth)
            if _is_limited(kind):
                windowed += count * growth
            else:
                # the facts list the latent alone; the indexer's key is in their note
                unbounded += count * (growth - getattr(kind, "d_index", 0) * 2)
        assert unbounded == int(row["kv_bytes_per_token_bf16_unbounded"] or 0), name
        assert windowed == int(row["kv_bytes_per_token_bf16_windowed_layers"] or 0), name
        assert fixed == int(row["state_bytes_per_seq"] or 0), name


def test_caches_measured_on_small_copies_grow_as_ours(results):
    """Slopes of transformers' own cache classes; the copies keep KV heads, except those of MHA."""
    rows = json.loads((Path(FOLDER) / "models" / "hf_kv_cache_measured.json").read_text())
    compared = 0
    for row in rows:
        model = results[0].get(row["name"], (None,))[0]
        if model is None or model.family == "falcon" or not row.get("layers"):  # Falcon's are expanded there
            continue
        kinds = {attention(layer.attention) for layer, _ in _attending(model)}
        if any(getattr(kind, "n_kv_heads", 0) == getattr(kind, "n_heads", 1) for kind in kinds):
            continue
        ours = {kind.cache_bytes(2, 2) - kind.cache_bytes(1, 2) for kind in kinds}
        ours |= {0 for kind in kinds if _is_limited(kind)}
        assert {layer["slope_per_tok"] for layer in row["layers"]} <= ours, row["name"]
        compared += 1
    assert compared >= 15


def _attending(model):
    return [(layer, count) for layer, count in model.distinct_layers if layer.attention]


def _is_limited(kind):
    return bool(getattr(kind, "window", None) or getattr(kind, "chunk", None))
