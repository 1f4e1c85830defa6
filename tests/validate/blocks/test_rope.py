"""Rotary positions: scores know distances only; the pass moves what calc counts."""

import pytest

from calc.work.grouped_query import GroupedQuery
from calc.work.op import Sequences

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.rope import angles, rotated  # noqa: E402


@pytest.mark.parametrize("shift", [1, 17, 4096])
def test_scores_depend_on_the_distance_only(random, shift):
    q, k, at = random(5, 8), random(5, 8), torch.arange(5)
    here = rotated(q, at) @ rotated(k, at).T
    there = rotated(q, at + shift) @ rotated(k, at + shift).T
    torch.testing.assert_close(here, there)
    moved = rotated(q, at + shift) @ rotated(k, at).T
    assert not torch.allclose(here, moved)


def test_position_zero_changes_nothing_and_no_position_changes_a_length(random):
    x = random(3, 6, 64)
    torch.testing.assert_close(rotated(x, torch.zeros(6)), x)
    torch.testing.assert_close(rotated(x, torch.arange(6)).norm(dim=-1), x.norm(dim=-1))


def test_pairs_turn_ever_slower():
    """The first pair turns by one radian a token, the last by nearly 1 / base."""
    one = angles(torch.tensor([1.0]), 128, base=10_000.0)[0]
    assert one[0] == 1
    assert one[-1].item() == pytest.approx(10_000 ** (-126 / 128))
    assert (one.diff() < 0).all()


def test_it_agrees_with_complex_multiplication(random):
    x, at = random(7, 16), torch.arange(7)
    turned = torch.complex(x[:, :8], x[:, 8:]) * torch.exp(1j * angles(at, 16))
    torch.testing.assert_close(rotated(x, at), torch.cat([turned.real, turned.imag], dim=-1))


def test_the_pass_moves_what_calc_counts(random, bf16, elements):
    kind = GroupedQuery(d_model=64, n_heads=4, n_kv_heads=2, d_head=16)
    ops = {op.name: op for op in kind.ops((Sequences("prefill", 1, 6, 0),), bf16, 1)}
    q, k, at = random(1, 4, 6, 16), random(1, 2, 6, 16), torch.arange(6)
    moved = elements(q, k, rotated(q, at), rotated(k, at))
    assert ops["attention.rope"].bytes == 2 * moved
