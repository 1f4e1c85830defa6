"""The chain of a deployment at an arrival rate: from step times and lengths to times over requests."""

import numpy as np

from calc.serving.open_loop.answer import OpenLoop, Spread, spread
from calc.serving.open_loop.capacity import Capacity
from calc.serving.open_loop.first_token import first_token
from calc.serving.open_loop.flow import STATES, Flow, dispersion, usual_levels
from calc.serving.open_loop.per_token import per_token
from calc.serving.open_loop.place_queue import PlaceQueue, met
from calc.serving.open_loop.step_chain import StepChain, step_chain

#: share of the highest rate that stands in for no arrivals at all
_IDLE_LOAD = 1e-5
#: share of the highest rate within which a rate is that one
_ROUNDING = 1e-9
#: share of time at the ends of the chain above which it is widened, and how often
_TAIL, _WIDENINGS = 3e-4, 7
#: change of all shares in a step up to which it is solved until it is wide enough
_SKETCH = 1e-3
#: requests beyond the places that the chain goes on for
_QUEUE = 60


def at_rate(capacity: Capacity, rate: float) -> OpenLoop:
    """Return what requests see at a rate. [1/s]"""
    if rate >= (1 - _ROUNDING) * capacity.max_rate:
        return _unsteady(capacity, rate)
    flow = flow_of(capacity, max(rate, _IDLE_LOAD * capacity.max_rate))
    chain = _balance(flow)
    seen = met(chain, place_queue(capacity, flow))
    first = first_token(chain, capacity, flow, seen)
    return OpenLoop(
        requests_per_s=rate,
        max_requests_per_s=capacity.max_rate,
        steady=True,
        bottleneck=capacity.bottleneck,
        cap=capacity.cap,
        in_flight=seen.in_flight,
        mean_in_flight=seen.mean_in_flight,
        queue_probability=seen.probability,
        ttft=spread(first.seconds + capacity.table.request_s),
        tpot=per_token(chain, capacity, first),
        queue=spread(first.begun_s),
    )


def _unsteady(capacity: Capacity, rate: float) -> OpenLoop:
    infinite = float("inf")
    times = [Spread(infinite, infinite, infinite, infinite)] * 3
    most, bottleneck = capacity.max_rate, capacity.bottleneck
    return OpenLoop(rate, most, False, bottleneck, capacity.cap, np.zeros(0), infinite, 1.0, *times)


def place_queue(capacity: Capacity, flow: Flow) -> PlaceQueue:
    """Return the queue for places at a rate."""
    most, places = capacity.max_rate, capacity.places
    unlike = float(capacity.demand.new_tokens.var()) / capacity.prompt**2
    full = np.array([float(capacity.cap)])
    alone_s = capacity.demand.decode_steps * float(capacity.step_s(full, np.zeros(1))[0]) / capacity.cap
    share = max(0.0, 1 - most * alone_s)
    is_reserved = places.prompt_share > 0 and capacity.rules.reserve == "request"
    # of decode steps and of prefill, each over its mean; of both those of long prompts take more
    reading, variation = places.prompt_share, places.variation
    if not places.prompt_share:
        reading = float(np.prod(capacity.growth(full)))
        variation = (1 + variation) * (1 + reading**2 * unlike) - 1
    works = (1 - share) ** 2 * variation + share**2 * unlike + 2 * share * (1 - share) * reading * unlike
    return PlaceQueue(
        places=places.number,
        requests_per_s=flow.requests_per_s,
        max_requests_per_s=most,
        sizes=places.sizes,
        works=works,
        prompts=unlike,
        prefill_share=share,
        ends=float(dispersion(flow, full)[0]),
        deviation=places.deviation,
        kept_s=places.kept * places.number / most,
        lasting=min(1.0, 2 - 2 * capacity.demand.steadiness),
        is_one_by_one=is_reserved or not places.prompt_share,
    )


def flow_of(capacity: Capacity, rate: float) -> Flow:
    """Return what flows through the chain at a rate. [1/s]"""
    return Flow(
        step_s=capacity.step_s,
        budget=capacity.budget,
        growth=capacity.growth,
        prompts=capacity.work,
        decode_steps=capacity.demand.decode_steps,
        cap=capacity.cap,
        requests_per_s=rate,
        is_chunked=capacity.is_chunked,
        full_per_s=capacity.max_rate if capacity.bottleneck == "places" else 0.0,
        steadiness=capacity.demand.steadiness,
    )


def _balance(flow: Flow) -> StepChain:
    """Return the chain from step to step, on as many requests and tokens as matter."""
    prompts, most = flow.prompts, flow.cap + _QUEUE
    levels = min(most, usual_levels(flow, _TAIL))
    reach = float(np.quantile(prompts, 0.999)) + 4 * float((prompts**2).mean() / prompts.mean())
    for _ in range(_WIDENINGS):
        chain = step_chain(flow, min(levels, most), reach, _SKETCH)
        many = chain.in_flight[-max(2, levels // 8) :].sum() > _TAIL and levels < most
        far = chain.share_of_time[:, -STATES // 8 :].sum() > _TAIL
        if not (many or far):
            break
        levels, reach = levels * (2 if many else 1), reach * (1.6 if far else 1)
    return step_chain(flow, min(levels, most), reach)
