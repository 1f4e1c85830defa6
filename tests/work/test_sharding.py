"""What one rank of a tensor-parallel group holds."""

import numpy as np
import pytest

import calc
from calc.specs.model import Weight
from calc.work.sharding import check_cp, check_tp, parameters_per_device, tp_choices


@pytest.mark.parametrize(
    ("split", "tp", "share"),
    [
        ("none", 8, 1),
        ("out", 8, 1 / 8),
        ("in", 4, 1 / 4),
        ("kv", 4, 1 / 4),
        ("kv", 8, 1 / 8),
        ("kv", 16, 1 / 8),
    ],
)
def test_a_rank_holds_its_share_and_copies_kv_heads_beyond_their_number(split, tp, share):
    weight = Weight("w", "attention", 1024, 512, split=split, kv_heads=8)
    assert parameters_per_device(weight, tp) == 1024 * 512 * share


def test_a_split_that_does_not_divide_the_heads_is_refused_with_the_allowed_ones():
    with pytest.raises(
        calc.SpecError, match=r"tp: 3 does not divide the 64 attention heads .* 1, 2, 4, 8, 16, 32, 64"
    ):
        check_tp(calc.load_model("llama-3.1-70b"), 3)


def test_one_wrong_value_in_an_array_is_refused():
    with pytest.raises(calc.SpecError, match="does not divide"):
        check_tp(calc.load_model("llama-3.1-70b"), np.array([1, 2, 3]))


def test_choices_are_the_divisors_of_the_heads():
    assert tp_choices(calc.load_model("llama-3.1-8b"), (1, 2, 3, 4, 6, 8, 64)) == [1, 2, 4, 8]


@pytest.mark.parametrize(("model", "tp", "most"), [("deepseek-v3", 8, 8), ("llama-3.1-70b", 16, 2)])
def test_tokens_are_shared_out_among_ranks_with_the_same_heads_only(model, tp, most):
    """Llama's 8 KV heads are held twice by 16 ranks, DeepSeek's latent by all."""
    m = calc.load_model(model)
    check_cp(m, tp, most)
    check_cp(m, np.array([tp, tp]), np.array([1, most]))
    with pytest.raises(calc.SpecError, match=f"^cp: {2 * most} "):
        check_cp(m, tp, 2 * most)
