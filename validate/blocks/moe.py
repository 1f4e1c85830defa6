"""Mixture of experts: each token goes to the few experts its router scores highest."""

from typing import NamedTuple

import torch

from validate.blocks.feedforward import swiglu


class Experts(NamedTuple):
    """Weights: router (experts, d_model), gate and up (experts, d_expert, d_model), down transposed."""

    router: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor


def routed(logits, top_k: int):
    """Return weights and numbers of the experts that each token visits; its weights sum to 1.

    Parameters
    ----------
    logits : tensor (tokens, experts)

    Returns
    -------
    weights, experts : tensor (tokens, top_k)

    Examples
    --------
    >>> weights, experts = routed(torch.tensor([[0.0, 2.0, 2.0, 1.0]]), top_k=2)
    >>> sorted(experts[0].tolist()), weights[0].tolist()
    ([1, 2], [0.5, 0.5])
    """
    chances, experts = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return chances / chances.sum(dim=-1, keepdim=True), experts


def load_balancing_loss(logits, top_k: int):
    r"""Return the auxiliary loss that keeps experts equally busy: 1 where they are, up to E / k.

    .. math::  E \sum_e f_e P_e

    with :math:`f_e` the share of visits that go to an expert and :math:`P_e` its mean chance.

    Parameters
    ----------
    logits : tensor (tokens, experts)

    References
    ----------
    .. [1] W. Fedus et al., "Switch Transformers", arXiv:2101.03961, equation 4 (top_k 1).
    """
    n_experts = logits.shape[-1]
    visits = torch.bincount(routed(logits, top_k)[1].flatten(), minlength=n_experts)
    share, chance = visits / visits.sum(), logits.softmax(dim=-1).mean(dim=0)
    return n_experts * (share * chance).sum()


def moe_layer(x, experts: Experts, top_k: int):
    """Return the weighted sum of what its experts make of each token.

    Experts that no token visits are not read: the work is that of ``tokens * top_k`` rows and
    of the experts hit.

    Parameters
    ----------
    x : tensor (tokens, d_model)
    """
    weights, chosen = routed(x @ experts.router.T, top_k)
    out = torch.zeros_like(x)
    for expert in chosen.unique().tolist():
        tokens, slot = torch.where(chosen == expert)
        made = swiglu(x[tokens], experts.gate[expert], experts.up[expert], experts.down[expert])
        out = out.index_add(0, tokens, weights[tokens, slot, None] * made)
    return out
