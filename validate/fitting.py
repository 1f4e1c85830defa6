"""Fitting a form to measured points: robust, in log time, with shapes left out to see the error."""

from collections.abc import Mapping

import numpy as np

from calc.timing.forms import Ceilings, Form

_CLIP = 20.0
_PULL = 0.07  # weight of a factor e away from the start: parameters that no point decides stay there
_ROBUST = 0.05  # residuals well beyond 5 % count by their size, not their square


def fitted(form: Form, work: Mapping, ceilings: Ceilings, seconds, starts: int = 3, seed: int = 0) -> dict:
    """Return the parameters with which a form comes closest to measured times.

    Parameters
    ----------
    form : Form
    work : mapping
        Sizes, flops and bytes of each point, as arrays.
    ceilings : Ceilings
    seconds : array
        Measured times. [s]
    starts, seed : int
        Starting points that are tried: the parameters' own, then random ones around it.
    """
    from scipy.optimize import least_squares

    parameters = form.parameters
    low, high = (np.log([getattr(p, end) for p in parameters]) for end in ("low", "high"))
    start, measured = np.log([p.start for p in parameters]), np.log(seconds)
    rng = np.random.default_rng(seed)

    def residuals(z):
        with np.errstate(all="ignore"):
            predicted = np.log(form.seconds(work, ceilings, named(form, np.exp(z))))
        misses = np.clip(np.nan_to_num(predicted - measured, nan=_CLIP), -_CLIP, _CLIP)
        return np.concatenate([misses, _PULL * (z - start)])

    best = None
    for attempt in range(starts):
        shift = rng.normal(0, 0.5, len(start)) if attempt else 0.0
        first = np.clip(start + shift, low + 1e-6, high - 1e-6)
        found = least_squares(
            residuals, first, bounds=(low, high), loss="soft_l1", f_scale=_ROBUST, max_nfev=200
        )
        if best is None or found.cost < best.cost:
            best = found
    return named(form, np.exp(best.x))


def named(form: Form, values) -> dict[str, float]:
    """Return parameter values by name."""
    return {p.name: float(value) for p, value in zip(form.parameters, values, strict=True)}


def part_of(work: Mapping, chosen) -> dict:
    """Return the chosen points of a work mapping; what is the same for all points stays."""
    size = len(chosen)
    return {
        name: value[chosen] if isinstance(value, np.ndarray) and value.shape == (size,) else value
        for name, value in work.items()
    }


def left_out(form: Form, work: Mapping, ceilings: Ceilings, seconds, groups, folds: int = 5) -> np.ndarray:
    """Return predictions for each point from fits that saw no point of its group. [s]"""
    names = np.unique(groups)
    np.random.default_rng(1).shuffle(names)
    predicted = np.full(len(seconds), np.nan)
    for fold in range(min(folds, len(names))):
        held = np.isin(groups, names[fold :: min(folds, len(names))])
        if held.all():
            continue
        seen = part_of(work, ~held), Ceilings(**part_of(ceilings._asdict(), ~held))
        p = fitted(form, *seen, seconds[~held], starts=2)
        predicted[held] = form.seconds(part_of(work, held), Ceilings(**part_of(ceilings._asdict(), held)), p)
    return predicted


def error_row(fit_predicted, cv_predicted, near_predicted, seconds) -> dict[str, float]:
    """Return the error record of a fit: medians and p90 in percent, bias, 80 % factors.

    Parameters
    ----------
    fit_predicted, cv_predicted, near_predicted : array
        Predictions of the fit, of fits that saw no point of the same shape, and of fits that
        saw others of it: what is asked for is of both kinds, so the 80 % factors are of both.
    seconds : array
        Measured times. [s]
    """
    good = np.isfinite(cv_predicted)
    ratio = seconds[good] / cv_predicted[good]
    absolute = np.abs(cv_predicted[good] / seconds[good] - 1)
    low, high = spread80(np.concatenate([ratio, seconds / near_predicted]), len(ratio))
    return {
        "n": len(seconds),
        "fit_median_pct": 100 * float(np.median(np.abs(fit_predicted / seconds - 1))),
        "cv_median_pct": 100 * float(np.median(absolute)),
        "cv_p90_pct": 100 * float(np.quantile(absolute, 0.9)),
        "bias_pct": 100 * float(np.exp(-np.median(np.log(ratio))) - 1),
        "low": low,
        "high": high,
    }


def spread80(ratios, n: int) -> tuple[float, float]:
    """Return the factors between which the next ratio lies four times in five.

    Of ``n`` points the next one falls below the ``i``-th smallest with probability
    ``i / (n + 1)``; few points therefore give wider factors than their own quantiles.

    Examples
    --------
    >>> spread80(np.arange(1, 10) / 5, 9)
    (0.2, 1.8)
    """
    # rank 0.1 (n + 1), counted from 1, as a share of the n - 1 gaps between points
    tail = max(0.0, (0.1 * (n + 1) - 1) / max(n - 1, 1))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(min(1.0, low)), float(max(1.0, high))
