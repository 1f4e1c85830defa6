"""What an engine's scheduler may do in one step, and how much cache it can hand out."""

from dataclasses import dataclass

from calc.serving.steps import Steps
from calc.specs.errors import SpecError
from calc.specs.numeric import ceil, floor
from calc.work.budget import Memory

#: assumed share of blocks that admitting a request leaves free (vLLM V0's default)
WATERMARK = 0.01
POLICIES = ("chunked", "prefill_first")
RESERVES = ("prompt", "request")
#: what engines do as shipped: assumed from their documentation, where it differs from vLLM V1.
#: TensorRT-LLM admits what it can finish (no eviction).
_RESERVE = {"tensorrt-llm": "request"}


@dataclass(frozen=True)
class Scheduler:
    """Limits of one batch of a replica and the rules it admits requests by.

    Attributes
    ----------
    max_sequences : int
        Most requests that run at once.
    budget_tokens : int
        Most tokens of one step, prompts and decodes together. [tokens]
    blocks, block_tokens : int
        Blocks of the cache pool and tokens of each.
    policy : str
        ``"chunked"``: prompt chunks share steps with decodes (vLLM V1);
        ``"prefill_first"``: prompts run in steps of their own, decodes wait (SGLang).
    reserve : str
        Cache a request needs to start: ``"prompt"`` (the rest as it grows, with preemption)
        or ``"request"`` (all of it, never preempted).
    cached_share : float
        Share of each prompt that the prefix cache holds already: neither computed nor stored.
    watermark : float
        Share of blocks that starting a request leaves free for those that grow.
    ranks : int
        Such batches side by side in a replica: attention-data ranks, micro-batches of a pipeline.
    """

    max_sequences: int
    budget_tokens: int
    blocks: int
    block_tokens: int = 16
    policy: str = "chunked"
    reserve: str = "prompt"
    cached_share: float = 0.0
    watermark: float = WATERMARK
    ranks: int = 1

    def __post_init__(self):
        for name, allowed in (("policy", POLICIES), ("reserve", RESERVES)):
            if getattr(self, name) not in allowed:
                raise SpecError(
                    f"{name}: {getattr(self, name)!r} is not known; allowed are {', '.join(allowed)}"
                )
        if not 0 <= self.cached_share < 1:
            raise SpecError(f"cached_share: {self.cached_share!r} is not allowed; allowed are 0 <= share < 1")

    @property
    def pool_tokens(self) -> int:
        """Tokens that the pool holds. [tokens]"""
        return self.blocks * self.block_tokens


def scheduler_of(
    steps: Steps,
    memory: Memory,
    request_tokens,
    *,
    policy: str | None = None,
    reserve: str | None = None,
    cached_share: float = 0.0,
) -> Scheduler:
    """Return the scheduler of a deployment: its engine's limits and what memory leaves.

    Parameters
    ----------
    steps : Steps
    memory : Memory
        Of requests of about ``request_tokens``.
    request_tokens : number
        Mean length of a request, prompt and output. [tokens]

    Notes
    -----
    The pool is counted in blocks of requests of that length: exact for full attention; for
    windows and recurrent states it is what such requests take on average.
    """
    engine, ranks = steps.engine, int(steps.ranks)
    block = int(engine.block_tokens)
    budget = int(steps.token_budget(request_tokens))
    return Scheduler(
        max_sequences=max(1, min(int(steps.most_requests) // ranks, budget)),
        budget_tokens=budget,
        blocks=int(floor(memory.max_concurrency * ceil(request_tokens / block) / ranks)),
        block_tokens=block,
        policy=policy or steps.policy,
        reserve=reserve or _RESERVE.get(engine.id, "prompt"),
        cached_share=cached_share,
        ranks=ranks,
    )
