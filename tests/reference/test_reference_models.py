"""All collected config files against counts made elsewhere; needs a folder of reference data."""

import csv
import json
import os
from pathlib import Path

import pytest

from calc.specs.errors import SpecError
from calc.specs.hf_config import model_from_config
from calc.work.attention import attention
from calc.work.parameters import active_parameters, total_parameters

FOLDER = os.environ.get("ULLAGE_REFERENCE", "")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="set ULLAGE_REFERENCE to a folder with models/model_facts.csv"
)

#: model_type -> ours minus the count on the meta device, and why
KNOWN_DIFFERENCES = {
    "llama4": (-455_178_240, "the file has no vision section; the count has the class's default tower"),
    "step3p7": (-1_980_351_232, "the count has the class's default vocabulary and tower"),
}
INDEXER_KEY_BYTES = 128 * 2


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
        routed = 0
        for weight, count in _routed(model):
            routed += weight.parameters * count
        assert routed == int(row["expert_params"] or 0), name
        vision = sum(weight.parameters for weight in model.outer if weight.role == "vision")
        assert vision == int(row["vision_params"] or 0) or "vision" not in name, name


def _routed(model):
    from calc.work.parameters import weights

    return [(weight, count) for weight, count in weights(model) if weight.visited is not None]


def test_cache_bytes_per_token_equal_the_facts(results):
    for name, (model, row) in results[0].items():
        unbounded = windowed = fixed = 0
        for layer, count in model.distinct_layers:
            kind = attention(layer.attention)
            growth = kind.cache_bytes(2, 2) - kind.cache_bytes(1, 2)
            fixed += count * (kind.cache_bytes(1, 2) - growth)
            if getattr(kind, "window", None) or getattr(kind, "chunk", None):
                windowed += count * growth
            else:
                # the facts list the latent alone; the indexer's key is in their note
                unbounded += count * (growth - getattr(kind, "d_index", 0) * 2)
        assert unbounded == int(row["kv_bytes_per_token_bf16_unbounded"] or 0), name
        assert windowed == int(row["kv_bytes_per_token_bf16_windowed_layers"] or 0), name
        assert fixed == int(row["state_bytes_per_seq"] or 0), name


def test_caches_measured_on_small_copies_grow_as_ours(results):
    """Slopes of transformers' own cache classes, layer by layer; Falcon's are expanded there."""
    path = Path(FOLDER) / "models" / "hf_kv_cache_measured.json"
    compared = 0
    for measured in json.loads(path.read_text()):
        if measured["name"] not in results[0] or "falcon" in measured["name"] or "layers" not in measured:
            continue
        model, row = results[0][measured["name"]]
        slopes = {layer["slope_per_tok"] for layer in measured["layers"]}
        kinds = {attention(layer.attention) for layer in model.layers}
        limited = any(getattr(kind, "window", None) or getattr(kind, "chunk", None) for kind in kinds)
        ours = {
            0.0 if limited and _is_limited(kind) else kind.cache_bytes(2, 2) - kind.cache_bytes(1, 2)
            for kind in kinds
        }
        assert {round(slope) for slope in slopes} <= {round(one) for one in ours} | {0}, measured["name"]
        compared += 1
    assert compared >= 20


def _is_limited(kind):
    return bool(getattr(kind, "window", None) or getattr(kind, "chunk", None))
