"""Explanations of cost: rent per hour, and the bill per million tokens."""

from calc.economics.cost import usd_per_hour_of
from calc.economics.cost import usd_per_mtok as usd_per_mtok_at
from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.batches import output_tokens
from calc.explain.metrics import Answer
from calc.explain.times import request_rate
from calc.explain.trace import Trace
from calc.serving.batching import token_rate

_FULL = "While the deployment is fully used: idle hours, storage, network and staff are ignored."
_WHOLE = (
    "The whole bill is put on these tokens: per output, input and all tokens are three readings of one bill."
)
_CONSTANTS = "3600 seconds make an hour; the result is per 1000000 tokens."


def usd_per_hour(t: Trace, e: Estimate) -> Answer:
    """Explain the rent of the deployment."""
    return Answer([_rent(t, e)], (), [*_price_notes(e), "Storage, network and staff are ignored."])


def usd_per_mtok_output(t: Trace, e: Estimate) -> Answer:
    """Explain the cost of a million output tokens."""
    rate, output = request_rate(t, e), output_tokens(t, e)
    tokens = t.define("R", "output tokens per second", "tokens/s", token_rate, rate, output)
    return _per_mtok(t, e, tokens)


def usd_per_mtok_input(t: Trace, e: Estimate) -> Answer:
    """Explain the cost of a million input tokens."""
    rate, prompt = request_rate(t, e), scenario.prompt_tokens(t, e)
    tokens = t.define("R", "input tokens per second", "tokens/s", token_rate, rate, prompt)
    return _per_mtok(t, e, tokens)


def usd_per_mtok(t: Trace, e: Estimate) -> Answer:
    """Explain the cost of a million tokens, input and output together."""
    rate, prompt, output = request_rate(t, e), scenario.prompt_tokens(t, e), output_tokens(t, e)
    tokens = t.define(
        "R", "tokens per second, input and output", "tokens/s",
        lambda rate, prompt, output: token_rate(rate, prompt + output), rate, prompt, output,
    )  # fmt: skip
    return _per_mtok(t, e, tokens)


def _per_mtok(t: Trace, e: Estimate, tokens) -> Answer:
    total = t.define("c", "cost of a million tokens", "USD/Mtok", usd_per_mtok_at, _rent(t, e), tokens)
    return Answer([total], (), [_CONSTANTS, _WHOLE, _FULL, *_price_notes(e)])


def _rent(t: Trace, e: Estimate):
    price, words = e.cost.price, "price of one device for one hour"
    if price is None:
        each = t.given("p", words, e.cost.usd_per_device_hour, "USD/h", note="your own price")
    else:
        where = ", ".join(text for text in (price.provider, price.term, price.region) if text)
        each = t.fact("p", words, price.fact, note=where)
    return t.define("C", "rent of the deployment", "USD/h", usd_per_hour_of, scenario.devices(t, e), each)


def _price_notes(e: Estimate) -> list[str]:
    price = e.cost.price
    if price is None:
        return []
    stale = ", more than 180 days ago" if price.is_stale() else ""
    return [
        f"Price: {price.provider}, {price.term}, seen {price.fact.date}{stale}; the median of the known ones."
    ]
