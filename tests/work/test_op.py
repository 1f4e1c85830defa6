"""Counting of single operations."""

import pytest

from calc.work.op import Precision, Sequences, allreduce, elementwise, gemm

BF16 = Precision(bits={"attention": 16, "expert": 4.25}, kv_bytes=2, math="bf16")


def test_a_gemm_counts_a_multiply_add_as_two_and_reads_its_weight_once():
    op = gemm("proj", "attention", m=8, n=1024, k=4096, precision=BF16)
    assert op.flops == 2 * 8 * 1024 * 4096
    assert op.weight_bytes == 2 * 1024 * 4096
    assert op.activation_bytes == 2 * 8 * (1024 + 4096)
    assert op.bytes == op.weight_bytes + op.activation_bytes


def test_weight_bytes_follow_the_bits_of_the_module_class():
    op = gemm("up", "expert", m=1, n=32, k=32, precision=BF16)
    assert op.weight_bytes == 32 * 32 * 4.25 / 8


def test_math_runs_in_the_formats_dtype_only_where_weights_are_quantised():
    fp8 = Precision(bits={"attention": 8, "lm_head": 16}, kv_bytes=2, math="fp8")
    assert gemm("q", "attention", 1, 1, 1, fp8).dtype == "fp8"
    assert gemm("head", "lm_head", 1, 1, 1, fp8).dtype == "bf16"


def test_logits_are_needed_for_one_row_of_each_sequence_not_for_each_prompt_token():
    group = Sequences("prefill", n_sequences=4, new_tokens=1000, past_tokens=0)
    assert group.tokens == 4000
    assert group.logit_rows == 4


@pytest.mark.parametrize("elements", [1, 4096])
def test_an_allreduce_moves_its_elements_in_the_activation_width(elements):
    assert allreduce("sum", elements, 8, BF16).comm_bytes == 2 * elements


def test_elementwise_passes_read_and_write():
    assert elementwise("norm", 100, 50, BF16).activation_bytes == 2 * 150
