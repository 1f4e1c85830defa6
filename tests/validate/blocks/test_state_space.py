"""Mamba-2: chunks give what the recurrence gives, with the work that calc counts."""

from dataclasses import replace

import pytest

from calc.work.linear_kernels import MAMBA2, StateHeads, chunk_scan, recurrent_update

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.state_space import chunked, recurrent  # noqa: E402

BATCH, TOKENS, HEADS, GROUPS, D_HEAD, D_STATE, CHUNK = 2, 12, 4, 2, 6, 10, 4
SIZES = StateHeads(GROUPS, HEADS, D_STATE, D_HEAD)


@pytest.fixture
def inputs(random):
    decay = -random(BATCH, TOKENS, HEADS).abs()
    shared = random(BATCH, TOKENS, GROUPS, D_STATE), random(BATCH, TOKENS, GROUPS, D_STATE)
    return random(BATCH, TOKENS, HEADS, D_HEAD), decay, *shared, random(BATCH, HEADS, D_HEAD, D_STATE)


@pytest.mark.parametrize("chunk", [1, 3, 4, 12])
def test_chunks_give_what_the_recurrence_gives(inputs, chunk):
    for whole, parts in zip(recurrent(*inputs), chunked(*inputs, chunk), strict=True):
        torch.testing.assert_close(parts, whole)


def test_without_decay_the_state_is_a_sum_of_outer_products(inputs):
    x, decay, b, c, state = inputs
    _, last = recurrent(x, torch.zeros_like(decay), b, c, torch.zeros_like(state))
    expected = torch.einsum("blhp,blhn->bhpn", x, b.repeat_interleave(HEADS // GROUPS, dim=2))
    torch.testing.assert_close(last, expected)


def test_the_state_forgets(inputs):
    x, decay, b, c, state = inputs
    fast = torch.full_like(decay, -50.0)
    torch.testing.assert_close(recurrent(x, fast, b, c, state)[0], recurrent(x, fast, b, c, 9 * state)[0])


def test_flops_and_bytes_of_a_step_are_those_of_calc(inputs, flops, elements, bf16):
    """5 flops a state element and token: torch's products are 4, the decay is one."""
    op, (x, _, b, c, state) = recurrent_update("", BATCH, TOKENS, SIZES, bf16, MAMBA2), inputs
    assert op.flops == flops(recurrent, *inputs) + TOKENS * state.numel()
    assert op.cache_bytes == 2 * 4 * state.numel()
    assert op.activation_bytes == 2 * elements(x, b, c, recurrent(*inputs)[0])


def test_flops_and_bytes_of_a_scan_are_those_of_calc(inputs, flops, elements, bf16):
    """States after each chunk are written and read again in 16 bits."""
    op, (x, _, b, c, state) = chunk_scan("", BATCH, TOKENS, SIZES, bf16, replace(MAMBA2, chunk=CHUNK)), inputs
    assert op.flops == flops(chunked, *inputs, CHUNK)
    assert op.cache_bytes == 2 * 4 * state.numel()
    between = 2 * (TOKENS // CHUNK) * state.numel()
    assert op.activation_bytes == 2 * (elements(x, b, c, chunked(*inputs, CHUNK)[0]) + between)
