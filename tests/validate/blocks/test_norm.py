"""RMS norm: length, scale, precision, and what the fused kernel moves."""

from dataclasses import replace

import pytest

from calc.specs.model_files import load_model
from calc.work.op import Sequences
from calc.work.step import step_ops

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.norm import add_rms_norm, rms_norm  # noqa: E402


def test_it_agrees_with_torch(random):
    x, weight = random(5, 32), random(32)
    torch.testing.assert_close(
        rms_norm(x, weight, 1e-5), torch.nn.functional.rms_norm(x, (32,), weight, 1e-5)
    )


def test_the_scale_of_the_input_does_not_matter(random):
    x, weight = random(5, 32), random(32)
    torch.testing.assert_close(rms_norm(1000 * x, weight, 0.0), rms_norm(x, weight, 0.0))


def test_squares_of_16_bit_activations_do_not_overflow():
    x = torch.full((4,), 1000.0, dtype=torch.float16)
    assert (x * x).isinf().all()
    torch.testing.assert_close(rms_norm(x, torch.ones_like(x)), torch.ones_like(x))


def test_with_the_residual_it_is_the_norm_of_the_sum(random):
    x, residual, weight = random(5, 32), random(5, 32), random(32)
    normed, total = add_rms_norm(x, residual, weight)
    torch.testing.assert_close(total, x + residual)
    torch.testing.assert_close(normed, rms_norm(x + residual, weight))


def test_the_fused_kernel_moves_what_calc_counts(random, bf16, elements):
    model, bits = load_model("llama-3.1-8b"), bf16.bits | {"embedding": 16.0, "lm_head": 16.0}
    ops = step_ops(model, (Sequences("decode", 3, 1, 99),), replace(bf16, bits=bits))
    norm = next(op for op in ops if op.name == "norm_and_residual")
    x, residual = random(3, model.d_model), random(3, model.d_model)
    assert norm.bytes == 2 * elements(x, residual, *add_rms_norm(x, residual, random(model.d_model)))
