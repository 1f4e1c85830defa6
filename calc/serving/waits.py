"""What a request waits for before its first token, beside its own prefill."""

from calc.specs.numeric import maximum


def scheduler_wait_s(own_s, step_s, batch, prompt_waits, decode_waits):
    """Mean wait between arrival and first token beside the own prefill, if others are there. [s]

    A new request waits for ``prompt_waits`` steps such as its own and ``decode_waits`` mean
    steps: those that run or are scheduled when it comes, and those until its token is sent.

    Examples
    --------
    >>> scheduler_wait_s(0.1, 0.02, 2, 1.0, 5.0)
    0.1
    """
    return (own_s * prompt_waits + step_s * decode_waits) * (batch - 1) / batch


def burst_wait_s(burst, arriving, per_step, mixed_s, decode_s):
    """Mean wait for prompts that came together with a request: a share of those in flight. [s]

    Clients that open all requests at once, or whose requests end together, send prompts in
    bursts.

    Examples
    --------
    >>> burst_wait_s(0.05, 63, 1.0, 0.12, 0.02)
    0.315
    """
    return burst * arriving * maximum(0.0, mixed_s - decode_s) / per_step


def prefill_wait_s(batch, chunks, mixed_s, per_step, unqueued_latency_s):
    """Wait that the prefill rate enforces: a batch cannot turn over faster than it. [s]

    Examples
    --------
    >>> prefill_wait_s(100, 1, 0.05, 1.0, 4.0)
    1.0
    """
    least_latency = batch * chunks * mixed_s / per_step
    return maximum(0.0, least_latency - unqueued_latency_s)


def queue_wait_s(queued, requests_per_s):
    """Wait of those that find no room in memory (Little's law). [s]

    Examples
    --------
    >>> queue_wait_s(10, 4.0)
    2.5
    """
    return queued / requests_per_s
