"""Latent attention: the absorbed form gives what the expanded form gives, from a smaller cache."""

import pytest

from calc.work.latent_attention import LatentAttention
from calc.work.op import Sequences

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.attention import visible  # noqa: E402
from validate.blocks.latent import Expansion, Latents, absorbed, expanded  # noqa: E402

HEADS, RANK, NOPE, ROPE, VALUE = 4, 16, 8, 4, 6
KIND = LatentAttention(d_model=32, n_heads=HEADS, q_lora_rank=0, kv_lora_rank=RANK, d_nope=NOPE, d_rope=ROPE,
                       d_value=VALUE)  # fmt: skip


@pytest.fixture
def inputs(random):
    def make(new, past, batch=2):
        q = random(batch, HEADS, new, NOPE), random(batch, HEADS, new, ROPE)
        cached = Latents(random(batch, past + new, RANK), random(batch, past + new, ROPE))
        weights = Expansion(random(HEADS, NOPE, RANK) / 4, random(HEADS, VALUE, RANK) / 4)
        return *q, cached, weights, visible(torch.arange(past, past + new), torch.arange(past + new))

    return make


@pytest.mark.parametrize(("new", "past"), [(1, 0), (1, 11), (6, 0), (4, 9)])
def test_both_forms_give_the_same(inputs, new, past):
    args = inputs(new, past)
    torch.testing.assert_close(absorbed(*args), expanded(*args))


def test_a_token_is_cached_once_for_all_heads(inputs, elements):
    """rank + d_rope values a token, whatever the number of heads."""
    cached = inputs(1, 99, batch=1)[2]
    assert KIND.cache_bytes(100, 2) == 2 * elements(*cached)
    assert KIND.cache_bytes(1, 2) == 2 * (RANK + ROPE)


def named(group, bf16):
    return {op.name: op for op in KIND.ops((group,), bf16, 1)}


def test_decode_counts_the_absorbed_form(inputs, flops, elements, bf16):
    args = inputs(1, 11)
    ops = named(Sequences("decode", 2, 1, 11), bf16)
    counted = [ops[f"attention.{name}"] for name in ("absorb_query", "decode", "absorb_value")]
    assert sum(op.flops for op in counted) == flops(absorbed, *args)
    new = 2 * (RANK + ROPE)
    assert ops["attention.decode"].cache_bytes == 2 * (elements(*args[2]) + new)
    absorbing = ops["attention.absorb_query"].weight_bytes + ops["attention.absorb_value"].weight_bytes
    assert absorbing == 2 * elements(*args[3])


def test_prefill_counts_the_expanded_form(inputs, flops, elements, bf16):
    args = inputs(6, 0)
    ops, mask = named(Sequences("prefill", 2, 6, 0), bf16), args[4]
    square = 2 * 2 * HEADS * mask.numel() * (NOPE + ROPE + VALUE)
    projection = ops["attention.kv_b_proj"]
    assert flops(expanded, *args) - square == projection.flops
    assert ops["attention.prefill"].flops == square * mask.sum().item() / mask.numel()
    assert projection.weight_bytes == 2 * elements(*args[3])


def test_absorbing_pays_in_decode_and_not_in_prefill(bf16):
    """DeepSeek-V3: per pair 1088 products for 320, but no expansion of what is cached."""
    kind = LatentAttention(7168, 128, 1536, 512, 128, 64, 128)
    decode = sum(op.flops for op in kind.ops((Sequences("decode", 1, 1, 8191),), bf16, 1) if _is_core(op))
    prefill = [op for op in kind.ops((Sequences("prefill", 1, 8192, 0),), bf16, 1) if _is_core(op)]
    expansion = next(op for op in prefill if op.name == "attention.kv_b_proj").flops
    assert decode < expansion / 50
    assert sum(op.flops for op in prefill) < 8192 * decode / 2 * 0.5


def _is_core(op):
    return op.name in (
        "attention.absorb_query", "attention.decode", "attention.absorb_value", "attention.kv_b_proj",
        "attention.prefill",
    )  # fmt: skip
