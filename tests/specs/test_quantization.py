"""Weight formats: bits, bytes of matrices, names; GGUF mixtures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.specs.errors import SpecError
from calc.specs.gguf import FILE_TYPES, Shape, more_bits, tensor_type
from calc.specs.quantization import (
    WEIGHT_FORMATS,
    Checkpoint,
    default_format,
    kv_bytes,
    stored_bits,
    weight_format,
)

UNIFORM = [name for name, fmt in WEIGHT_FORMATS.items() if not fmt.mixed]


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp8", 8), ("fp8-channel", 8), ("fp8-block", 8.001953125), ("fp8-block-ue8m0", 8.00048828125),
        ("mxfp8", 8.25), ("int8", 8), ("int8-g128", 8.125), ("int4", 4.125), ("int4-awq", 4.15625),
        ("int4-g32", 4.5), ("int4-g64", 4.25), ("mxfp4", 4.25), ("nvfp4", 4.5), ("nf4", 4.126953125),
        ("nf4-single", 4.5), ("bf16", 16), ("fp32", 32), ("q4_k_m", 4.8944), ("q8_0", 8.5008),
    ],
)  # fmt: skip
def test_bits_of_a_weight_with_its_share_of_a_scale(name, bits):
    assert weight_format(name).bits == bits


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("bfloat16", "bf16"), ("float16", "fp16"), ("float32", "fp32"), ("W4A16", "int4"), ("w8a8", "int8"),
        ("w8a16", "int8-a16"), ("fp8-dynamic", "fp8-channel"), ("fp8_e4m3", "fp8"), ("bnb-nf4", "nf4"),
        ("bnb-4bit", "nf4"), ("bitsandbytes", "nf4"), ("gptq", "int4"), ("gptq_marlin", "int4"),
        ("awq", "int4-awq"), ("fp4", "nvfp4"), ("Q4_K_M", "q4_k_m"), ("q4-k-m", "q4_k_m"), ("gguf", "q4_k_m"),
    ],
)  # fmt: skip
def test_names_that_users_type_are_known(alias, name):
    assert weight_format(alias).name == name


def test_an_unknown_format_gets_the_nearest_name():
    with pytest.raises(SpecError, match=r"unknown weight_dtype 'mxfp5': did you mean 'mxfp[48]'"):
        weight_format("mxfp5")
    with pytest.raises(SpecError, match="unknown kv_dtype"):
        kv_bytes("int4")


@pytest.mark.parametrize("name", UNIFORM)
@given(rows=st.integers(1, 5000), columns=st.integers(1, 5000), copies=st.integers(1, 64))
def test_a_matrix_takes_at_least_its_bits_and_the_file_at_least_that(name, rows, columns, copies):
    fmt = weight_format(name)
    held = fmt.matrix_bytes(rows, columns, copies)
    assert held >= rows * columns * copies * fmt.bits / 8 * (1 - 1e-12)
    assert fmt.matrix_bytes(rows, columns, copies, file=True) >= held
    assert fmt.matrix_bytes(rows + 1, columns, copies) > held


@pytest.mark.parametrize("name", UNIFORM)
def test_bytes_of_a_large_matrix_are_its_effective_bits(name):
    fmt = weight_format(name)
    assert 8 * fmt.matrix_bytes(8192, 8192) / 8192**2 == pytest.approx(fmt.bits, abs=0.003)


def test_blocks_that_are_filled_in_part_have_a_whole_scale():
    assert weight_format("fp8-block").matrix_bytes(129, 128) == 129 * 128 + 2 * 4
    assert weight_format("mxfp4").matrix_bytes(1, 33) == 33 / 2 + 2
    assert weight_format("fp8-channel").matrix_bytes(10, 64, copies=3) == 3 * (640 + 20)
    assert weight_format("fp8").matrix_bytes(10, 64, copies=3) == 3 * (640 + 4)


def test_gptq_files_hold_zero_points_and_the_group_of_each_input():
    held, file = (weight_format("int4").matrix_bytes(4096, 4096, file=file) for file in (False, True))
    assert file - held == 4096 * 32 * 4 / 8 + 4 * 4096


def test_bytes_take_arrays_of_shapes():
    fmt = weight_format("fp8-block")
    sizes = fmt.matrix_bytes(np.array([128, 256, 300]), 512)
    assert sizes.tolist() == [fmt.matrix_bytes(rows, 512) for rows in (128, 256, 300)]


@pytest.mark.parametrize(
    ("name", "math"),
    [
        ("int4", "bf16"), ("int4-awq", "bf16"), ("int8-a16", "bf16"), ("int8", "int8"), ("fp8-block", "fp8"),
        ("nvfp4", "fp4"), ("nvfp4-a16", "bf16"), ("mxfp4", "bf16"), ("mxfp8", "fp8"), ("nf4", "bf16"),
        ("int4-a8", "fp8"), ("q4_k_m", "fp16"),
    ],
)  # fmt: skip
def test_weight_only_formats_compute_in_sixteen_bits(name, math):
    assert weight_format(name).math == math


def test_formats_leave_embeddings_norms_and_routers_alone_and_plain_ones_nothing():
    for name in UNIFORM:
        fmt = weight_format(name)
        assert ("norm" in fmt.kept) == (fmt.bits < 16)
    assert stored_bits("lm_head", weight_format("int4")) == 16
    assert default_format("shared_expert.gate", "shared_expert", weight_format("fp8")) == "bf16"


def test_a_checkpoint_answers_by_layer_and_by_weight():
    groups = ((), (("mlp.up_proj", "bf16"),))
    checkpoint = Checkpoint(
        "nvfp4", "bf16", outer=(("lm_head", "fp8"),), groups=groups, layer_groups=(1, 0, 0)
    )
    named = [checkpoint.format_of("mlp.up_proj", "feedforward", layer) for layer in (0, 1, 2, 7)]
    assert named == ["bf16", "nvfp4", "nvfp4", "nvfp4"]
    assert checkpoint.format_of("lm_head", "lm_head") == "fp8"
    assert checkpoint.format_of("embed_tokens", "embedding") == "bf16"
    stage = checkpoint.stage(1, 2)
    assert [stage.format_of("mlp.up_proj", "feedforward", layer) for layer in (0, 1)] == ["nvfp4", "nvfp4"]


LLAMA = Shape(n_layers=32, n_experts=0, heads_per_kv_head=4, tied=False, fused_qkv=False, large=False)


def types(file_type, name, role="attention", columns=4096, shape=LLAMA):
    return [tensor_type(file_type, name, role, columns, layer, shape) for layer in range(shape.n_layers)]


def test_half_of_the_layers_get_more_bits_in_the_m_types():
    assert sum(more_bits(i, 32) for i in range(32)) == 16
    assert types("q4_k_m", "attention.v_proj").count("q6_k") == 16
    assert types("q4_k_m", "mlp.down_proj", "feedforward", 14336).count("q6_k") == 16
    assert set(types("q4_k_m", "attention.q_proj")) == {"q4_k"}


def test_the_output_is_q6_and_a_tied_embedding_is_the_output():
    tied = Shape(32, 0, 4, tied=True, fused_qkv=False, large=False)
    assert tensor_type("q4_k_m", "lm_head", "lm_head", 4096, -1, LLAMA) == "q6_k"
    assert tensor_type("q4_k_m", "embed_tokens", "embedding", 4096, -1, LLAMA) == "q4_k"
    assert tensor_type("q4_k_m", "embed_tokens", "embedding", 4096, -1, tied) == "q6_k"
    assert tensor_type("q8_0", "lm_head", "lm_head", 4096, -1, LLAMA) == "q8_0"


def test_rows_that_are_no_multiple_of_256_fall_back_and_norms_stay():
    assert set(types("q4_k_s", "mlp.up_proj", "feedforward", 2880)) == {"q5_0"}
    assert set(types("q6_k", "mlp.up_proj", "feedforward", 2880)) == {"q8_0"}
    assert set(types("q4_k_m", "mlp.up_proj", "feedforward", 100)) == {"f16"}
    assert set(types("q4_k_m", "input_norm", "norm", 1)) == {"f32"}


def test_eight_experts_get_better_attention():
    mixtral = Shape(32, 8, 4, tied=False, fused_qkv=False, large=False)
    assert set(types("q4_k_m", "attention.v_proj", shape=mixtral)) == {"q8_0"}
    assert set(types("q4_k_m", "attention.o_proj", shape=mixtral)) == {"q5_k"}


@pytest.mark.parametrize("file_type", FILE_TYPES)
def test_every_file_type_gives_every_tensor_a_type_that_is_known(file_type):
    for role, name in (
        ("attention", "attention.v_proj"),
        ("feedforward", "mlp.down_proj"),
        ("expert", "moe.x"),
    ):
        for kind in types(file_type, name, role):
            assert weight_format(f"ggml-{kind}").bits >= 2.6
