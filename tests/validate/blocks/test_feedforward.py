"""SwiGLU at 8/3 d is as large, and as much work, as the plain feed-forward at 4 d."""

import pytest

from calc.work.feedforward import Dense
from calc.work.op import Sequences
from calc.work.sharding import Split

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.feedforward import gated_width, gelu_mlp, swiglu  # noqa: E402

D, TOKENS = 48, 5


def matrices(random, width, count):
    return [random(width, D) for _ in range(count - 1)] + [random(D, width)]


def test_a_gated_layer_of_two_thirds_the_width_is_the_same_size_and_work(random, flops, elements):
    x, width = random(TOKENS, D), gated_width(D)
    assert width == 128
    gated, plain = matrices(random, int(width), 3), matrices(random, 4 * D, 2)
    assert elements(*gated) == elements(*plain) == 8 * D**2
    assert flops(swiglu, x, *gated) == flops(gelu_mlp, x, *plain) == 16 * TOKENS * D**2


@pytest.mark.parametrize(("gated", "width", "block"), [(True, 128, swiglu), (False, 192, gelu_mlp)])
def test_parameters_and_flops_are_those_of_calc(random, flops, elements, bf16, gated, width, block):
    kind, weights = Dense(D, width, gated), matrices(random, width, 3 if gated else 2)
    ops = kind.ops((Sequences("prefill", 1, TOKENS, 0),), bf16, Split())
    assert sum(op.flops for op in ops) == flops(block, random(TOKENS, D), *weights)
    assert sum(op.weight_bytes for op in ops) == 2 * elements(*weights)
    assert sum(weight.out_features * weight.in_features for weight in kind.parameters()) == elements(*weights)


def test_the_activation_moves_what_calc_counts(random, elements, bf16):
    """Gate and values are read, their product is written."""
    x, (gate, up, _) = random(TOKENS, D), matrices(random, 128, 3)
    ops = {op.name: op for op in Dense(D, 128).ops((Sequences("prefill", 1, TOKENS, 0),), bf16, Split())}
    moved = elements(x @ gate.T, x @ up.T, (x @ gate.T) * (x @ up.T))
    assert ops["mlp.activation"].bytes == 2 * moved


def test_a_gate_at_its_middle_halves_what_passes(random):
    """silu(x) tends to x / 2 for small x: the layer is then bilinear."""
    x, (gate, up, down) = random(TOKENS, D), matrices(random, 16, 3)
    small = 1e-6 * gate
    torch.testing.assert_close(swiglu(x, small, up, down) / 1e-6, ((x @ gate.T) / 2 * (x @ up.T)) @ down.T,
                               rtol=1e-3, atol=1e-3)  # fmt: skip
