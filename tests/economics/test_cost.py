"""Cost of a deployment and of its tokens."""

import numpy as np
import pytest

import calc
from calc.economics.cost import cost_of, usd_per_hour_of


def test_a_million_tokens_at_a_thousand_a_second_take_a_thousand_seconds():
    """3.60 USD an hour is a tenth of a cent a second: 1 USD."""
    assert calc.usd_per_mtok(3.6, 1000) == pytest.approx(1.0)


def test_the_bill_is_the_same_whichever_tokens_it_is_put_on():
    cost = cost_of(4, 2.5, requests_per_s=2.0, prompt_tokens=1000, output_tokens=250)
    assert cost.usd_per_hour == usd_per_hour_of(4, 2.5) == 10.0
    bill = cost.usd_per_hour
    for price, tokens in (
        (cost.usd_per_mtok_output, 250),
        (cost.usd_per_mtok_input, 1000),
        (cost.usd_per_mtok, 1250),
    ):
        assert price * tokens * 2.0 * 3600 / 1e6 == pytest.approx(bill)


def test_whole_devices_are_paid_for():
    one, eight = (
        calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(tp=tp), usd_per_device_hour=3.0)
        for tp in (1, 8)
    )
    assert eight.cost.usd_per_hour == 8 * one.cost.usd_per_hour == 24.0


def test_ones_own_price_wins_and_a_device_without_price_has_no_cost():
    assert calc.estimate("llama-3.1-8b", "h100-sxm", usd_per_device_hour=1.25).cost.usd_per_hour == 1.25
    without = next(d for d in calc.device_ids() if calc.device_price(d) is None)
    assert calc.estimate("llama-3.1-8b", without).cost is None


def test_the_default_price_is_dated_and_sourced():
    price = calc.estimate("llama-3.1-8b", "h100-sxm").cost.price
    assert price.fact.date
    assert price.fact.sources


@pytest.mark.parametrize("wrong", [0, -1.0])
def test_a_price_that_is_not_above_zero_is_refused(wrong):
    with pytest.raises(calc.SpecError, match="usd_per_device_hour"):
        calc.estimate("llama-3.1-8b", "h100-sxm", usd_per_device_hour=wrong)


def test_arrays_pass_through():
    costs = calc.usd_per_mtok(10.0, np.array([1000.0, 2000.0]))
    assert costs.tolist() == [calc.usd_per_mtok(10.0, 1000), calc.usd_per_mtok(10.0, 2000)]
