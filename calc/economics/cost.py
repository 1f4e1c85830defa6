"""What a deployment costs per hour and per million tokens."""

from dataclasses import dataclass

from calc.economics.prices import Price

SECONDS_PER_HOUR = 3600
TOKENS_PER_MTOK = 1_000_000


def usd_per_hour_of(n_devices, usd_per_device_hour):
    """Rent of the whole deployment. [USD/h]

    Examples
    --------
    >>> usd_per_hour_of(4, 2.5)
    10.0
    """
    return n_devices * usd_per_device_hour


def usd_per_mtok(usd_per_hour, tokens_per_s):
    r"""Cost of a million tokens at a rate of tokens.

    .. math::  c = \frac{C_{hour}}{3600 \, r} \cdot 10^6

    Parameters
    ----------
    usd_per_hour : number or array
        Rent of the deployment. [USD/h]
    tokens_per_s : number or array
        Tokens that share the bill: output, input or both. [tokens/s]

    Returns
    -------
    number or array
        [USD per million tokens]

    Examples
    --------
    >>> print(f"{usd_per_mtok(10.0, 2500):.2f} USD")
    1.11 USD
    """
    return usd_per_hour / (SECONDS_PER_HOUR * tokens_per_s) * TOKENS_PER_MTOK


@dataclass(frozen=True, eq=False)
class Cost:
    """Cost of one scenario while it is fully used.

    ``usd_per_mtok_output`` puts the whole bill on output tokens, ``usd_per_mtok_input`` the
    whole bill on prompt tokens, ``usd_per_mtok`` on both together: three readings of one
    bill, not parts of it.
    """

    usd_per_device_hour: float
    usd_per_hour: object
    usd_per_mtok_output: object
    usd_per_mtok_input: object
    usd_per_mtok: object
    price: Price | None = None


def cost_of(n_devices, usd_per_device_hour, requests_per_s, prompt_tokens, output_tokens, price=None) -> Cost:
    """Return the cost of serving so many requests per second on so many devices."""
    hourly = usd_per_hour_of(n_devices, usd_per_device_hour)
    return Cost(
        usd_per_device_hour=usd_per_device_hour,
        usd_per_hour=hourly,
        usd_per_mtok_output=usd_per_mtok(hourly, requests_per_s * output_tokens),
        usd_per_mtok_input=usd_per_mtok(hourly, requests_per_s * prompt_tokens),
        usd_per_mtok=usd_per_mtok(hourly, requests_per_s * (prompt_tokens + output_tokens)),
        price=price,
    )
