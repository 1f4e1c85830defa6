"""Explanations of memory: weights, cache, what a device must hold, how many devices."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.explanation import Part
from calc.explain.metrics import Answer
from calc.explain.quantities import shown
from calc.explain.trace import Trace
from calc.specs.deployment import Deployment
from calc.specs.model import ROLES, Layer
from calc.specs.model import Part as ModelPart
from calc.specs.quantization import weight_format
from calc.work.attention import attention
from calc.work.memory import (
    Memory,
    activation_peak_bytes,
    cache_bytes_per_sequence,
    memory_of,
    precision_of,
    request_tokens,
    stored_bytes,
    usable_bytes,
    weights_bytes_by_role,
)
from calc.work.memory import cache_bytes_per_token as per_token
from calc.work.op import Precision
from calc.work.sharding import tp_choices

_BUDGET = ("required_bytes_per_device", "usable_bytes_per_device")
_HELD = (
    "weights_bytes_per_device", "activation_bytes_per_device", "other_bytes_per_device",
    "needed_requests", "request_cache_bytes_per_device",
)  # fmt: skip
#: sizes that decide the cache, in words
_WORDS = {
    "n_kv_heads": "KV heads", "d_head": "width of a head", "d_value": "width of a value head",
    "window": "tokens in the window", "chunk": "tokens in a chunk",
    "kv_lora_rank": "width of the cached latent", "d_rope": "width of the rotary key",
    "d_index": "width of the indexer's key", "n_key_heads": "key heads", "n_value_heads": "value heads",
    "d_key": "width of a key head", "d_conv": "width of the convolution",
}  # fmt: skip


def weights_bytes(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of weights on all devices."""
    each, rows = _weights_per_device(t, e)
    total = t.define(
        "M", "weights on all devices", "byte", _total("weights_bytes"), scenario.devices(t, e), each,
    )  # fmt: skip
    parts = [
        Part(role, float(e.n_devices * size), "byte", shown(float(e.n_devices * size), "byte"), note, details)
        for role, size, note, details in rows
    ]
    return Answer([total], parts, [
        "8 bits make a byte. Padding of uneven cuts and buffers beside the parameters are ignored.",
    ])  # fmt: skip


def cache_bytes(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of KV cache that the requests in flight occupy."""
    request = _cache_per_request(t, e)
    held = scenario.in_flight(t, e, e.memory.held_concurrency)
    each = t.define(
        "C_device", "cache on one device", "byte",
        _property(Memory, "cache_bytes_per_device", "held_concurrency", "request_cache_bytes_per_device"),
        held, request,
    )  # fmt: skip
    total = t.define(
        "C", "cache on all devices", "byte", _total("cache_bytes"), scenario.devices(t, e), each,
    )  # fmt: skip
    tokens, factor = t.value("T"), e.n_devices * e.memory.held_concurrency
    parts = _cache_parts(e, lambda kind, width: factor * kind.cache_bytes(tokens, width, e.deployment.tp))
    return Answer([total], parts, [
        "Every request is charged for its whole length, prompt and output, in whole blocks.",
        f"The engine's pool on all devices is {shown(float(e.memory.cache_pool_bytes), 'byte')}. "
        "Prefix sharing is ignored.",
    ])  # fmt: skip


def cache_bytes_per_token(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of KV cache of one more token, on one device."""
    layers = _CacheLayers(t, e, numbers=("window", "chunk"))
    tp, width = _tp(t, e), _cache_width(t, e)
    total = t.define(
        "c", "cache of one more token, one device", "byte",
        lambda b, ranks, *sizes: per_token(layers.model(sizes), b, ranks),
        width, tp, *layers.symbols, fold=True,
    )  # fmt: skip
    parts = _cache_parts(e, lambda kind, b: _growth(kind, b, e.deployment.tp))
    ranks = e.deployment.tp
    whole = shown(ranks * float(t.values[total]), "byte")
    return Answer([total], parts, [
        *([f"On the {ranks} tensor-parallel ranks together: {whole} per token."] if ranks > 1 else []),
        "A short sequence: layers with a window stop growing there; states of fixed size do not count.",
    ])  # fmt: skip


def memory(t: Trace, e: Estimate) -> Answer:
    """Explain what one device must hold, against what the engine may use of it."""
    m = e.memory
    needed, usable = _required(t, e), _usable(t, e)
    short = t.define(
        "M_short", "bytes missing on one device", "byte",
        _property(Memory, "shortfall_bytes_per_device", *_BUDGET), needed, usable,
    )  # fmt: skip
    cache = m.needed_requests * m.request_cache_bytes_per_device
    rows = {
        "weights": m.weights_bytes_per_device,
        "activations": m.activation_bytes_per_device,
        "driver and communication buffers": m.other_bytes_per_device,
        f"cache of {m.needed_requests} request{'s' * (m.needed_requests != 1)}": cache,
    }
    parts = [Part(name, float(size), "byte", shown(float(size), "byte")) for name, size in rows.items()]
    return Answer([needed, usable, short], parts, [
        e.fit_sentence(),
        "Fragmentation beyond whole cache blocks is ignored.",
    ])  # fmt: skip


def n_devices(t: Trace, e: Estimate) -> Answer:
    """Explain the number of devices, and why it takes so many."""
    d = e.deployment
    ranks = [
        t.given("tp", "tensor-parallel ranks", d.tp, "count"),
        t.given("pp", "pipeline-parallel ranks", d.pp, "count"),
        t.given("dp", "data-parallel ranks", d.dp, "count"),
    ]
    total = t.define("n", "devices", "count", _property(Deployment, "n_devices", "tp", "pp", "dp"), *ranks)
    needed, usable = _required(t, e, ranks[0]), _usable(t, e)
    return Answer([total, needed, usable], (), [e.fit_sentence(), *_at_other_tp(e)])


def _at_other_tp(e: Estimate) -> list[str]:
    """Memory with fewer tensor-parallel ranks: why this many."""
    sentences = []
    for tp in tp_choices(e.model, [2**power for power in range(11) if 2**power < e.deployment.tp]):
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


def _total(name: str):
    """A property of Memory that counts all devices, as a function of their number and one's share."""
    return _property(Memory, name, "n_devices", f"{name}_per_device")


def _weights_per_device(t: Trace, e: Estimate):
    """Symbol of the weights on one device, and rows (module class, bytes, note, details)."""
    tp, precision = e.deployment.tp, precision_of(e.model, e.deployment)
    counts = weights_bytes_by_role(e.model, Precision(dict.fromkeys(ROLES, 8), kv_bytes=0, math=""), tp)
    bits = _bits(t, e, {precision.bits[role] for role in counts})
    sizes, rows = [], []
    for role, count in counts.items():
        words = f"{role.replace('_', ' ')} parameters on one device"
        held = scenario.model_size(
            t, e, f"p_{role}", words, count, "parameters", "counted from the configuration"
        )
        width = bits[precision.bits[role]]
        sizes.append(
            t.define(
                f"M_{role}",
                f"{role.replace('_', ' ')} weights on one device",
                "byte",
                stored_bytes,
                held,
                width,
            )
        )
        note = f"{shown(float(count), 'parameters')} of {precision.bits[role]:g} bits per device"
        details = {"parameters": float(e.n_devices * count), "bits": float(precision.bits[role])}
        rows.append((role, t.values[sizes[-1]], note, details))
    return t.define("M_weights", "weights on one device", "byte", lambda *each: sum(each), *sizes), rows


def _bits(t: Trace, e: Estimate, widths: set) -> dict:
    """Symbols of the bits per parameter: of the format, and of what it leaves alone."""
    fmt, symbols = weight_format(e.weight_dtype), {}
    for width in sorted(widths):
        own = width == fmt.bits
        note = fmt.note if own else f"left in 16 bits by {fmt.name}"
        words = f"bits per parameter, {fmt.name}" if own else "bits per parameter left alone"
        symbols[width] = t.derived("b_weights" if own else "b_kept", words, width, "bit", note)
    return symbols


def _tp(t: Trace, e: Estimate):
    return t.given("tp", "tensor-parallel ranks", e.deployment.tp, "count")


def _cache_width(t: Trace, e: Estimate):
    name = e.deployment.kv_dtype or "bf16"
    width = precision_of(e.model, e.deployment).kv_bytes
    return t.derived("b", "bytes per cached element", width, "byte", f"cache in {name}")


def _attention_kinds(e: Estimate) -> Counter:
    return Counter(layer.attention for layer in e.model.layers if layer.attention)


class _CacheLayers:
    """The attention kinds of a model with symbols for their sizes, and back with any values."""

    def __init__(self, t: Trace, e: Estimate, numbers=()):
        self.kinds = list(_attention_kinds(e).items())
        self.symbols, self._places = [], []
        for index, (part, count) in enumerate(self.kinds, 1):
            ending = f"_{index}" if len(self.kinds) > 1 else ""
            self._add(t, e, ("layers", index), f"L{ending}", f"layers with {part.kind} attention", count)
            for name, value in part.sizes:
                if type(value) is int and value > 0 and name not in numbers:
                    shared = len({dict(other.sizes).get(name, value) for other, _ in self.kinds}) == 1
                    symbol = name if shared else name + ending
                    self._add(t, e, (name, index), symbol, _WORDS.get(name, name), value)

    def _add(self, t: Trace, e: Estimate, place, symbol, words, value):
        self._places.append(place)
        self.symbols.append(t.symbol(symbol) or scenario.model_size(t, e, symbol, words, value))

    def model(self, values):
        """Return what ``cache_bytes_per_sequence`` needs of a model, with these values."""
        found = dict(zip(self._places, values, strict=True))
        layers = []
        for index, (part, _) in enumerate(self.kinds, 1):
            sizes = {name: found.get((name, index), value) for name, value in part.sizes}
            layers.append((Layer(ModelPart.of(part.kind, **sizes), None), found["layers", index]))
        return SimpleNamespace(distinct_layers=layers)


def _cache_per_request(t: Trace, e: Estimate, tp=None):
    block = t.fact("B_block", "tokens of a cache block", e.engine.facts["block_tokens"])
    tokens = t.define(
        "T", "tokens a request is charged for", "tokens", request_tokens,
        scenario.prompt_tokens(t, e), scenario.output_tokens(t, e), block,
    )  # fmt: skip
    layers, tp, width = _CacheLayers(t, e), tp or _tp(t, e), _cache_width(t, e)
    return t.define(
        "C_request", "cache of one request on one device", "byte",
        lambda tokens, b, ranks, *sizes: cache_bytes_per_sequence(layers.model(sizes), tokens, b, ranks),
        tokens, width, tp, *layers.symbols,
    )  # fmt: skip


def _cache_parts(e: Estimate, size_of) -> list[Part]:
    """Rows by kind of attention; ``size_of(kind, bytes per element)`` is one layer's."""
    width, parts = precision_of(e.model, e.deployment).kv_bytes, []
    for part, count in _attention_kinds(e).items():
        size = float(count * size_of(attention(part), width))
        limit = dict(part.sizes).get("window") or dict(part.sizes).get("chunk")
        name = part.kind + (f", window {limit}" if limit else "")
        parts.append(Part(name, size, "byte", shown(size, "byte"), f"{count} layers", {"layers": count}))
    return parts


def _growth(kind, width, tp):
    return kind.cache_bytes(2, width, tp) - kind.cache_bytes(1, width, tp)


def _required(t: Trace, e: Estimate, tp=None):
    weights, _ = _weights_per_device(t, e)
    engine, parallel = e.engine, e.deployment.tp > 1
    sequences = scenario.engine_setting(
        t, e, "n_max", "sequences the engine plans for", "max_sequences", e.deployment.max_sequences
    )
    vocabulary = scenario.model_size(t, e, "V", "vocabulary", e.model.vocab_size)
    activation = t.define(
        "M_activation", "activation peak on one device", "byte", activation_peak_bytes,
        t.fact("a_0", "fixed part of the activation peak", engine.facts["activation_fixed"]),
        t.fact("a_logit", "activation bytes per logit", engine.facts["activation_per_logit"]),
        sequences, vocabulary,
    )  # fmt: skip
    other = t.fact(
        "M_other",
        "driver and communication buffers",
        engine.facts["non_torch_parallel" if parallel else "non_torch_single"],
    )
    request = _cache_per_request(t, e, tp)
    wanted = t.derived(
        "r", "requests that must find room at once", e.memory.needed_requests, "count",
        "a static batch as a whole, else one request",
    )  # fmt: skip
    return t.define(
        "M_required", "memory needed on one device", "byte",
        _property(Memory, "required_bytes_per_device", *_HELD), weights, activation, other, wanted, request,
    )  # fmt: skip


def _usable(t: Trace, e: Estimate):
    reported = "as the device reports it" if e.device.reported else "as labelled; no report is known"
    size = t.fact("M_device", "memory of one device", e.device.reported or e.device.capacity, note=reported)
    share = scenario.engine_setting(
        t, e, "u", "share of it the engine may use", "memory_utilization", e.deployment.memory_utilization
    )
    return t.define("M_usable", "memory the engine may use on one device", "byte", usable_bytes, size, share)
