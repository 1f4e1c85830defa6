"""Steps and places of one deployment for a demand, and the highest rate that they sustain."""

import numpy as np

from calc.serving.open_loop.demand import Demand, places
from calc.serving.open_loop.flow import compound_poisson, masses_of
from calc.serving.scheduler import Scheduler
from calc.serving.step_table import StepTable

#: sizes of what starts in one step
_SIZES = 300


class Capacity:
    """What a deployment can do for requests of some lengths: step times, token budget, places, highest rate.

    ``prompt`` is the mean of the tokens to compute, ``work`` all of them scaled by the time they take.
    """

    def __init__(self, table: StepTable, rules: Scheduler, demand: Demand):
        self.table, self.rules, self.demand = table, rules, demand
        self.places, self.is_chunked = places(rules, demand), rules.policy == "chunked"
        self.cap = self.places.cap
        self.context = demand.context_tokens
        per_token = float(table.surplus(1, table.budget_tokens)) / table.budget_tokens
        own = table.prompt_attention(demand.new_tokens, demand.cached_tokens)
        whole = float(np.minimum(demand.new_tokens, table.budget_tokens).mean())
        first = whole * (np.arange(8) + 0.5) / 8
        pieces = table.attention(first) + table.attention(whole - first)
        pieces = pieces + table.past(whole - first, first + demand.cached_tokens.mean())
        #: what it costs that a full step ends within a prompt, whose rest looks back at it [s]
        self.cut_s = max(0.0, float(pieces.mean() - table.attention(whole)))
        self.prompt = float(demand.new_tokens.mean())
        #: attention of a prompt token [s]
        self.attention_s = float(own.mean()) / self.prompt
        #: prompts in tokens, scaled by the time that is theirs: the longer, the more attention
        self.work = demand.new_tokens * per_token + own
        self.work = self.work * (self.prompt / float(self.work.mean()))
        self.max_rate, self.bottleneck = self._max_rate()

    def step_s(self, n, tokens):
        """Time of a step with ``n`` decodes waiting for it and so many prompt tokens. [s]"""
        beside = n if self.is_chunked else np.where(tokens > 0, 0, n)
        further = np.maximum(tokens / self.prompt - 1, 0.0) * self.table.sequence_s
        cut = np.where(tokens >= self.budget(n), self.cut_s, 0.0)
        return self.table.step(beside, self.context, tokens) + tokens * self.attention_s + further + cut

    def growth(self, n):
        """Share of a decode step that grows with its decodes, and how far with the lengths of their prompts.

        The second is 1 where a request's share of the step is in proportion to its prompt, 0 where all
        requests add as much.
        """
        table, context = self.table, self.context
        n = np.clip(n, 1.0, table.max_decodes)
        more = _slope(lambda n: table.decode(n, context), n, 1.0, table.max_decodes)
        longer = _slope(lambda context: table.decode(n, context), context, *table.contexts[[0, -1]])
        prompt = float((self.demand.new_tokens + self.demand.cached_tokens).mean()) / context
        grows = np.clip(more / table.decode(n, context), 0.0, 1.0)
        return grows, prompt * np.clip(longer / np.maximum(more, 1e-12), 0.0, 1.0)

    def budget(self, n):
        """Prompt tokens that fit into a step beside ``n`` decodes. [tokens]"""
        return np.maximum(1.0, self.rules.budget_tokens - (n if self.is_chunked else 0 * n))

    def _max_rate(self) -> tuple[float, str]:
        """Highest rate with a steady state, and what sets it.

        A place is taken for the decode steps of a request and for that of its prompt.
        """
        number = self.places.number
        steps = max(self.demand.decode_steps, 1e-9)
        if not self.is_chunked:
            return self._max_rate_apart(steps)
        finishing = number / (steps + 1)
        if finishing * self.prompt < self.budget(number):
            n = max(1.0, number - finishing)  # less than one decode takes no time
            return finishing / self._mean_step(n, finishing * (1 + self._recomputed(finishing))), "places"
        # so many decodes that the prompts of their successors fill a step
        n = min(number, self.rules.budget_tokens * steps / (self.prompt + steps))
        started = float(self.budget(n)) / self.prompt
        return started / float(self.step_s(n, self.budget(n))), "prefill"

    def _recomputed(self, finishing) -> float:
        """Share of prompt tokens that are computed again, when so many requests start in a step.

        A prompt longer than a step is let in with its first piece. While it computes, others leave its
        cache behind; where that is slower than it computes, it is preempted once the rest is used up,
        and begins again.
        """
        if self.rules.reserve != "prompt" or self.cap >= self.rules.max_sequences:
            return 0.0
        prompts, budget = self.demand.new_tokens, float(self.budget(self.places.number))
        used = finishing * self.prompt / budget
        first = np.minimum(prompts, budget)
        spare = self.rules.watermark * self.rules.pool_tokens + float((first**2).mean() / (2 * first.mean()))
        most = budget * (1 - used) + spare / (1 - used)
        times = np.where(prompts > most, np.ceil((prompts - most) * (1 - used) / (used * most)), 0.0)
        return float(times.mean()) * most / self.prompt

    def _max_rate_apart(self, steps) -> tuple[float, str]:
        """Highest rate when prompts run in steps of their own: the two times add up."""
        number = self.places.number
        full = float(self.step_s(0, self.budget(0.0))) / (self.budget(0.0) / self.prompt)
        own = float(np.mean(self.step_s(0, np.minimum(self.work, self.budget(0.0)))))
        decode = steps * float(self.step_s(number, np.zeros(1))[0]) / number
        together = number / steps
        prefill = own if together < 1 else full + (own - full) / max(together, 1.0)
        return 1 / (decode + prefill), "places" if decode > prefill else "prefill"

    def _mean_step(self, n, requests) -> float:
        """Mean time of steps in which prompts (of this mean) start at random, so many a step.

        Prompts beyond the budget are left for further steps, in which fewer start.
        """
        low, high = requests, 1e3 * requests + 1e3
        for _ in range(40):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if self._started(n, middle)[0] < requests else (low, middle)
        return self._started(n, high)[1]

    def _started(self, n, at_once) -> tuple[float, float]:
        """Prompts per step and mean time of steps, when so many on average start at once.

        Their tokens are a compound Poisson sum.
        """
        second = float((self.work**2).mean())
        reach = at_once * self.prompt + 6 * np.sqrt(at_once * second) + 3 * second / self.prompt
        width = reach / _SIZES
        width = self.prompt / np.round(self.prompt / width) if width < self.prompt else width
        masses = masses_of(self.work / width)
        chance = compound_poisson(np.array([at_once]), masses)[0]
        tokens = np.arange(len(masses)) * width
        budget = self.budget(n)
        steps = np.maximum(tokens / budget, 1.0)
        seconds = steps * self.step_s(n, np.minimum(tokens, budget))
        total = (chance * steps).sum()
        return float((chance * tokens).sum() / self.prompt / total), float((chance * seconds).sum() / total)


def _slope(values, at, least, most):
    """How far a function of a size grows per relative growth of it, from 10 % each way within its limits."""
    low, high = np.maximum(0.9 * at, least), np.minimum(1.1 * at, most)
    return (values(high) - values(low)) * at / np.maximum(high - low, 1e-9)
