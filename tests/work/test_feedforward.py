"""Feed-forward kinds: weights, experts visited, operations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.specs.errors import SpecError
from calc.specs.model import ROLES, Part
from calc.work.expert_load import experts_hit
from calc.work.feedforward import Dense, MixtureOfExperts, feedforward
from calc.work.op import Precision, Sequences
from calc.work.sharding import Split

BF16 = Precision(bits=dict.fromkeys(ROLES, 16), kv_bytes=2, math="bf16")


def step(kind, tokens, tp=1):
    return kind.ops((Sequences("prefill", 1, tokens, 0),), BF16, Split(tp))


def test_a_gated_feed_forward_has_three_matrices_and_a_plain_one_two():
    assert sum(w.parameters for w in Dense(8, 32).parameters()) == 3 * 8 * 32
    assert sum(w.parameters for w in Dense(8, 32, gated=False).parameters()) == 2 * 8 * 32
    plain = Dense(8, 32, gated=False, bias=True)
    assert sum(w.parameters for w in plain.parameters()) == 2 * 8 * 32 + 32 + 8


def test_a_per_layer_embedding_adds_two_matrices_with_their_operations():
    part = Dense(8, 32, d_per_layer_input=4)
    assert sum(w.parameters for w in part.parameters()) == 3 * 8 * 32 + 2 * 8 * 4
    assert sum(op.weight_bytes for op in step(part, 1)) == 2 * (3 * 8 * 32 + 2 * 8 * 4)


def test_a_token_visits_its_experts_and_every_shared_one():
    part = MixtureOfExperts(8, 16, n_experts=64, top_k=6, d_shared=32, shared_gate=True)
    rows = part.parameters()
    routed = [w for w in rows if w.role == "expert"]
    assert sum(w.parameters for w in routed) == 64 * 3 * 8 * 16
    assert sum(w.active_parameters for w in routed) == 6 * 3 * 8 * 16
    shared = [w for w in rows if w.role == "shared_expert"]
    assert sum(w.active_parameters for w in shared) == sum(w.parameters for w in shared) == 3 * 8 * 32 + 8


def test_latent_experts_work_in_a_narrower_space_with_one_projection_each_way():
    """Nemotron-3 Super: experts of 2688 on 1024 of 4096 values, two matrices each."""
    part = MixtureOfExperts(4096, 2688, 512, 22, d_shared=5376, gated=False, d_latent=1024)
    counts = {w.name: w.parameters for w in part.parameters()}
    assert counts["moe.experts.up_proj"] + counts["moe.experts.down_proj"] == 512 * 2 * 2688 * 1024
    assert counts["moe.latent_down"] + counts["moe.latent_up"] == 2 * 4096 * 1024
    active = sum(w.active_parameters for w in part.parameters())
    assert sum(op.flops for op in step(part, 3) if op.kind in ("gemm", "moe")) == 2 * 3 * active
    normed = MixtureOfExperts(4096, 2688, 512, 22, d_latent=1024, latent_norm=True)
    assert sum(w.parameters for w in normed.parameters() if w.role == "norm") == 1024


def test_biases_of_experts_are_visited_with_their_expert():
    part = MixtureOfExperts(8, 16, n_experts=32, top_k=4, expert_bias=True, router_bias=True)
    biases = [w for w in part.parameters() if w.role == "bias"]
    assert sum(w.parameters for w in biases) == 32 * (2 * 16 + 8) + 32
    assert sum(w.active_parameters for w in biases) == 4 * (2 * 16 + 8) + 32


@given(tokens=st.integers(0, 10**5), n_experts=st.integers(1, 512), data=st.data())
def test_experts_hit_lie_between_those_of_one_token_and_all(tokens, n_experts, data):
    top_k = data.draw(st.integers(1, n_experts))
    hit = experts_hit(tokens, n_experts, top_k)
    assert hit <= min(n_experts, tokens * top_k) * (1 + 1e-9)
    assert hit >= (top_k if tokens else 0) * (1 - 1e-9)


def test_experts_hit_agree_with_drawing_them():
    rng = np.random.default_rng(1)
    drawn = [
        len({expert for _ in range(16) for expert in rng.choice(64, 6, replace=False)}) for _ in range(400)
    ]
    assert np.mean(drawn) == pytest.approx(experts_hit(16, 64, 6), rel=0.01)


def test_few_tokens_read_few_experts_and_many_read_all():
    part = MixtureOfExperts(64, 128, n_experts=128, top_k=8)
    one, many = (next(op for op in step(part, n) if op.kind == "moe").weight_bytes for n in (1, 10**6))
    assert one == pytest.approx(2 * 8 * 3 * 64 * 128)
    assert many == pytest.approx(2 * 128 * 3 * 64 * 128)


def test_flops_follow_the_experts_visited_not_those_held():
    few, many = (MixtureOfExperts(64, 128, n_experts=n, top_k=8) for n in (16, 128))
    flops = [next(op for op in step(part, 100) if op.kind == "moe").flops for part in (few, many)]
    assert flops[0] == flops[1] == 2 * 100 * 8 * 3 * 64 * 128


def test_tensor_parallelism_cuts_the_work():
    for part in (Dense(64, 256), MixtureOfExperts(64, 128, 16, 4, d_shared=128)):
        whole, half = (
            sum(op.flops for op in step(part, 100, tp) if op.name != "moe.router") for tp in (1, 2)
        )
        assert half == whole / 2


def test_an_unknown_kind_is_refused():
    with pytest.raises(SpecError, match="unknown feed-forward kind 'mo': "):
        feedforward(Part.of("mo"))
