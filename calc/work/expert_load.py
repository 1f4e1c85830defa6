r"""Load of the busiest rank: rows (token-expert pairs) it computes and experts it reads.

Three ways in which a router may spread tokens, each with its function or value of ``skew``:
evenly as a benchmark constructs it (``even_load``), at random with equal chances (skew 0), or
by a power law: popularities drawn from :math:`x^{-\alpha}` with skew :math:`\alpha`, as the
public kernel benchmark of ai-dynamo/aiconfigurator draws them (collector/helper.py,
``power_law_logits_v3``). Measured layers lie between skew 0 and about 1.2.

Rank r holds the experts r E/ep ... (r + 1) E/ep - 1; the busiest one decides how long a layer
takes. Ignored: replicas of popular experts, and routers that choose groups of experts first.
"""

from typing import NamedTuple

from calc.specs.numeric import is_symbolic, maximum, minimum, require, where
from calc.specs.workload import MAX_EXPERT_SKEW

#: Popularities of the benchmark span this range while there are fewer rows than experts ...
FEW_ROWS_RANGE = 200.0
#: ... and this share of the tokens beyond.
RANGE_PER_TOKEN = 0.8
_TINY = 1e-30


class Load(NamedTuple):
    """Expected experts hit and rows (token-expert pairs) on the busiest rank."""

    hit: object
    rows: object


def experts_hit(tokens, n_experts, top_k):
    r"""Expected number of distinct experts that a step touches, under uniform routing.

    .. math::  E \, (1 - (1 - k/E)^{T})

    Parameters
    ----------
    tokens : number or array
        Tokens in the step. [tokens]
    n_experts, top_k : int
        Experts in the layer, and how many each token visits.

    Examples
    --------
    >>> print(f"{experts_hit(1, 8, 2):.1f} of 8 experts, then {experts_hit(16, 8, 2):.2f}")
    2.0 of 8 experts, then 7.92
    """
    return n_experts * (1 - (1 - top_k / n_experts) ** tokens)


def expert_load(tokens, n_experts, top_k, ep=1, skew=0.0) -> Load:
    """Expected load of the busiest of ``ep`` ranks.

    Parameters
    ----------
    tokens : number or array
        Tokens of all ranks together. [tokens]
    n_experts, top_k : int
        Experts in the layer, and how many each token visits.
    ep : int
        Ranks that share the experts.
    skew : number or array
        Exponent of the power law of expert popularity, up to 1.5; 0 is uniform routing. [1]

    Raises
    ------
    SpecError
        If the skew is not between 0 and 1.5.

    Examples
    --------
    >>> load = expert_load(64, 128, 8, ep=8)
    >>> print(f"{load.hit:.1f} of 16 experts, {load.rows:.0f} rows; the average rank has 64")
    15.9 of 16 experts, 75 rows; the average rank has 64
    >>> print(f"{expert_load(64, 128, 8, ep=8, skew=1.2).rows:.0f} rows")
    91 rows
    """
    if is_symbolic(skew) or (type(skew) in (int, float) and skew == 0):
        return _uniform(tokens, n_experts, top_k, ep)
    require((skew >= 0) & (skew <= MAX_EXPERT_SKEW), f"skew must lie between 0 and {MAX_EXPERT_SKEW}")
    even, law = _uniform(tokens, n_experts, top_k, ep), power_law_load(tokens, n_experts, top_k, ep, skew)
    return Load(*(where(skew > 0, second, first) for first, second in zip(even, law, strict=True)))


def even_load(tokens, n_experts, top_k, ep=1) -> Load:
    """Load of rank 0 where tokens visit the experts in turn: no expert twice before each once.

    Examples
    --------
    >>> even_load(4, 128, 8, ep=8)
    Load(hit=4.0, rows=4.0)
    """
    rows = maximum(1.0, tokens * top_k / ep)
    return Load(minimum(n_experts / ep, rows), rows)


def _uniform(tokens, n_experts, top_k, ep) -> Load:
    """Load of the busiest rank where every token draws its experts with equal chances."""
    if type(ep) is int and ep == 1:
        return Load(experts_hit(tokens, n_experts, top_k), tokens * top_k)
    local, mean = n_experts / ep, tokens * top_k / ep
    deviation = (mean * (1 - 1 / ep) * (n_experts - top_k) / maximum(1, n_experts - 1)) ** 0.5
    rows = minimum(mean + largest_of_normals(ep) * deviation, tokens * minimum(local, top_k))
    chance = rows / maximum(tokens * local, _TINY)
    return Load(local * (1 - (1 - minimum(chance, 1.0)) ** tokens), rows)


def expert_ranks(top_k, world):
    r"""Expected devices that one token visits, its experts spread evenly over ``world``.

    .. math::  w \, (1 - (1 - 1/w)^k)

    Examples
    --------
    >>> print(f"{expert_ranks(8, 8):.2f} of 8")
    5.25 of 8
    """
    return world * (1 - (1 - 1 / world) ** top_k)


def largest_of_normals(n):
    """Expected largest of n standard normal numbers, within 0.06 up to n = 512.

    Examples
    --------
    >>> [round(largest_of_normals(n), 2) for n in (1, 2, 8, 64)]
    [0.0, 0.57, 1.47, 2.4]
    """
    return 4.0 * (1 - n**-0.22)


def power_law_load(tokens, n_experts, top_k, ep, skew) -> Load:
    r"""Load of the busiest rank where popularities follow :math:`x^{-\alpha}`.

    Loads are the popularities scaled to ``tokens * top_k`` rows, cut at one row per token and
    rounded; rows lost in this go to the idlest experts. Sums over the experts of a rank are
    taken as gamma distributed (Wilson-Hilferty), the busiest as one plus the largest of ``ep``.
    The range of popularities grows with the tokens; a busier step never counts fewer rows or
    experts than one with a row per expert.
    """
    few = minimum(tokens, n_experts / top_k)
    first = _scaled_load(few, n_experts, top_k, ep, skew, FEW_ROWS_RANGE)
    span = maximum(RANGE_PER_TOKEN * tokens, 2.0)
    many = _scaled_load(maximum(tokens, few), n_experts, top_k, ep, skew, span)
    beyond = tokens * top_k > n_experts
    return Load(*(where(beyond, maximum(a, b), a) for a, b in zip(first, many, strict=True)))


def _scaled_load(tokens, n_experts, top_k, ep, skew, span) -> Load:
    """Load of the busiest rank with popularities between 1 and ``span``."""
    mass = _moment(1.0, span, 0, skew)
    scale = maximum(tokens * top_k, _TINY) / n_experts * mass / _moment(1.0, span, 1, skew)

    def part(low, high, n):
        """Integral of load**n between two loads. [rows**n]"""
        low, high = (minimum(maximum(x / scale, 1.0), span) for x in (low, high))
        return scale**n * _moment(low, high, n, skew) / mass

    top = span * scale
    cut = part(tokens, top, 1) - tokens * part(tokens, top, 0)
    lost = part(0.0, 1.5, 1) - part(0.5, 1.5, 0)  # rounded away below one half, gained up to one
    share = minimum(1.0, part(0.5, top, 0) + maximum(0.0, lost + cut))

    local, mean = n_experts / ep, maximum(tokens * top_k, _TINY) / ep
    spread = part(0.0, tokens, 2) + tokens**2 * part(tokens, top, 0) - (mean / local) ** 2
    spread = maximum(0.0, spread) * local * (1 - 1 / ep) / mean**2  # squared, relative to the mean
    rows = mean * _gamma_quantile(spread, largest_of_normals(ep))
    rows = minimum(rows, tokens * top_k, maximum(mean, local * minimum(tokens, top)))
    rows = maximum(rows, minimum(1.0, tokens * top_k))
    hit = local * (1 - (1 - share) ** (rows / mean))
    return Load(minimum(maximum(hit, minimum(1.0, rows)), rows), rows)


def _moment(low, high, n, skew):
    r"""Integral of :math:`x^{n - \alpha}` between two bounds."""
    power = n + 1 - skew
    power = where(abs(power) < 1e-6, 1e-6, power)
    return (high**power - low**power) / power


def _gamma_quantile(variance, normal):
    """Quantile of a gamma distribution of mean 1 (Wilson and Hilferty 1931), never falling with variance."""
    ninth = minimum(variance / 9, normal**2 / 4)
    return maximum(1.0, 1 - ninth + normal * ninth**0.5) ** 3
