"""Explanation of the bytes of weights: parameters times bits, by module class."""

import math

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.explanation import Part
from calc.explain.metrics import Answer
from calc.explain.quantities import in_formula, shown
from calc.explain.trace import Trace
from calc.specs.quantization import weight_format
from calc.work.memory import stored_bytes
from calc.work.parameters import weights
from calc.work.sharding import parameters_per_device


def weights_bytes(t: Trace, e: Estimate) -> Answer:
    """Explain the bytes of weights on all devices."""
    each, rows = weights_per_device(t, e)
    others = {
        number: t.derived(f"M_stage_{number}", f"weights on a device of stage {number}", stage.weights_bytes,
                          "byte", "by its own layers")
        for number, stage in scenario.other_stages(e).items()
    }  # fmt: skip
    total = t.define(
        "M", "weights on all devices", "byte", lambda *v: _all_devices(e, *v).weights_bytes,
        scenario.stage_devices(t, e), each, *others.values(),
    )  # fmt: skip
    rows += [(f"stage {number}", t.values[size], "all its weights", {}) for number, size in others.items()]
    parts = [
        Part(role, float(e.memory.ranks * size), "byte", shown(float(e.memory.ranks * size), "byte"), note,
             details)
        for role, size, note, details in rows
    ]  # fmt: skip
    return Answer([total], parts, [
        *scenario.stage_notes(e),
        "8 bits make a byte. Bits are what is stored over the parameters of a class: scales of "
        "quantised matrices are in them.",
        "Padding of uneven cuts and buffers beside the parameters are ignored.",
    ])  # fmt: skip


def _all_devices(e: Estimate, ranks, size, *others):
    stages = [{"weights_bytes": each} for each in others]
    return scenario.memory_with(e, {"weights_bytes": size}, stages, ranks=ranks)


def weights_per_device(t: Trace, e: Estimate):
    """Symbol of the weights on one device, and rows (module class, bytes, note, details)."""
    e = scenario.one_stage(e)
    stored, counts = e.memory.weights_bytes_by_role, _parameters(e)
    widths = {role: _bits(stored[role], counts[role]) for role in stored if counts.get(role)}
    symbols, sizes, rows = _bit_symbols(t, e, widths), [], []
    for role, bits in widths.items():
        name, count = role.replace("_", " "), counts[role]
        held = scenario.model_size(
            t, e, f"p_{role}", f"{name} parameters on one device", count, "parameters",
            "counted from the configuration",
        )  # fmt: skip
        words = f"{name} weights on one device"
        sizes.append(t.define(f"M_{role}", words, "byte", stored_bytes, held, symbols[bits]))
        each = in_formula(bits, "bit").replace("bit", "bits")
        note = f"{shown(float(count), 'parameters')} of {each} per device"
        details = {"parameters": float(e.memory.ranks * count), "bits": bits}
        rows.append((role, t.values[sizes[-1]], note, details))
    for name in (name for name in stored if name not in widths and stored[name]):
        note = "beside the parameters"
        sizes.append(
            t.derived(f"M_{name.replace(' ', '_')}", f"{name} on one device", stored[name], "byte", note)
        )
        rows.append((name, stored[name], note, {}))
    return t.define("M_weights", "weights on one device", "byte", lambda *each: sum(each), *sizes), rows


def _parameters(e: Estimate) -> dict[str, float]:
    """Parameters on one device by module class."""
    d, counts = e.deployment, dict.fromkeys(e.memory.weights_bytes_by_role, 0.0)
    for weight, count in weights(e.model):
        held = float(count * parameters_per_device(weight, d.tp, d.dp, d.ep))
        counts[weight.role] = counts.get(weight.role, 0.0) + held
    return counts


def _bits(size, count: float) -> float:
    """Bits per parameter; whole where only rounding says otherwise."""
    bits = 8 * float(size) / count
    return float(round(bits)) if math.isclose(bits, round(bits), rel_tol=1e-12) else bits


def _bit_symbols(t: Trace, e: Estimate, widths: dict[str, float]) -> dict:
    """Symbols of bits per parameter: of the format, of what it leaves alone, of mixtures."""
    fmt, symbols = weight_format(e.weight_dtype), {}
    for width in sorted(set(widths.values())):
        roles = [role for role, bits in widths.items() if bits == width]
        if math.isclose(width, fmt.bits, rel_tol=1e-12):
            symbol, words, note = "b_weights", f"bits per parameter, {fmt.name}", fmt.note
        elif width == 16:
            symbol, words, note = "b_kept", "bits per parameter left alone", f"left in 16 bits by {fmt.name}"
        else:
            symbol = f"b_{roles[0]}"
            words = f"bits per parameter, {', '.join(role.replace('_', ' ') for role in roles)}"
            note = "stored bits over parameters: scales and what the checkpoint stores otherwise included"
        symbols[width] = t.derived(symbol, words, width, "bit", note)
    return symbols
