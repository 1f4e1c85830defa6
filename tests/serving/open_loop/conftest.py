"""Chain and simulation of one scenario."""

import numpy as np
import pytest

import calc
from calc.serving.open_loop.arrivals import open_loop
from calc.serving.requests import poisson_requests
from calc.serving.simulate import ready, simulate_requests
from calc.specs.deployment import Deployment
from calc.specs.lengths import Lengths


@pytest.fixture(scope="session")
def both():
    """A function that returns chain, simulation and the simulated requests."""

    def both(model, device, kind, load, n, prompt, output, rules=None, output_kind=None, **deployment):
        """Chain and simulation at a load; lengths are those of the sample."""
        lengths, outputs = Lengths(kind, 0.7), Lengths(output_kind or kind, 0.7)
        drawn = poisson_requests(1, n, prompt, output, prompt_lengths=lengths, output_lengths=outputs)
        table, scheduler = ready(
            calc.steps_of(model, device, Deployment(**deployment)), drawn, **(rules or {})
        )
        every = n // 2000
        thinned = [np.sort(each)[every // 2 :: every] for each in (drawn.prompt_tokens, drawn.output_tokens)]
        most = open_loop(table, scheduler, *thinned, 0)[0].max_requests_per_s
        requests = drawn.faster(load * most / drawn.requests_per_s)
        chain = open_loop(table, scheduler, *thinned, load * most)[0]
        return chain, simulate_requests(table, scheduler, requests), requests

    return both
