"""What fits: the memory of each pipeline stage as the serving engine budgets it."""

from dataclasses import dataclass

import numpy as np

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.engine import Engine, as_served
from calc.specs.model import Model
from calc.specs.numeric import ceil, floor, maximum, minimum, where
from calc.specs.workload import Workload
from calc.work.activation_peak import stage_activation_bytes
from calc.work.adapters import adapter_parameters_per_device, adapters_bytes
from calc.work.drafts import Draft, draft_of
from calc.work.memory import precision_of
from calc.work.request_cache import RequestCache
from calc.work.sharding import stages
from calc.work.weight_bytes import bytes_by_role, engine_extra_bytes


def usable_bytes(device_bytes, share):
    """Bytes of a device's memory that an engine plans with, as a share of all. [byte]

    Examples
    --------
    >>> usable_bytes(80e9, 0.9)
    72000000000.0
    """
    return device_bytes * share


def usable_of_free_bytes(device_bytes, share, fixed_bytes):
    """Bytes that an engine plans with when its share counts what ``fixed_bytes`` leave free. [byte]

    Examples
    --------
    >>> usable_of_free_bytes(80e9, 0.9, 30e9)
    75000000000.0
    """
    return device_bytes - (1 - share) * maximum(0.0, device_bytes - fixed_bytes)


def over_ranks(dp, each):
    """What all attention-data ranks hold together, each with requests of its own.

    Examples
    --------
    >>> over_ranks(8, 24.5)
    196.0
    """
    return dp * each


@dataclass(frozen=True, eq=False)
class StageMemory:
    """One device of one pipeline stage. All in bytes but the last four.

    ``draft_bytes`` are the weights of what drafts; the cache of drafts is in ``request_bytes``
    and ``shared_bytes``, and once more on its own in ``draft_request_bytes`` and
    ``draft_shared_bytes``.

    ``request_bytes`` is what the engine reserves for one request of the workload (all its
    sequences), ``request_used_bytes`` what its tokens really take; ``shared_bytes`` the
    prefix that requests have in common; ``buffer_bytes`` the part of ``other_bytes`` that an
    engine logs with the weights (rope table, padding, workspaces).
    """

    device_bytes: object
    usable_bytes: object
    weights_bytes: object
    draft_bytes: object
    adapter_bytes: object
    activation_bytes: object
    other_bytes: object
    buffer_bytes: object
    shared_bytes: object
    request_bytes: object
    request_used_bytes: object
    draft_shared_bytes: object
    draft_request_bytes: object
    weights_bytes_by_role: dict
    max_concurrency: object
    cache_tokens: object
    padded_layers: object
    block_tokens: object

    @property
    def fixed_bytes(self):
        """What does not depend on requests. [byte]"""
        held = self.weights_bytes + self.draft_bytes + self.adapter_bytes
        return held + self.activation_bytes + self.other_bytes

    @property
    def cache_pool_bytes(self):
        """What is left to the cache. [byte]"""
        return maximum(0.0, self.usable_bytes - self.fixed_bytes)

    def required_bytes(self, requests):
        """Least memory with which so many requests find room. [byte]"""
        return self.fixed_bytes + self.shared_bytes + requests * self.request_bytes


@dataclass(frozen=True, eq=False)
class Memory:
    """Where the memory goes; plain names are the whole deployment, ``_per_device`` one device.

    ``_per_device`` figures are of the tightest pipeline stage. ``cache_bytes`` is what the
    scenario's requests reserve, ``cache_used_bytes`` what their tokens take,
    ``cache_pool_bytes`` what the engine can give them; ``cache_tokens`` and
    ``max_concurrency`` are that pool in tokens and in requests of this length (the two lines
    vLLM prints at start, times the data-parallel ranks). ``shortfall_bytes`` is what is
    missing when it does not fit. ``draft_bytes`` are the weights of what drafts,
    ``draft_cache_bytes`` the part of ``cache_bytes`` that drafts take.
    """

    stages: tuple[StageMemory, ...]
    tightest: StageMemory
    n_devices: object
    ranks: object  # devices of one stage
    dp: object
    max_concurrency: object
    cache_tokens: object
    held_concurrency: object
    needed_requests: object
    graph_bytes_per_device: object
    host_cache_tokens: object

    device_bytes_per_device = property(lambda self: self.tightest.device_bytes)
    usable_bytes_per_device = property(lambda self: self.tightest.usable_bytes)
    weights_bytes_per_device = property(lambda self: self.tightest.weights_bytes)
    draft_bytes_per_device = property(lambda self: self.tightest.draft_bytes)
    adapter_bytes_per_device = property(lambda self: self.tightest.adapter_bytes)
    activation_bytes_per_device = property(lambda self: self.tightest.activation_bytes)
    other_bytes_per_device = property(lambda self: self.tightest.other_bytes)
    buffer_bytes_per_device = property(lambda self: self.tightest.buffer_bytes)
    shared_cache_bytes_per_device = property(lambda self: self.tightest.shared_bytes)
    request_cache_bytes_per_device = property(lambda self: self.tightest.request_bytes)
    cache_pool_bytes_per_device = property(lambda self: self.tightest.cache_pool_bytes)
    weights_bytes_by_role = property(lambda self: self.tightest.weights_bytes_by_role)

    weights_bytes = property(lambda self: self._total("weights_bytes"))
    draft_bytes = property(lambda self: self._total("draft_bytes"))
    adapter_bytes = property(lambda self: self._total("adapter_bytes"))
    activation_bytes = property(lambda self: self._total("activation_bytes"))
    other_bytes = property(lambda self: self._total("other_bytes"))
    cache_pool_bytes = property(lambda self: self._total("cache_pool_bytes"))

    def _total(self, name: str):
        return self.ranks * sum(getattr(stage, name) for stage in self.stages)

    @property
    def required_bytes_per_device(self):
        """Least memory with which the engine starts and holds what the mode needs. [byte]"""
        return self.tightest.required_bytes(self.needed_requests)

    @property
    def shortfall_bytes_per_device(self):
        """Bytes missing on a device of the tightest stage; 0 when it fits. [byte]"""
        return maximum(0.0, self.required_bytes_per_device - self.usable_bytes_per_device)

    @property
    def shortfall_bytes(self):
        """Bytes missing on all devices together; 0 when it fits. [byte]"""
        missing = (s.required_bytes(self.needed_requests) - s.usable_bytes for s in self.stages)
        return self.ranks * sum(maximum(0.0, each) for each in missing)

    @property
    def fits(self):
        """Whether the engine starts and can hold what the mode needs at once."""
        return self.shortfall_bytes_per_device <= 0

    @property
    def cache_bytes_per_device(self):
        """Cache reserved for the requests in flight. [byte]"""
        stage = self.tightest
        return stage.shared_bytes + self.held_concurrency / self.dp * stage.request_bytes

    @property
    def cache_bytes(self):
        """Cache reserved for the requests in flight on all devices. [byte]"""
        held = self.held_concurrency / self.dp
        return self.ranks * sum(stage.shared_bytes + held * stage.request_bytes for stage in self.stages)

    @property
    def draft_cache_bytes_per_device(self):
        """Cache reserved for the drafts of the requests in flight. [byte]"""
        stage = self.tightest
        return stage.draft_shared_bytes + self.held_concurrency / self.dp * stage.draft_request_bytes

    @property
    def draft_cache_bytes(self):
        """Cache reserved for the drafts of the requests in flight on all devices. [byte]"""
        held = self.held_concurrency / self.dp
        rows = (stage.draft_shared_bytes + held * stage.draft_request_bytes for stage in self.stages)
        return self.ranks * sum(rows)

    @property
    def cache_used_bytes(self):
        """Cache that the tokens of the requests in flight take on all devices. [byte]"""
        held = self.held_concurrency / self.dp
        return self.ranks * sum(stage.shared_bytes + held * stage.request_used_bytes for stage in self.stages)

    @property
    def unused_bytes_per_device(self):
        """Pool that the requests in flight leave empty. [byte]"""
        return maximum(0.0, self.cache_pool_bytes_per_device - self.cache_bytes_per_device)

    def breakdown(self) -> list[tuple[str, object]]:
        """Rows (name, bytes per device) that sum to the memory the device reports.

        When it does not fit nothing is unused and the sum is what would be needed.
        """
        reserve = self.device_bytes_per_device - self.usable_bytes_per_device
        return [
            ("weights", self.weights_bytes_per_device),
            ("drafts", self.draft_bytes_per_device),
            ("adapters", self.adapter_bytes_per_device),
            ("cache", self.cache_bytes_per_device - self.draft_cache_bytes_per_device),
            ("cache of drafts", self.draft_cache_bytes_per_device),
            ("activations", self.activation_bytes_per_device),
            ("other", self.other_bytes_per_device),
            ("unused cache pool", self.unused_bytes_per_device),
            ("outside the engine's share", reserve),
        ]


def memory_of(model: Model, device: Device, deployment: Deployment, load: Workload, engine: Engine) -> Memory:
    """Return the memory of one scenario, stage by stage.

    Parameters
    ----------
    model, device, deployment, load, engine
        What is given; numeric fields of deployment and load may be arrays that broadcast.

    Notes
    -----
    A static batch is held as a whole whatever the engine's budget. What drafts is on the last
    stage (``calc.work.drafts``), its cache in pages of its own. Ignored: fragmentation
    beyond whole blocks and padded layer groups, memory of other processes, and activations and
    buffers of drafting.
    """
    d, model = deployment, as_served(model, engine)
    parts = stages(model, d.pp)
    draft = draft_of(model, d)
    rows = tuple(
        stage_memory(stage, device, d, load, engine, draft if stage is parts[-1] else None) for stage in parts
    )
    tight = _tightest(rows, load.concurrency / d.dp if load.mode == "static" else 1)
    limit = (d.max_sequences or engine.max_sequences) / load.sequences_per_request
    most = over_ranks(d.dp, tight.max_concurrency)
    held = floor(maximum(0, minimum(most, d.dp * limit)))
    needed = 1
    if load.mode in ("max_load", "open_loop"):
        held = maximum(1, held)
    elif load.mode == "static":
        held, needed = load.concurrency, ceil(load.concurrency / d.dp)
    else:
        held = minimum(load.concurrency, maximum(1, held))
    per_token = tight.request_bytes / maximum(1, load.prompt_tokens + load.output_tokens)
    return Memory(
        stages=rows,
        tightest=tight,
        n_devices=d.n_devices,
        ranks=d.tp * d.dp,
        dp=d.dp,
        max_concurrency=most,
        cache_tokens=over_ranks(d.dp, tight.cache_tokens),
        held_concurrency=held,
        needed_requests=needed,
        graph_bytes_per_device=engine.cuda_graphs,
        host_cache_tokens=floor(d.n_devices * d.host_cache_bytes / maximum(per_token, 1.0)),
    )


def stage_memory(
    stage: Model, device: Device, d: Deployment, load: Workload, engine: Engine, draft: Draft | None = None
) -> StageMemory:
    """Return the memory of one device of one pipeline stage, with what drafts on it."""
    precision, by_role = precision_of(stage, d), held_by_role(stage, d, engine)
    stored, drafting = sum(by_role.values()), draft_weights_bytes(draft, engine)
    adapters = adapters_bytes(d.lora_slots, adapter_parameters_per_device(stage, d.lora_rank, d.tp))
    activation = stage_activation_bytes(stage, d, load, engine, precision)
    buffers = sum(engine_extra_bytes(stage, d.weight_dtype, d.tp, d.dp, d.ep, engine.id).values())
    other = _other(d, engine) + buffers
    fixed = stored + drafting + adapters + activation + other
    usable = _usable(device, d, load, engine, fixed)
    pool = maximum(0.0, usable - fixed)
    pages, ahead = RequestCache(stage, d, load, engine, precision), _draft_cache(draft, load, engine)
    shared, request, used = (0.0, 0.0, 0.0) if ahead is None else ahead.sizes
    return StageMemory(
        device_bytes=device.memory_bytes,
        usable_bytes=usable,
        weights_bytes=stored,
        draft_bytes=drafting,
        adapter_bytes=adapters,
        activation_bytes=activation,
        other_bytes=other,
        buffer_bytes=buffers,
        shared_bytes=pages.shared_bytes + shared,
        request_bytes=pages.request_bytes + request,
        request_used_bytes=pages.used_bytes + used,
        draft_shared_bytes=shared,
        draft_request_bytes=request,
        weights_bytes_by_role=by_role,
        max_concurrency=pages.max_concurrency(pool, ahead),
        cache_tokens=pages.cache_tokens(pool, ahead),
        padded_layers=pages.whole.padded_layers,
        block_tokens=pages.whole.block_tokens,
    )


def held_by_role(stage: Model, d: Deployment, engine: Engine) -> dict[str, object]:
    """Return bytes of the weights on one device by module class; a host may keep the embedding. [byte]"""
    by_role = dict(bytes_by_role(stage, d.weight_dtype, d.tp, d.dp, d.ep))
    if engine.embedding_on_host and not stage.tied_embeddings:
        by_role["embedding"] = 0.0 * by_role.get("embedding", 0.0)
    return by_role


def draft_weights_bytes(draft: Draft | None, engine: Engine):
    """Return bytes of the weights of what drafts on one device of the last stage. [byte]"""
    if draft is None:
        return 0.0
    return sum(held_by_role(draft.model, draft.deployment, engine).values())


def _draft_cache(draft: Draft | None, load: Workload, engine: Engine) -> RequestCache | None:
    if draft is None:
        return None
    return RequestCache(draft.model, draft.deployment, load, engine, precision_of(*draft))


def _other(d: Deployment, engine: Engine):
    single = engine.non_torch_pipeline if d.pp > 1 else engine.non_torch_single
    return where(d.tp > 1, engine.non_torch_parallel, single)


def memory_budget(d: Deployment, load: Workload, engine: Engine):
    """Kind of budget, as in ``BUDGETS``, and its share; a static batch gets all of the memory."""
    share = engine.memory_utilization if d.memory_utilization is None else d.memory_utilization
    if engine.budget == "exact" or (load.mode == "static" and d.memory_utilization is None):
        return "share-of-total", 1.0 if d.memory_utilization is None else share
    return engine.budget, share


def _usable(device: Device, d: Deployment, load: Workload, engine: Engine, fixed):
    kind, share = memory_budget(d, load, engine)
    if kind == "share-of-free":
        return usable_of_free_bytes(device.memory_bytes, share, fixed)
    return usable_bytes(device.memory_bytes, share)


def _tightest(rows: tuple[StageMemory, ...], requests) -> StageMemory:
    """Return the stage that runs out first, element by element."""
    if len(rows) == 1:
        return rows[0]
    room = [
        where(
            row.required_bytes(requests) > row.usable_bytes,
            row.usable_bytes - row.required_bytes(requests),
            row.max_concurrency,
        )
        for row in rows
    ]
    choice = np.argmin(np.stack(np.broadcast_arrays(*[np.asarray(r, dtype=float) for r in room])), axis=0)
    if choice.ndim == 0:
        return rows[int(choice)]
    return _chosen(rows, choice)


def _chosen(rows: tuple[StageMemory, ...], choice: np.ndarray) -> StageMemory:
    def pick(values):
        return np.choose(
            choice, [np.broadcast_to(np.asarray(value, dtype=float), choice.shape) for value in values]
        )

    fields = {
        name: pick([getattr(row, name) for row in rows])
        for name in StageMemory.__dataclass_fields__
        if name != "weights_bytes_by_role"
    }
    roles = {role for row in rows for role in row.weights_bytes_by_role}
    by_role = {
        role: pick([row.weights_bytes_by_role.get(role, 0.0) for row in rows]) for role in sorted(roles)
    }
    return StageMemory(**fields, weights_bytes_by_role=by_role)
