"""Length distributions: means, tails, and what is refused."""

import numpy as np
import pytest

import calc
from calc.specs.lengths import Lengths


@pytest.mark.parametrize(("kind", "slack"), [("constant", 1e-9), ("geometric", 0.005), ("lognormal", 0.01)])
def test_tables_and_draws_keep_the_mean(kind, slack):
    lengths = Lengths(kind, 0.8)
    assert lengths.table(1000).mean() == pytest.approx(1000, rel=slack)
    drawn = lengths.draw(np.random.default_rng(1), 200_000, 1000)
    assert drawn.mean() == pytest.approx(1000, rel=0.01)
    assert drawn.min() >= 1


def test_a_geometric_length_of_mean_one_is_one():
    assert set(Lengths("geometric").table(1)) == {1}


def test_lognormal_lengths_have_the_sigma_given():
    logs = np.log(Lengths("lognormal", 0.5).table(10_000))
    assert logs.std() == pytest.approx(0.5, rel=0.01)


def test_empirical_lengths_are_those_observed():
    lengths = Lengths("empirical", values=(5, 1, 9))
    assert set(lengths.table(123)) == {1, 5, 9}
    assert lengths.quantile(0.5, 123) == 5


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"kind": "zipf"}, "'zipf' is not known"),
        ({"kind": "lognormal", "sigma": 0}, "sigma: 0 is not allowed"),
        ({"kind": "empirical"}, "need values"),
    ],
)
def test_other_lengths_are_refused(kwargs, message):
    with pytest.raises(calc.SpecError, match=message):
        Lengths(**kwargs)
