"""Prefill and decode on pools of their own, with the cache sent from one to the other."""

from dataclasses import dataclass

from calc.serving.batching import e2e_latency_s, token_rate
from calc.serving.scenario import memory_of_steps, steps_of
from calc.serving.steps import Steps
from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.specs.numeric import maximum, minimum
from calc.specs.workload import Workload
from calc.timing.calibration import Calibration
from calc.work.memory import cache_bytes_per_sequence, precision_of
from calc.work.op import Sequences

#: assumed time until the first byte of a cache arrives [s]
LINK_LATENCY_S = 100e-6
#: pools of up to so many instances are compared for the best ratio
MOST_INSTANCES = 16


def transfer_s(cache_bytes, link_bytes_per_s, latency_s):
    """Time to send a cache over a link. [s]

    Examples
    --------
    >>> transfer_s(400e6, 50e9, 1e-4)
    0.0081
    """
    return latency_s + cache_bytes / link_bytes_per_s


def exposed_transfer_s(transfer, prefill_s, n_layers, latency_s):
    """What is left to wait for when each layer's cache is sent while the next is computed. [s]

    The last layer's share cannot overlap; a link slower than prefill exposes the rest too.

    Examples
    --------
    >>> print(f"{exposed_transfer_s(0.0081, 0.1, 80, 1e-4) * 1e3:.2f} ms")
    0.20 ms
    """
    sending = transfer - latency_s
    overlapped = (n_layers - 1) / n_layers
    return latency_s + maximum(sending / n_layers, sending - overlapped * prefill_s)


def deterministic_queue_wait_s(service_s, utilisation):
    r"""Mean wait for a server with constant service and random arrivals (M/D/1). [s]

    .. math::  W = \frac{\rho \, s}{2 (1 - \rho)}

    Examples
    --------
    >>> deterministic_queue_wait_s(0.1, 0.5)
    0.05
    """
    return utilisation * service_s / (2 * (1 - utilisation))


@dataclass(frozen=True, eq=False)
class Pools:
    """How many prefill and decode instances, and the requests per second they reach together."""

    prefill_instances: int
    decode_instances: int
    n_devices: int
    requests_per_s: float

    @property
    def requests_per_s_per_device(self) -> float:
        """Requests per second and device."""
        return self.requests_per_s / self.n_devices


@dataclass(frozen=True, eq=False)
class Disaggregated:
    """Service of a prefill pool and a decode pool. [s]

    ``ttft_s`` is the wait for a prefill instance, the prefill and the exposed transfer;
    ``decodes`` how many sequences a decode instance runs. ``prefill_requests_per_s`` and
    ``decode_requests_per_s`` are the most that one instance of each finishes, ``best`` the ratio
    of pools with the most requests per device. ``steady`` is False where the asked rate is over
    ``max_requests_per_s``; TTFT is then infinite.
    """

    pools: Pools
    best: Pools
    ttft_s: float
    tpot_s: float
    e2e_latency_s: float
    output_tokens_per_s: float
    transfer_s: float
    exposed_transfer_s: float
    cache_bytes: float
    prefill_requests_per_s: float
    decode_requests_per_s: float
    max_requests_per_s: float
    decodes: float
    max_decodes: int
    fits: bool
    steady: bool

    @property
    def bottleneck(self) -> str:
        """The pool that limits the rate."""
        p, d = self.pools, self
        ahead = p.prefill_instances * d.prefill_requests_per_s > p.decode_instances * d.decode_requests_per_s
        return "decode" if ahead else "prefill"


def disaggregate(
    model: Model | str,
    prefill: tuple[Device | str, Deployment],
    decode: tuple[Device | str, Deployment],
    workload: Workload | None = None,
    *,
    instances: tuple[int, int] = (1, 1),
    link_bytes_per_s: float | None = None,
    layer_wise: bool = True,
    calibration: Calibration | str = "default",
) -> Disaggregated:
    """Return the service of prefill and decode on pools of their own.

    Parameters
    ----------
    model : Model or str
    prefill, decode : (device, deployment)
        One instance of each pool.
    workload : Workload
        A closed loop (``concurrency`` over both pools), ``mode="max_load"`` or a rate of
        requests; scalars, lengths at their means.
    instances : (int, int)
        How many prefill and decode instances.
    link_bytes_per_s : float, optional
        Between two instances, all devices of one together, one direction; the network of the
        slower side when not given. [byte/s]
    layer_wise : bool
        Whether each layer's cache is sent while the next is computed.

    Notes
    -----
    Ignored: two caches on one link at a time, prompts that share a prefill step, waiting for a
    place on a decode instance. The first token counts when its cache has arrived.

    Examples
    --------
    >>> pair = ("h100-sxm", Deployment(tp=4)), ("h100-sxm", Deployment(tp=4))
    >>> d = disaggregate("llama-3.1-70b", *pair, Workload(concurrency=32))
    >>> d.bottleneck, d.tpot_s < 0.03, d.exposed_transfer_s < 0.01
    ('prefill', True, True)
    """
    load = workload or Workload()
    if load.mode == "static":
        raise SpecError("mode: 'static' is one batch; allowed are closed_loop, max_load and open_loop")
    first, second = (steps_of(model, *side, calibration) for side in (prefill, decode))
    own_s = float(first.time(Sequences("prefill", 1, load.prompt_tokens, 0)).seconds)
    pool = _DecodePool(second, load)
    size = _sent_bytes(second, load)
    link = link_bytes_per_s or min(_network(first), _network(second))
    sending = transfer_s(size, link, LINK_LATENCY_S)
    layers = second.model.n_layers
    exposed = exposed_transfer_s(sending, own_s, layers, LINK_LATENCY_S) if layer_wise else sending
    rates = 1 / own_s, pool.rate(pool.most)
    devices = first.deployment.n_devices, second.deployment.n_devices
    most = _together(instances, rates, devices)
    rate, decodes, ttft = _operating_point(load, pool, own_s, exposed, instances, most.requests_per_s)
    steady = rate < most.requests_per_s or load.mode != "open_loop"
    tpot = pool.step_s(decodes)
    rate = min(rate, most.requests_per_s)
    return Disaggregated(
        pools=Pools(*instances, most.n_devices, rate),
        best=_best(rates, devices),
        ttft_s=ttft,
        tpot_s=tpot,
        e2e_latency_s=e2e_latency_s(ttft, tpot, load.output_tokens),
        output_tokens_per_s=token_rate(rate, load.output_tokens),
        transfer_s=sending,
        exposed_transfer_s=exposed,
        cache_bytes=size,
        prefill_requests_per_s=rates[0],
        decode_requests_per_s=rates[1],
        max_requests_per_s=most.requests_per_s,
        decodes=decodes,
        max_decodes=pool.most,
        fits=bool(memory_of_steps(first, load).fits) and pool.fits,
        steady=steady,
    )


class _DecodePool:
    """One decode instance: its steps by how many sequences it runs."""

    def __init__(self, steps: Steps, load: Workload):
        self._steps, self._load = steps, load
        memory = memory_of_steps(steps, load)
        self.fits = bool(memory.fits)
        limit = steps.deployment.max_sequences or steps.engine.max_sequences
        self.most = max(1, min(int(memory.max_concurrency), int(limit)))

    def step_s(self, n) -> float:
        context = self._load.prompt_tokens + (self._load.output_tokens - 1) / 2
        return float(self._steps.time(Sequences("decode", max(1.0, n), 1, context)).seconds)

    def life_s(self, n) -> float:
        """Time a sequence decodes beside ``n - 1`` others. [s]"""
        return max(1, self._load.output_tokens - 1) * self.step_s(n)

    def rate(self, n) -> float:
        """Requests finished per second with ``n`` sequences."""
        return n / self.life_s(n)


def _sent_bytes(steps: Steps, load: Workload) -> float:
    """Cache of one prompt, each head once. [byte]"""
    width = precision_of(steps.model, steps.deployment).kv_bytes
    return float(cache_bytes_per_sequence(steps.model, load.prompt_tokens, width))


def _network(steps: Steps) -> float:
    """Network of all devices of an instance, one direction. [byte/s]"""
    device = steps.device
    if device.network is None:
        raise SpecError(
            f"link_bytes_per_s: the network of {device.id} is not known; allowed is a bandwidth above 0"
        )
    return float(device.network.value) * steps.deployment.n_devices


def _together(instances, rates, devices) -> Pools:
    """What instances of each pool reach: the slower pool's rate."""
    (p, d), (prefill, decode) = instances, rates
    return Pools(p, d, p * devices[0] + d * devices[1], minimum(p * prefill, d * decode))


def _best(rates, devices) -> Pools:
    """The ratio of pools with the most requests per second and device; of equals the smallest."""
    counts = range(1, MOST_INSTANCES + 1)
    pools = (_together((p, d), rates, devices) for p in counts for d in counts)
    return max(pools, key=lambda pool: (round(pool.requests_per_s_per_device, 9), -pool.n_devices))


def _operating_point(load: Workload, pool: _DecodePool, own_s, exposed, instances, most):
    """Rate, sequences per decode instance and TTFT that the load leads to."""
    p, d = instances

    def first_token(rate):
        used = rate * own_s / p
        return deterministic_queue_wait_s(own_s, used) + own_s + exposed if used < 1 else float("inf")

    if load.mode == "open_loop":
        rate = float(load.requests_per_s)
        if rate >= most:
            return rate, float(pool.most), float("inf")
        n = _where_rate(lambda n: d * pool.rate(n) - rate, 0.0, pool.most)
        return rate, n, first_token(rate)
    if load.mode == "max_load":
        rate = 0.999 * most
        return rate, _where_rate(lambda n: d * pool.rate(n) - rate, 0.0, pool.most), first_token(rate)
    # a closed loop: as many as are asked for, in prefill and in decode together (Little's law)
    users, high = float(load.concurrency), 0.999 * most

    def excess(rate):
        n = _where_rate(lambda n: d * pool.rate(n) - rate, 0.0, pool.most)
        return rate * (first_token(rate) + pool.life_s(n)) - users

    rate = high if excess(high) < 0 else _where_rate(excess, 0.0, high)
    n = _where_rate(lambda n: d * pool.rate(n) - rate, 0.0, pool.most)
    queued = max(0.0, users / rate - first_token(rate) - pool.life_s(n))
    return rate, n, first_token(rate) + queued


def _where_rate(excess, low: float, high: float) -> float:
    """Where a growing function turns positive, by bisection."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    return (low + high) / 2
