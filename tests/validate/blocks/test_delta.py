"""The gated delta rule: chunks give what the recurrence gives, with the work that calc counts."""

from dataclasses import replace

import pytest

from calc.work.linear_kernels import GATED_DELTA, StateHeads, chunk_scan, recurrent_update

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from torch.nn.functional import normalize  # noqa: E402

from validate.blocks.delta import chunked, recurrent  # noqa: E402

BATCH, HEADS, TOKENS, D_KEY, D_VALUE, CHUNK = 2, 3, 12, 8, 6, 4
SIZES = StateHeads(HEADS, HEADS, D_KEY, D_VALUE)


@pytest.fixture
def inputs(random):
    q, k = random(BATCH, HEADS, TOKENS, D_KEY), normalize(random(BATCH, HEADS, TOKENS, D_KEY), dim=-1)
    decay, beta = -random(BATCH, HEADS, TOKENS).abs(), random(BATCH, HEADS, TOKENS).sigmoid()
    v, state = random(BATCH, HEADS, TOKENS, D_VALUE), random(BATCH, HEADS, D_KEY, D_VALUE)
    return q, k, v, decay, beta, state


@pytest.mark.parametrize("chunk", [1, 3, 4, 12])
def test_chunks_give_what_the_recurrence_gives(inputs, chunk):
    for whole, parts in zip(recurrent(*inputs), chunked(*inputs, chunk), strict=True):
        torch.testing.assert_close(parts, whole)


def test_a_key_seen_again_gives_its_newest_value(inputs):
    """With beta 1 and no decay a write replaces what the state held for the key."""
    _, k, v, decay, beta, state = inputs
    one = k[:, :, :1].expand(-1, -1, TOKENS, -1)
    output, _ = recurrent(one, one, v, 0 * decay, torch.ones_like(beta), state)
    torch.testing.assert_close(output, v)


def test_with_beta_zero_nothing_is_learned(inputs):
    q, k, v, decay, beta, state = inputs
    _, last = recurrent(q, k, v, decay, 0 * beta, state)
    torch.testing.assert_close(last, decay.sum(dim=-1).exp()[..., None, None] * state)


def test_flops_and_bytes_of_a_step_are_those_of_calc(inputs, flops, elements, bf16):
    """7 flops a state element and token: torch's products are 6, the decay is one."""
    op, (q, k, v, _, _, state) = recurrent_update("", BATCH, TOKENS, SIZES, bf16, GATED_DELTA), inputs
    assert op.flops == flops(recurrent, *inputs) + TOKENS * state.numel()
    assert op.cache_bytes == 2 * 4 * state.numel()
    assert op.activation_bytes == 2 * elements(q, k, v, recurrent(*inputs)[0])


def test_flops_and_bytes_of_a_scan_are_those_of_calc(inputs, flops, elements, bf16):
    """torch counts the products; calc adds chunk**2 a token and head for the triangular inverse."""
    op = chunk_scan("", BATCH, TOKENS, SIZES, bf16, replace(GATED_DELTA, chunk=CHUNK))
    inverse = BATCH * HEADS * TOKENS * CHUNK**2
    assert op.flops == flops(chunked, *inputs, CHUNK) + inverse
    q, k, v, _, _, state = inputs
    assert op.cache_bytes == 2 * 4 * state.numel()
    assert op.activation_bytes == 2 * elements(q, k, v, chunked(*inputs, CHUNK)[0])
