"""Spreads of fits."""

import numpy as np
import pytest

from validate.fitting import error_row, spread80


@pytest.mark.parametrize("n", [12, 40, 300])
def test_the_next_ratio_lies_in_the_spread_four_times_in_five(n):
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        *known, new = np.exp(rng.normal(0, 0.1, n + 1))
        low, high = spread80(np.array(known), n)
        inside.append(low <= new <= high)
    assert np.mean(inside) == pytest.approx(0.8, abs=0.03)


def test_the_spread_holds_one_and_is_of_both_kinds_of_left_out_points():
    seconds = np.full(100, 1.0)
    row = error_row(seconds, seconds * 2, seconds * 1.0, seconds)
    assert (row["low"], row["high"]) == (0.5, 1.0)
    assert row["cv_median_pct"] == 100
