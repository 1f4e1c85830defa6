"""Experts: routing, the loss that spreads it, and the work of the experts hit."""

import pytest

from calc.work.expert_load import Load, experts_hit
from calc.work.experts import ExpertSizes, routed_experts

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")
from validate.blocks.feedforward import swiglu  # noqa: E402
from validate.blocks.moe import Experts, load_balancing_loss, moe_layer, routed  # noqa: E402

D, WIDTH, EXPERTS, TOP_K, TOKENS = 16, 12, 8, 2, 10


@pytest.fixture
def experts(random):
    return Experts(random(EXPERTS, D), random(EXPERTS, WIDTH, D), random(EXPERTS, WIDTH, D),
                   random(EXPERTS, D, WIDTH))  # fmt: skip


def test_each_token_visits_its_top_experts_with_weights_that_sum_to_one(random):
    logits = random(TOKENS, EXPERTS)
    weights, chosen = routed(logits, TOP_K)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(TOKENS, dtype=torch.float64))
    assert (chosen == logits.argsort(dim=-1, descending=True)[:, :TOP_K]).all()


def test_with_all_experts_chosen_it_is_the_sum_weighted_by_softmax(random, experts):
    x = random(TOKENS, D)
    every = torch.stack([swiglu(x, *(part[e] for part in experts[1:])) for e in range(EXPERTS)], dim=1)
    chances = (x @ experts.router.T).softmax(dim=-1)
    torch.testing.assert_close(moe_layer(x, experts, EXPERTS), (chances[..., None] * every).sum(dim=1))


def test_an_expert_nobody_visits_changes_nothing(random, experts):
    x = random(3, D)
    _, chosen = routed(x @ experts.router.T, TOP_K)
    idle = next(e for e in range(EXPERTS) if e not in chosen)
    changed = experts._replace(up=experts.up.index_fill(0, torch.tensor([idle]), torch.nan))
    torch.testing.assert_close(moe_layer(x, changed, TOP_K), moe_layer(x, experts, TOP_K))


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_loss_is_one_where_experts_are_equally_busy(random, top_k):
    """As many tokens as experts, each with the same scores shifted by one expert."""
    scores = random(EXPERTS)
    even = torch.stack([scores.roll(shift) for shift in range(EXPERTS)])
    assert load_balancing_loss(even, top_k).item() == pytest.approx(1)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_the_loss_is_experts_over_top_k_where_all_tokens_take_the_same(top_k):
    same = torch.zeros(TOKENS, EXPERTS, dtype=torch.float64)
    same[:, :top_k] = 50.0
    assert load_balancing_loss(same, top_k).item() == pytest.approx(EXPERTS / top_k)


@pytest.mark.parametrize("seed", range(10))
def test_tokens_that_agree_never_have_a_loss_below_one(seed):
    logits = torch.randn(EXPERTS, generator=torch.Generator().manual_seed(seed)).expand(TOKENS, -1)
    assert load_balancing_loss(logits, TOP_K) >= 1


def test_the_loss_grows_with_the_spread_of_popularity(random):
    popularity, noise = random(EXPERTS), random(5000, EXPERTS)
    losses = [load_balancing_loss(noise + spread * popularity, TOP_K).item() for spread in (0, 0.5, 1, 2, 4)]
    assert losses[0] == pytest.approx(1, abs=0.01)
    assert losses == sorted(losses)


def test_descending_the_loss_makes_experts_equally_busy(random):
    noise, popularity = random(500, EXPERTS), (2 * random(EXPERTS)).requires_grad_()
    before = load_balancing_loss(noise + popularity, TOP_K).item()
    for _ in range(200):
        (slope,) = torch.autograd.grad(load_balancing_loss(noise + popularity, TOP_K), popularity)
        popularity = (popularity - slope).detach().requires_grad_()
    assert before > 1.2
    assert load_balancing_loss(noise + popularity, TOP_K).item() == pytest.approx(1, abs=0.02)


def test_flops_and_bytes_are_those_of_calc(random, experts, flops, elements, bf16):
    x = random(TOKENS, D)
    _, chosen = routed(x @ experts.router.T, TOP_K)
    hit, rows = len(chosen.unique()), chosen.numel()
    op = routed_experts(TOKENS, ExpertSizes(D, WIDTH, EXPERTS, TOP_K), Load(hit, rows), bf16)
    router = 2 * TOKENS * D * EXPERTS
    assert op.flops == flops(moe_layer, x, experts, TOP_K) - router
    assert op.weight_bytes == 2 * hit * elements(*(part[0] for part in experts[1:]))
    row, inner = D, WIDTH
    read_in, gate_and_up, product_made_and_read, written = row, 2 * inner, 2 * inner, row
    assert op.activation_bytes == 2 * rows * (read_in + gate_and_up + product_made_and_read + written)


def test_as_many_experts_are_hit_as_calc_expects(random):
    """Tokens that choose at random, counted in 400 trials."""
    trials = [len(routed(random(4, 16), 2)[1].unique()) for _ in range(400)]
    assert sum(trials) / 400 == pytest.approx(experts_hit(4, 16, 2), rel=0.02)
