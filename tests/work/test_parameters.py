"""Parameter counts against published integers, and active counts against published figures."""

import csv

import pytest

from calc.specs.model import ROLES, Layer, Model, Part, Weight
from calc.specs.model_files import load_model, model_ids
from calc.specs.quantization import stored_bits, weight_format
from calc.work.op import Precision, Sequences
from calc.work.parameters import (
    active_parameters,
    layer_weights,
    mtp_parameters,
    mtp_weights,
    parameter_counts,
    total_parameters,
    weights,
)
from calc.work.step import step_ops

#: model -> (ours minus golden, why): nothing else may differ
KNOWN_DIFFERENCES = {
    "deepseek-v3": (-58 * 256, "e_score_correction_bias of 58 routed layers: buffers, not parameters"),
    "falcon-7b": (-65024 * 4544, "the checkpoint stores the tied lm_head a second time"),
    "falcon-40b": (-65024 * 8192, "the checkpoint stores the tied lm_head a second time"),
    "kimi-vl-a3b": (-3_392, "score corrections of 26 routed layers (1,664 buffers); 1,728 are not traced"),
    "step-3.7-flash": (-1_980_351_232, "counted with another vocabulary (128,815) and a vision tower"),
    "step-3.7-flash-fp8": (-1_980_351_232, "counted with another vocabulary (128,815) and a vision tower"),
}


def golden(root):
    with open(root / "tests" / "golden" / "parameters.csv", encoding="utf-8") as stream:
        return {row["model"]: int(row["parameters"]) for row in csv.DictReader(stream)}


def test_every_model_has_its_published_number_of_parameters_to_the_last(root):
    ours = {name: total_parameters(load_model(name)) for name in model_ids()}
    differences = {name: ours[name] - count for name, count in golden(root).items() if ours[name] != count}
    assert differences == {name: difference for name, (difference, _) in KNOWN_DIFFERENCES.items()}


def test_every_shipped_model_has_a_golden_count(root):
    assert sorted(golden(root)) == sorted(model_ids())


def test_published_figures_in_the_specs_are_the_golden_ones(root):
    counts = golden(root)
    for name in model_ids():
        published = load_model(name).published
        if published:
            assert published["parameters"].value == counts[name], name


@pytest.mark.parametrize(
    ("name", "count"),
    [("llama-3.1-8b", 8_030_261_248), ("llama-3.1-70b", 70_553_706_496), ("llama-4-scout", 108_641_793_536)],
)
def test_well_known_counts(name, count):
    assert total_parameters(load_model(name)) == count


@pytest.mark.parametrize("name", model_ids())
def test_classes_sum_to_the_total_and_active_is_less_only_where_experts_are_routed(name):
    model = load_model(name)
    total = total_parameters(model)
    assert sum(parameter_counts(model).values()) == total
    assert (active_parameters(model) < total) == model.is_moe
    assert active_parameters(model, with_embedding=False) <= active_parameters(model)


#: active parameters in billions as computed or published; with the input embedding or without
ACTIVE = [
    ("gpt-oss-120b", True, 5.712), ("gpt-oss-120b", False, 5.13),
    ("gpt-oss-20b", True, 4.187), ("gpt-oss-20b", False, 3.61),
    ("deepseek-v2-lite", True, 2.66), ("deepseek-v2-lite", False, 2.45),
    ("mixtral-8x7b", True, 12.88), ("qwen3-235b-a22b", True, 22.19), ("deepseek-v3", True, 37.55),
    ("dbrx", True, 36.47), ("glm-5", True, 41.78), ("kimi-k2", True, 32.86),
    ("minimax-m2.5", True, 11.03), ("qwen3-next-80b-a3b", True, 3.875), ("glm-4.5-air", True, 13.42),
]  # fmt: skip


@pytest.mark.parametrize(("name", "with_embedding", "billions"), ACTIVE)
def test_active_parameters_agree_with_published_figures_in_their_convention(name, with_embedding, billions):
    digits = len(str(billions).partition(".")[2])
    assert round(active_parameters(load_model(name), with_embedding) / 1e9, digits) == billions


def test_a_tied_embedding_counts_once_and_stays_active_as_the_lm_head():
    model = load_model("qwen3-0.6b")
    counts = parameter_counts(model)
    assert counts["embedding"] == 151_936 * 1024
    assert "lm_head" not in counts
    assert active_parameters(model, with_embedding=False) == total_parameters(model)


def test_position_tables_are_input_embeddings():
    model = load_model("gpt2")
    assert total_parameters(model) - active_parameters(model, with_embedding=False) == 1024 * 768


def test_deepseek_v3_with_its_next_token_layer_is_the_checkpoint_of_684_billion():
    """Of the checkpoint's own counts by dtype, 680,571,043,840 parameters are in fp8."""
    model = load_model("deepseek-v3")
    rows = [*weights(model), *mtp_weights(model)]
    fp8 = sum(weight.parameters * count for weight, count in rows if weight.role not in model.checkpoint.kept)
    assert fp8 == 680_571_043_840
    assert total_parameters(model) + mtp_parameters(model) == pytest.approx(684_531_386_000, rel=1e-4)


def test_glm_4_5_with_its_next_token_layer_is_358_billion():
    model = load_model("glm-4.5")
    assert round((total_parameters(model) + mtp_parameters(model)) / 1e9, 1) == 358.3


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("gpt-oss-20b", 13_761_264_768),
        ("gpt-oss-120b", 65_248_815_744),
        ("qwen3-235b-a22b", 470_187_269_120),
    ],
)
def test_files_have_their_published_size_to_the_byte(name, size):
    """``total_size`` of model.safetensors.index.json."""
    model = load_model(name)
    fmt = weight_format(model.checkpoint.weight_dtype)
    bits = sum(w.parameters * n * stored_bits(w.role, fmt, model.checkpoint.kept) for w, n in weights(model))
    assert bits / 8 == size


WITH_ENCODER = [name for name in model_ids() if load_model(name).encoder_tokens is not None]


@pytest.mark.parametrize("name", sorted(set(model_ids()) - set(WITH_ENCODER)))
def test_matrix_products_of_one_decoded_token_are_two_flops_per_active_parameter(name):
    """Counted twice over: operations are written apart from weights.

    Left out by the operations: the scalar gate of a shared expert (under 1e-4) and, in
    Gemma 4 E2B and E4B, the projection of per-layer embeddings outside of the layers (0.6 %).
    """
    model = load_model(name)
    precision = Precision(bits=dict.fromkeys(ROLES, 16), kv_bytes=2, math="bf16")
    ops = step_ops(model, (Sequences("decode", 1, 1, 0),), precision)
    flops = sum(op.flops * op.count for op in ops if op.kind in ("gemm", "bmm", "moe"))
    matrices = ("attention", "feedforward", "expert", "shared_expert", "router", "lm_head")
    active = sum(w.active_parameters * count for w, count in weights(model) if w.role in matrices)
    active += model.vocab_size * model.d_model if model.tied_embeddings else 0
    assert flops == pytest.approx(2 * active, rel=7e-3 if name in ("gemma-4-e2b", "gemma-4-e4b") else 1e-4)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_matrix_products_of_a_model_with_an_encoder_are_two_flops_per_parameter_and_token(name):
    """Decode leaves out the encoder and the keys and values of its positions; prefill runs them once."""
    model = load_model(name)
    precision = Precision(bits=dict.fromkeys(ROLES, 16), kv_bytes=2, math="bf16")
    head = model.vocab_size * model.d_model
    encoder = matrices(w for layer in model.encoder_layers for w in layer_weights(layer))
    decoder = [w for layer in model.layers for w in layer_weights(layer)]
    cross = matrices(w for w in decoder if w.name in ("cross_attention.k_proj", "cross_attention.v_proj"))
    rest = matrices(decoder) - cross
    assert gemm_flops(model, Sequences("decode", 3, 1, 0), precision) == 2 * 3 * (rest + head)
    positions = model.encoder_tokens or 40
    read = 40 if model.encoder_tokens else 1  # T5 and BART read one start token
    expected = 3 * (positions * (encoder + cross) + read * rest + head)
    assert gemm_flops(model, Sequences("prefill", 3, 40, 0), precision) == 2 * expected


def matrices(rows):
    return sum(w.parameters for w in rows if w.role in ("attention", "feedforward"))


def gemm_flops(model, group, precision):
    return sum(
        op.flops * op.count for op in step_ops(model, (group,), precision) if op.kind in ("gemm", "bmm")
    )


def test_kimi_k3_is_the_sum_of_the_tensors_of_its_checkpoint():
    """Shapes as the files hold them; a_log with its 96 heads, which they pad to 128."""
    d, heads, inner = 7168, 96, 12288
    delta = 5 * inner * d + 3 * inner * 4 + 128 * d + inner * 128 + inner + heads + heads * d + 128
    queries = 1536 * d + 1536 + heads * 192 * 1536
    latent = queries + 576 * d + 512 + heads * 256 * 512 + 2 * inner * d
    dense = 3 * 33792 * d
    routed = 896 * d + 3 * 6144 * d + 2 * 3584 * d + 3584 + 896 * 3 * 3072 * 3584
    tower = 1024 * 588 + 4096 * 1024 + 27 * (4 * 1536 * 1024 + 2 * 4096 * 1024 + 2048) + 1024
    projector = 4096 * 4096 + d * 4096 + d
    around = 2 * 163840 * d + 3 * d
    expected = 69 * delta + 24 * latent + dense + 92 * routed + 93 * 6 * d + tower + projector + around
    model = load_model("kimi-k3")
    assert total_parameters(model) == expected
    text = active_parameters(model, with_embedding=False) - tower - projector
    assert round(text / 1e9) == 104  # as published


def test_a_layer_without_attention_or_feed_forward_is_counted():
    layers = (
        Layer(None, Part.of("dense", d_model=4, d_ff=8)),
        Layer(None, None, (Weight("norm", "norm", 4),)),
    )
    model = Model("m", "M", "test", 4, 10, 128, layers, (), tied_embeddings=False)
    assert parameter_counts(model) == {"feedforward": 3 * 4 * 8, "norm": 4}
