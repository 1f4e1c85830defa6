"""Explanations of what a device must hold, what the engine may use of it, and how many devices."""

from dataclasses import replace
from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.explanation import Part
from calc.explain.metrics import Answer
from calc.explain.quantities import shown
from calc.explain.requests import draft_weights, held_by_request
from calc.explain.trace import Trace
from calc.explain.weights import weights_per_device
from calc.specs.deployment import Deployment
from calc.work.activation_peak import (
    activation_peak_bytes,
    activation_width,
    routed_width,
    vision_peak_bytes,
)
from calc.work.adapters import adapter_parameters_per_device, adapters_bytes
from calc.work.budget import Memory, memory_budget, memory_of, usable_bytes, usable_of_free_bytes
from calc.work.drafts import tp_choices_with_drafts
from calc.work.memory import precision_of
from calc.work.sharding import Split

_BUDGET = ("required_bytes_per_device", "usable_bytes_per_device")
#: what does not depend on requests, as fields of StageMemory
_FIXED = ("weights_bytes", "draft_bytes", "adapter_bytes", "activation_bytes", "other_bytes")


def memory(t: Trace, e: Estimate) -> Answer:
    """Explain what one device must hold, against what the engine may use of it."""
    m, fixed = e.memory, fixed_parts(t, e)
    needed, usable = _required(t, e, fixed), usable_memory(t, e, fixed)
    short = t.define(
        "M_short", "bytes missing on one device", "byte",
        _property(Memory, "shortfall_bytes_per_device", *_BUDGET), needed, usable,
    )  # fmt: skip
    rows = {
        "weights": m.weights_bytes_per_device,
        "drafts": m.draft_bytes_per_device,
        "adapters": m.adapter_bytes_per_device,
        "activations": m.activation_bytes_per_device,
        "driver and communication buffers": m.other_bytes_per_device,
        f"cache of {m.needed_requests} request{'s' * (m.needed_requests != 1)}":
            m.needed_requests * m.request_cache_bytes_per_device,
        "cache of the shared prefix": m.shared_cache_bytes_per_device,
    }  # fmt: skip
    parts = [
        Part(name, float(size), "byte", shown(float(size), "byte"))
        for name, size in rows.items()
        if size or name not in ("adapters", "drafts", "cache of the shared prefix")
    ]
    return Answer([needed, usable, short], parts, [
        f"{_sentence(e)}.",
        *scenario.stage_notes(e),
        "Fragmentation beyond whole cache blocks and groups is ignored.",
    ])  # fmt: skip


def n_devices(t: Trace, e: Estimate) -> Answer:
    """Explain the number of devices, and why it takes so many."""
    ranks = [
        scenario.tensor_ranks(t, e),
        t.given("pp", "pipeline-parallel ranks", e.deployment.pp, "count"),
        t.given("dp", "attention-data-parallel ranks", e.deployment.dp, "count"),
    ]
    total = t.define("n", "devices", "count", _property(Deployment, "n_devices", "tp", "pp", "dp"), *ranks)
    fixed = fixed_parts(t, e)
    needed, usable = _required(t, e, fixed), usable_memory(t, e, fixed)
    notes = [f"{_sentence(e)}.", *scenario.stage_notes(e), *_at_other_tp(e)]
    return Answer([total, needed, usable], (), notes)


def _sentence(e: Estimate) -> str:
    text = e.fit_sentence()
    return text[0].upper() + text[1:]


def _at_other_tp(e: Estimate) -> list[str]:
    """Memory with fewer tensor-parallel ranks: why this many."""
    d, sentences = e.deployment, []
    fewer = [2**power for power in range(11) if 2**power < d.tp]
    fewer = [tp for tp in fewer if tp * d.dp % d.ep == 0 and tp % d.cp == 0]
    for tp in tp_choices_with_drafts(e.model, d, fewer):
        m = memory_of(e.model, e.device, replace(e.deployment, tp=tp), e.workload, e.engine)
        fits = "fits" if m.fits else "does not fit"
        required, usable = float(m.required_bytes_per_device), float(m.usable_bytes_per_device)
        sentences.append(
            f"tp {tp}: needs {shown(required, 'byte')} of {shown(usable, 'byte')} per device: {fits}."
        )
    return sentences


def _property(cls, name: str, *fields: str):
    """A property of a class as a function of the fields it uses."""
    return lambda *values: getattr(cls, name).fget(SimpleNamespace(**dict(zip(fields, values, strict=True))))


def fixed_parts(t: Trace, e: Estimate) -> dict[str, object]:
    """Symbols of what does not depend on requests, on one device; 0 where there is none of it."""
    whole, e = e, scenario.one_stage(e)
    weights, _ = weights_per_device(t, e)
    drafts = draft_weights(t, whole)
    return dict(zip(_FIXED, (weights, drafts, _adapters(t, e), _activation(t, e), _other(t, e)), strict=True))


def of_stage(e: Estimate, answer, *fields: str):
    """A function of fields of one device's memory: ``answer`` takes the StageMemory that has them."""
    return lambda *values: answer(scenario.memory_with(e, dict(zip(fields, values, strict=True))).tightest)


def _adapters(t: Trace, e: Estimate):
    d = e.deployment
    if not d.lora_slots:
        return 0.0
    slots = t.given("n_lora", "LoRA adapters held at once", d.lora_slots, "count")
    each = scenario.model_size(
        t, e, "p_lora", "parameters of one adapter on one device",
        adapter_parameters_per_device(e.model, d.lora_rank, d.tp), "parameters",
        f"rank {d.lora_rank} beside all attention and feed-forward matrices",
    )  # fmt: skip
    return t.define("M_lora", "LoRA adapters on one device", "byte", adapters_bytes, slots, each)


def _other(t: Trace, e: Estimate):
    alone = "non_torch_pipeline" if e.deployment.pp > 1 else "non_torch_single"
    name = "non_torch_parallel" if e.deployment.tp > 1 else alone
    driver, buffers = e.engine.facts[name], float(e.memory.buffer_bytes_per_device)
    if not buffers:
        return t.fact("M_other", "driver and communication buffers", driver)
    words = "rope table, padding and workspaces beside the weights"
    return t.define(
        "M_other", "driver, communication and engine buffers", "byte", lambda *each: sum(each),
        t.fact("M_driver", "driver and communication buffers", driver),
        t.derived("M_buffers", words, buffers, "byte", f"as {e.engine.name} holds them"),
    )  # fmt: skip


def _activation(t: Trace, e: Estimate):
    """Symbol of the activation peak; parts that an engine does not have are left out."""
    facts, d = e.engine.facts, e.deployment
    if d.pp > 1 and facts["activation_pipeline"].value:
        return t.fact("M_activation", "activation peak of a pipeline stage", facts["activation_pipeline"])
    if facts["activation_ff"].value:
        peak, words = (
            e.memory.activation_bytes_per_device,
            "activation peak of a prefill of the longest request",
        )
        return t.derived("M_activation", words, peak, "byte", "as this version profiles it at start")
    logits = copies = (0, 0, 0)
    if facts["activation_per_logit"].value:
        logits = (
            t.fact("a_logit", "activation bytes per logit", facts["activation_per_logit"]),
            scenario.engine_setting(
                t, e, "n_max", "sequences the engine plans for", "max_sequences", d.max_sequences
            ),
            scenario.model_size(t, e, "V", "vocabulary", e.model.vocab_size),
        )
    if facts["activation_token_copies"].value:
        copies = (
            t.fact("a_copies", "copies of a step's activations", facts["activation_token_copies"]),
            scenario.token_budget(t, e),
            _width(t, e),
        )
    fixed = t.fact("a_0", "fixed part of the activation peak", facts["activation_fixed"])
    extra = vision_peak_bytes(e.model, e.engine)
    name, words = ("M_peak", "peak without the vision tower") if extra else (
        "M_activation", "activation peak on one device")  # fmt: skip
    peak = t.define(name, words, "byte", activation_peak_bytes, fixed, *logits, *copies)
    if not extra:
        return peak
    tower = t.fact("a_vision", "extra peak with a vision tower", facts["activation_vision"])
    return t.define(
        "M_activation", "activation peak on one device", "byte", lambda *each: sum(each), peak, tower
    )


def _width(t: Trace, e: Estimate):
    """Symbol of the elements per token that a copy of the activations has."""
    model, d = e.model, e.deployment
    words = "width of the hidden state"
    hidden = t.symbol("d_model") or scenario.model_size(t, e, "d_model", words, model.d_model)
    if not activation_width(model, d, e.engine, precision_of(model, d)) > model.d_model:
        return hidden
    layers = [layer.feedforward for layer, _ in model.distinct_layers if layer.feedforward]
    names = ("top_k", "d_expert", "d_model")
    widest = max(
        (part for part in layers if part.kind == "moe"),
        key=lambda part: routed_width(*map(part.__getitem__, names)),
    )
    routed = t.define(
        "w_experts", "elements per token that the experts' kernels keep", "count", routed_width,
        scenario.model_size(t, e, "top_k", "experts that a token visits", widest["top_k"]),
        scenario.model_size(t, e, "d_expert", "width of an expert", widest["d_expert"]),
        hidden, _expert_cut(t, e),
    )  # fmt: skip
    return t.define(
        "w",
        "elements per token in a copy of the activations",
        "count",
        lambda *each: sum(each),
        hidden,
        routed,
    )


def _expert_cut(t: Trace, e: Estimate):
    """Symbol of the devices that share one expert."""
    d, tp = e.deployment, scenario.tensor_ranks(t, e)
    if d.dp == d.ep == 1:
        return tp
    whole = t.given("ep", "ranks that share out whole experts", d.ep, "count")
    return t.define(
        "n_cut", "devices that share one expert", "count",
        lambda tp, dp, ep: Split(tp=tp, dp=dp, ep=ep).expert_cut, tp, scenario.data_ranks(t, e), whole,
    )  # fmt: skip


def _required(t: Trace, e: Estimate, fixed: dict):
    request = held_by_request(t, e)
    wanted = t.derived(
        "r", "requests that must find room at once", e.memory.needed_requests, "count",
        "a static batch as a whole, else one request",
    )  # fmt: skip

    def required(count, *held):
        fields = (*_FIXED, "request_bytes", "shared_bytes")
        return of_stage(e, lambda stage: stage.required_bytes(count), *fields)(*held)

    return t.define(
        "M_required", "memory needed on one device", "byte",
        required, wanted, *(fixed[name] for name in _FIXED), request.total, request.shared,
    )  # fmt: skip


def usable_memory(t: Trace, e: Estimate, fixed: dict):
    """Symbol of the memory that the engine may use on one device, by its kind of budget."""
    kind, share = memory_budget(e.deployment, e.workload, e.engine)
    reported = "as the device reports it" if e.device.reported else "as labelled; no report is known"
    size = t.fact("M_device", "memory of one device", e.device.reported or e.device.capacity, note=reported)
    words = "memory the engine may use on one device"
    if kind == "share-of-free":
        used = _share(t, e, share, "share of the free memory that the cache may use")
        taken = t.define(
            "M_fixed", "what does not depend on requests, on one device", "byte",
            of_stage(e, lambda stage: stage.fixed_bytes, *_FIXED), *(fixed[name] for name in _FIXED),
        )  # fmt: skip
        return t.define("M_usable", words, "byte", usable_of_free_bytes, size, used, taken)
    used = _share(t, e, share, "share of it the engine may use")
    return t.define("M_usable", words, "byte", usable_bytes, size, used)


def _share(t: Trace, e: Estimate, share, words: str):
    chosen, known = e.deployment.memory_utilization, e.engine.facts["memory_utilization"]
    if chosen is None and share != known.value:
        return t.derived("u", words, share, "ratio", "a static batch is given all of the memory")
    return scenario.engine_setting(t, e, "u", words, "memory_utilization", chosen)
