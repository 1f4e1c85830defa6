"""One operation of a step in detail: the roofline with the numbers of its largest row."""

from types import SimpleNamespace

from calc.estimate import Estimate
from calc.explain import scenario
from calc.explain.trace import Trace
from calc.specs.numeric import minimum
from calc.timing.calibration import OpFit
from calc.timing.collectives import exchange_time_s
from calc.timing.exchange import exchange, least_exchange_s
from calc.timing.forms.link import latency_s, share
from calc.timing.overheads import kernel_group, own_kernels_s
from calc.timing.roofline import op_time_s, roofline_time_s
from calc.timing.step_time import Duration, TimedOp, call_parts, call_s, launch_s, reach_of, work_of
from calc.work.op import Op, Precision, gemm


def largest_operation(t: Trace, e: Estimate, duration: Duration):
    """Return the symbol of the time of the step's largest operation, from its work and the device."""
    row = max((row for row in duration.rows if row.op), key=lambda row: row.seconds)
    return _collective(t, e, row) if row.op.is_collective else _computed(t, e, row)


def _computed(t: Trace, e: Estimate, row: TimedOp):
    """Symbol of an operation that computes: its form, the engine's kernels, the roofline as a floor."""
    op, calls = row.op, _calls(t, row.op)
    flops, moved = _flops(t, op), _bytes(t, op)
    peak = t.fact("P", f"dense peak in {op.dtype}", e.device.peak_fact(op.dtype))
    bandwidth = t.fact("W", "memory bandwidth", e.device.bandwidth)
    work = flops, moved, peak, bandwidth
    table, fixed = _by_form(t, e, row, work)
    least = t.define("t_least", "the least that the datasheet allows a call", "s", roofline_time_s, *work)
    factor, reach = _factor(t, e, op), _reach(t, e, op)
    return t.define(
        "t_op", f"largest operation of the step: {op.name}", "s",
        lambda calls, factor, table, fixed, *limits: calls * call_s(factor * table, factor * fixed, *limits),
        calls, factor, table, fixed, least, reach,
    )  # fmt: skip


def _by_form(t: Trace, e: Estimate, row: TimedOp, work) -> tuple:
    """Symbols of the time of a call by the calibration's form alone, and of the fixed cost in it."""
    op, fit = row.op, row.fit
    parts, note = call_parts(fit, *work_of(op, e.device), cold=True), _origin(fit)
    launch = minimum(parts.fixed_s, launch_s(fit))
    fixed = t.derived("t_0", f"fixed cost of a {op.kind} call", launch, "s", note)
    words = f"a call by form {fit.form.name}"
    if fit.form.name != "roofline/1":
        return t.derived("t_form", words, parts.seconds, "s", note), fixed
    shares = [
        t.derived(symbol, f"share of the {what} that {op.kind} reaches", fit.parameters[name], "ratio", note)
        for symbol, what, name in (("e_c", "peak", "e_compute"), ("e_m", "bandwidth", "e_memory"))
    ]
    return t.define("t_form", words, "s", op_time_s, *work, fixed, *shares), fixed


def _factor(t: Trace, e: Estimate, op: Op):
    """Symbol of the engine's factor on the time of such kernels; 1 where it has none."""
    group = kernel_group(op, e.device)
    if group not in e.overheads.kernels:
        return 1
    words = f"time of the engine's {group.replace('_', ' ')} kernels over that of the tables"
    return scenario.engine_number(t, e, "f", words, e.overheads.factor(op, e.device))


def _reach(t: Trace, e: Estimate, op: Op):
    """Symbol of the share of the roofline that the engine's own kernels reach; 0 where none is known."""
    reach = reach_of(op, e.device, e.calibration, e.overheads)
    if not reach:
        return 0.0
    words = "share of the roofline that the engine's own kernels reach at least"
    return scenario.engine_number(t, e, "rho", words, reach)


def _formed(t: Trace, e: Estimate, row: TimedOp, calls):
    """Symbol of an exchange by a fitted form: fixed cost and transfer."""
    op, fit = row.op, row.fit
    parts, note = exchange(op, e.device, e.calibration, e.overheads.engine).parts, _origin(fit)
    fixed = t.derived("t_0", f"fixed cost of a {op.kind} call", parts.fixed_s, "s", note)
    rest = parts.seconds - parts.fixed_s
    work = t.derived("t_work", f"transfer of a call by form {fit.form.name}", rest, "s", note)
    table = t.define("t_call", "a call by the tables", "s", lambda *parts: sum(parts), fixed, work)
    return _exchanged(t, e, row, calls, fixed, table)


def _exchanged(t: Trace, e: Estimate, row: TimedOp, calls, fixed, table):
    """Symbol of all calls of an exchange: by the tables, or at the share of the link that engines reach."""
    op, reach = row.op, _reach(t, e, row.op)
    least = 0.0
    if reach:
        note = f"{op.comm_bytes:g} byte at the full bandwidth of the link"
        least = t.derived(
            "t_least", "the least that the link allows a call", least_exchange_s(op, e.device), "s", note
        )
    return t.define(
        "t_op", f"largest operation of the step: {op.name}", "s",
        lambda calls, factor, table, fixed, *own: calls * own_kernels_s(factor * table, factor * fixed, *own),
        calls, _factor(t, e, op), table, fixed, least, reach,
    )  # fmt: skip


def _calls(t: Trace, op: Op):
    words = f"calls of {op.name} in a step"
    return t.derived("n_calls", words, op.count, "count", "from the list of operations")


def _origin(fit: OpFit) -> str:
    """Where a fitted number comes from, in words."""
    where = "; ".join(source.url or source.title for source in fit.sources)
    return f"{fit.trust}, form {fit.form.name}: {fit.note or where}"


def _collective(t: Trace, e: Estimate, row: TimedOp):
    op, fit = row.op, row.fit
    world, calls = op.shape["world"], _calls(t, op)
    if fit.form.name != "link/1" or op.kind == "p2p" or "top_k" in op.shape:
        return _formed(t, e, row, calls)
    work, _ = work_of(op, e.device)
    note = _origin(fit)
    ranks = t.given("w", "devices that take part", world, "count")
    payload = t.derived(
        "Q", f"bytes that one {op.name} call sums", op.comm_bytes, "byte", "from the list of operations"
    )
    link = scenario.link_bandwidth(t, e, world)
    fixed = t.derived("t_0", f"latency of a {op.kind} call", latency_s(work, fit.parameters), "s", note)
    reached = t.derived(
        "e_link", "share of the link that is reached", share(work, fit.parameters), "ratio", note
    )
    rounds = t.given("r", "rounds of the ring", op.shape["rounds"], "count")
    root = t.derived("c", "growth with the root of the payload", fit.parameters["per_root_s"], "s", note)
    table = t.define(
        "t_call", "a call by the tables", "s",
        exchange_time_s, payload, ranks, link, fixed, reached, rounds, root,
    )  # fmt: skip
    return _exchanged(t, e, row, calls, fixed, table)


def _flops(t: Trace, op: Op):
    """Symbol of the flops of a call; of a matrix product with its formula."""
    words = f"work of one {op.name} call"
    if op.kind != "gemm" or not {"m", "n", "k"} <= set(op.shape):
        return t.derived("F", words, op.flops, "flop", _sizes(op))
    sizes = [
        t.derived("m_op", "rows: tokens in the call", op.shape["m"], "count", "from the list of operations"),
        t.derived(
            "n_op", "output features on one device", op.shape["n"], "count", "from the list of operations"
        ),
        t.derived(
            "k_op", "input features on one device", op.shape["k"], "count", "from the list of operations"
        ),
    ]
    copies = op.shape.get("copies", 1)
    if copies != 1:
        sizes.append(
            t.derived("g_op", "such products in one call", copies, "count", "from the list of operations")
        )
    return t.define("F", words, "flop", _gemm_flops, *sizes)


def _gemm_flops(m, n, k, copies=1):
    plain = Precision(bits={"attention": 16}, kv_bytes=2, math="bf16")
    return gemm("", "attention", m, n, k, plain, copies).flops


def _bytes(t: Trace, op: Op):
    """Symbol of the bytes of a call, as the sum of weights, cache and activations."""
    rows = (("weight_bytes", "weights"), ("cache_bytes", "cache"), ("activation_bytes", "activations"))
    known = [(field, words) for field, words in rows if getattr(op, field)]
    symbols = [
        t.derived(
            f"Q_{words}", f"{words} that one {op.name} call moves", getattr(op, field), "byte", _sizes(op)
        )
        for field, words in known
    ]

    def moved(*values):
        sizes = {
            **dict.fromkeys((field for field, _ in rows), 0.0),
            **dict(zip((f for f, _ in known), values, strict=True)),
        }
        return Op.bytes.fget(SimpleNamespace(**sizes))

    return t.define("Q", f"memory traffic of one {op.name} call", "byte", moved, *symbols)


def _sizes(op: Op) -> str:
    sizes = ", ".join(f"{name} {value:g}" for name, value in op.shape.items())
    return f"sizes: {sizes}" if sizes else "from the list of operations"
