"""What an explanation says is true: its formulas, numbers, rows and origins."""

import ast
import json
import math
import operator
import re
from functools import lru_cache

import numpy as np
import pytest

import calc
from calc.explain import METRICS, OPEN_LOOP_METRICS
from calc.explain.open_loop import mean_decode, prompt_alone
from calc.explain.scenario import one_stage
from calc.explain.times import prefill_pass
from calc.serving.speculation import with_drafts
from calc.specs.facts import KINDS
from calc.timing.overheads import kernel_group

UNITS = {
    "s": 1, "ms": 1e-3, "us": 1e-6, "TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1,
    "TB/s": 1e12, "GB/s": 1e9, "MB/s": 1e6, "PFLOP/s": 1e15, "TFLOP/s": 1e12, "GFLOP/s": 1e9,
    "PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9, "MFLOP": 1e6, "kFLOP": 1e3, "FLOP": 1,
    "tokens": 1, "tokens/s": 1, "requests/s": 1, "parameters": 1, "bit": 1, "USD/h": 1, "USD/Mtok": 1,
}  # fmt: skip
NAMES = "|".join(sorted(UNITS, key=len, reverse=True))
QUANTITY = re.compile(rf"(?P<size>\d[\d.]*(?:e[+-]?\d+)?)(?: (?P<unit>{NAMES})(?![\w/]))?")
OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.Gt: operator.gt,
}  # fmt: skip
FUNCTIONS = {"max": max, "min": min, "ceil": math.ceil, "floor": math.floor}


def evaluated(text: str, values: dict[str, float]) -> float:
    """Value of a formula in text: arithmetic, four functions and nothing else."""

    def at(node):
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return values[node.id]
            case ast.BinOp():
                return OPERATORS[type(node.op)](at(node.left), at(node.right))
            case ast.UnaryOp():
                return OPERATORS[type(node.op)](at(node.operand))
            case ast.Compare():
                return OPERATORS[type(node.ops[0])](at(node.left), at(node.comparators[0]))
            case ast.IfExp():
                return at(node.body) if at(node.test) else at(node.orelse)
            case ast.Call():
                return FUNCTIONS[node.func.id](*map(at, node.args))
        raise AssertionError(f"not arithmetic: {ast.dump(node)}")

    return at(ast.parse(text, mode="eval").body)


def in_si(text: str) -> str:
    """Text with each quantity as a bare number in SI units."""
    return QUANTITY.sub(lambda match: repr(float(match["size"]) * UNITS[match["unit"] or "bit"]), text)


@lru_cache(maxsize=8)
def explanations(e):
    metrics = [*METRICS, *(OPEN_LOOP_METRICS if e.workload.mode == "open_loop" else ())]
    return [e.explain(metric) for metric in metrics if e.cost is not None or not metric.startswith("usd")]


def open_loop_values(e):
    if e.workload.mode != "open_loop":
        return {}
    spreads = {name: getattr(e.open_loop, name) for name in ("ttft", "tpot", "queue")}
    shares = {
        f"{name}_p{n}_s": getattr(each, f"p{n}") for name, each in spreads.items() for n in (50, 90, 99)
    }
    return shares | {"queue_s": e.open_loop.queue.mean}


def printed(shown: str) -> float:
    return float(in_si(shown.replace(",", "")))


def test_the_evaluator_reads_units_as_people_do():
    assert evaluated(in_si("2 * 10 ms + 300 us / (4 + 2)"), {}) == pytest.approx(0.02005)
    assert evaluated(in_si("16 bit / 8 * 4.5e+10 parameters"), {}) == pytest.approx(9e10)
    assert evaluated(in_si("6 GB / (0.5 * 3 TB/s)"), {}) == pytest.approx(0.004)


def assert_formulas_give_their_values(why):
    values = {term.symbol: term.value for term in why.terms}
    for equation in why.equations:
        left, right = equation.formula.split(" = ", 1)
        assert left == equation.symbol
        got = evaluated(right, values)
        # a difference of two large numbers keeps the rounding of both
        assert got == pytest.approx(equation.value, rel=1e-9, abs=1e-12 * max(values.values())), (
            equation.formula
        )


def test_formulas_give_their_values_from_the_values_of_the_terms(estimate):
    for why in explanations(estimate):
        assert_formulas_give_their_values(why)


def test_formulas_with_numbers_are_right_to_their_printed_digits(estimate):
    for why in explanations(estimate):
        for equation in why.equations:
            left, numbers, result = (part.strip() for part in re.split(r" = ", equation.substituted))
            assert (left, result) == (equation.symbol, equation.shown)
            got = evaluated(in_si(numbers), {})
            largest = max(float(number) for number in re.findall(r"\d[\d.]*(?:e[+-]?\d+)?", in_si(numbers)))
            differs = " - " in numbers
            assert got == pytest.approx(equation.value, rel=1e-5, abs=1e-5 * largest if differs else 0)
            assert printed(equation.shown) == pytest.approx(equation.value, rel=6e-3)


def test_every_number_of_a_formula_is_the_number_of_its_term(estimate):
    for why in explanations(estimate):
        units = {term.symbol: term for term in why.terms}
        for equation in why.equations:
            right = equation.formula.split(" = ", 1)[1]
            symbols = [name for name in re.findall(r"[A-Za-z]\w*", right) if name in units]
            numbers = equation.substituted.split(" = ")[1]
            for symbol in symbols:
                term = units[symbol]
                sizes = [float(in_si(match[0])) for match in QUANTITY.finditer(numbers)]
                assert any(size == pytest.approx(term.value, rel=1e-5) for size in sizes), (symbol, numbers)


def test_values_are_those_of_the_estimate(estimate):
    m, cost = estimate.memory, estimate.cost
    values = {
        "memory": m.required_bytes_per_device,
        "weights_bytes": m.weights_bytes,
        "cache_bytes": m.cache_bytes,
        "cache_tokens": m.cache_tokens,
        "max_concurrency": m.max_concurrency,
        "cache_bytes_per_token": calc.cache_bytes_per_token(
            one_stage(estimate).model, {"fp8": 1}.get(estimate.deployment.kv_dtype, 2), estimate.deployment.tp
        ),
        **open_loop_values(estimate),
    }
    for why in explanations(estimate):
        owner = cost if why.metric.startswith("usd") else estimate
        expected = values[why.metric] if why.metric in values else getattr(owner, why.metric)
        assert why.value == pytest.approx(expected, rel=1e-12), why.metric


def test_parts_sum_to_the_value(estimate):
    with_parts = 0
    for why in explanations(estimate):
        if why.parts:
            assert sum(part.value for part in why.parts) == pytest.approx(why.value, rel=1e-12), why.metric
            assert {part.unit for part in why.parts} == {why.unit}
            with_parts += 1
    assert with_parts == 7


def test_every_term_says_where_it_comes_from(estimate):
    for why in explanations(estimate):
        assert len({term.symbol for term in why.terms}) == len(why.terms)
        for term in why.terms:
            assert term.name
            assert term.kind in (*KINDS, "given")
            if term.kind not in ("assumed", "derived"):
                assert term.source, (why.metric, term)
            if (
                term.kind == "derived"
                and not term.source
                and not term.equation
                and term.symbol != "b_weights"
            ):
                assert term.note, (why.metric, term)


def test_derived_terms_have_an_equation_and_inputs_have_none(estimate):
    for why in explanations(estimate):
        derived = {term.symbol for term in why.terms if term.equation}
        assert derived == {equation.symbol for equation in why.equations}
        assert (why.equations[0].value, why.equations[0].formula) == (why.value, why.formula)


def test_explanations_are_plain_data(estimate):
    for why in explanations(estimate):
        record = json.loads(json.dumps(why.to_dict(), allow_nan=False))
        assert record["schema_version"] == 1
        assert record["metric"] == why.metric
        assert record["formula_latex"] == why.formula_latex
        assert len(record["terms"]) == len(why.terms)


def test_text_is_ascii_and_at_most_a_hundred_columns_wide_but_for_addresses(estimate):
    for why in explanations(estimate):
        lines = why.to_text().splitlines()
        assert lines[0] == f"{why.title}: {why.shown}"
        assert [line for line in lines if len(line) > 100 and "://" not in line] == []
        assert [line for line in lines if not line.isascii() or line != line.rstrip()] == []


def test_latex_has_balanced_brackets_and_names_each_number(estimate):
    for why in explanations(estimate):
        for equation in why.equations:
            for tex in (equation.formula_latex, equation.substituted_latex):
                assert tex.count("{") == tex.count("}")
                assert tex.count(r"\left") == tex.count(r"\right")
                assert "_" not in re.sub(r"_\{|_[a-zA-Z0-9]", "", tex)
            assert equation.substituted_latex.count(r"\underbrace") > 0


def test_times_tell_range_and_trust(estimate):
    for metric in ("ttft_s", "tpot_s", "output_tokens_per_s"):
        notes = " ".join(estimate.explain(metric).notes)
        assert "80 % range: " in notes
        assert f"Trust: {estimate.trust(metric)}" in notes
        assert ("does not fit" in notes) == (not estimate.fits)


def test_rows_of_a_step_hold_their_work(estimate):
    rows = [part for part in estimate.explain("tpot_s").parts if "calls" in part.details]
    assert all(row.details["calls"] > 0 for row in rows)
    assert all(row.details["bytes"] > 0 or row.details["link_bytes"] > 0 for row in rows)
    assert {row.details["bound"] for row in rows} <= {
        "memory bandwidth",
        "compute",
        "interconnect",
        "overhead",
    }


@pytest.mark.parametrize("metric", METRICS)
def test_a_name_may_be_written_as_on_the_estimate(own_price, metric):
    owner = "cost." if metric.startswith("usd") else "memory."
    assert own_price.explain(f"{owner}{metric}") == own_price.explain(metric)


def test_an_unknown_metric_is_refused_with_the_nearest_known_one(own_price):
    with pytest.raises(calc.SpecError, match="unknown metric 'tpot': did you mean 'tpot_s'"):
        own_price.explain("tpot")


def test_many_scenarios_at_once_are_refused_in_one_line():
    e = calc.estimate("llama-3.1-8b", "h100-sxm", workload=calc.Workload(concurrency=np.array([1, 2])))
    with pytest.raises(calc.SpecError, match="concurrency is an array of 2; explain takes one scenario"):
        e.explain("tpot_s")
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(tp=np.array([1, 2])))
    with pytest.raises(calc.SpecError, match="tp is an array of 2"):
        e.explain("memory")


def test_a_cost_without_a_price_is_refused_and_with_ones_own_price_explained(own_price):
    e = calc.estimate("llama-3.1-8b", "rtx-3090")
    assert e.cost is None
    with pytest.raises(calc.SpecError, match="no price of rtx-3090 is known"):
        e.explain("usd_per_hour")
    why = own_price.explain("usd_per_hour")
    assert why.substituted == "C = 1 * 0.5 USD/h = 0.5 USD/h"
    assert next(term for term in why.terms if term.symbol == "p").kind == "given"


def test_the_number_of_devices_says_what_fewer_would_lack():
    e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4))
    notes = e.explain("n_devices").notes
    assert [note for note in notes if note.startswith("tp 1:") and note.endswith("does not fit.")]
    assert [note for note in notes if note.startswith("tp 2:")]


def test_the_textbook_cache_formula_comes_out_of_the_trace():
    e = calc.estimate("llama-3.1-8b", "h100-sxm")
    why = e.explain("cache_bytes_per_token")
    assert why.formula == "c = 2 * L * d_head * max(1, n_kv_heads / tp) * b"
    assert why.substituted == "c = 2 * 32 * 128 * max(1, 8 / 1) * 2 B = 131.1 kB"


@pytest.mark.parametrize("model", calc.model_ids())
def test_every_model_can_be_explained(model):
    e = calc.estimate(model, "h100-sxm", workload=calc.Workload(concurrency=5))
    for why in explanations(e):
        assert why.to_text()
        assert_formulas_give_their_values(why)
        if why.parts:
            assert sum(part.value for part in why.parts) == pytest.approx(why.value, rel=1e-9)


@pytest.mark.parametrize("model", calc.model_ids())
def test_the_memory_of_every_model_can_be_explained_where_layers_are_not_grouped(model):
    load = calc.Workload(concurrency=5, prompt_tokens=3001)
    e = calc.estimate(model, "h200-sxm", calc.Deployment(engine="sglang"), load)
    values = {
        "memory": e.memory.required_bytes_per_device,
        "cache_bytes": e.memory.cache_bytes,
        "max_concurrency": e.memory.max_concurrency,
        "cache_tokens": e.memory.cache_tokens,
    }
    for metric, value in values.items():
        why = e.explain(metric)
        assert why.value == pytest.approx(value, rel=1e-12), metric
        assert_formulas_give_their_values(why)


@pytest.mark.parametrize("device", calc.device_ids())
def test_every_device_can_be_explained(device):
    if "bf16" not in calc.load_device(device).peaks and device.startswith("tpu-8"):
        pytest.skip("its vendor prints no peak for 16-bit math: no times")
    tp = 1 if calc.load_device(device).link.topology == "none" else 2
    e = calc.estimate("llama-3.1-8b", device, calc.Deployment(tp=tp), calc.Workload(concurrency=50))
    for why in explanations(e):
        assert why.to_text()


def test_the_operation_shown_in_detail_is_the_largest_of_its_step(estimate):
    mix = estimate.service.mix
    tokens = with_drafts(estimate.steps).tokens_per_step
    steps = (mix.own, mix.decode) if mix else (prefill_pass(estimate), estimate.service.tpot.times(tokens))
    if estimate.workload.mode == "open_loop":
        steps = prompt_alone(estimate), mean_decode(estimate)
    for metric, step in zip(("ttft_s", "tpot_s"), steps, strict=True):
        rows = step.rows
        largest = max(row.seconds for row in rows if row.op)
        why = estimate.explain(metric)
        shown = next(equation for equation in why.equations if equation.symbol == "t_op")
        assert shown.value == pytest.approx(largest, rel=1e-12)


def test_host_numbers_and_kernel_factors_of_the_engine_are_inputs_with_their_runs(estimate):
    overheads = estimate.overheads
    terms = {term.symbol: term for term in estimate.explain("tpot_s").terms}
    for name in ("step_s", "sequence_s", "layer_s"):
        term = terms[f"h_{name.removesuffix('_s')}"]
        assert (term.value, term.kind) == (overheads.host[name].value, overheads.kind)
    mix = estimate.service.mix
    plain = mean_decode(estimate) if estimate.workload.mode == "open_loop" else estimate.service.tpot
    rows = (mix.decode if mix else plain).rows
    largest = max((row for row in rows if row.op), key=lambda row: row.seconds)
    factor = overheads.kernels.get(kernel_group(largest.op, estimate.device))
    assert (terms["f"].value if "f" in terms else None) == factor


def test_a_range_says_whether_it_comes_from_measured_runs(estimate):
    for metric in ("ttft_s", "tpot_s"):
        note, error = estimate.explain(metric).notes[0], estimate.run_error(metric)
        if error is None:
            assert "no measured run to go by" in note
            continue
        assert f"of {estimate.engine.name} {estimate.overheads.versions}" in note
        assert ("wider for kernels" in note) == (estimate.widening(metric) > 1)


def test_a_collective_is_shown_with_its_ring_and_link():
    deployment, load = calc.Deployment(tp=8), calc.Workload(concurrency=1, prompt_tokens=8000)
    why = calc.estimate("llama-3.1-8b", "l40s", deployment, load, calibration="datasheet").explain("ttft_s")
    formula = next(equation.formula for equation in why.equations if equation.symbol == "t_call")
    ring = "(t_0 + c * Q ** 0.5 + r * (w - 1) / w * Q / (e_link * W_link) if w > 1 else 0)"
    assert formula == f"t_call = {ring}"


def test_an_exchange_is_shown_with_the_share_of_the_link_that_the_engine_reaches():
    """Over the host engines may reach more of the link than the tables of one box say."""
    deployment = calc.Deployment(tp=8, engine="tensorrt-llm", engine_version="0.17")
    load = calc.Workload(concurrency=1, prompt_tokens=8000)
    estimate = calc.estimate("llama-3.1-8b", "l40s", deployment, load)
    row = next(row for row in estimate.service.mix.own.rows if row.name == "allreduce")
    found = {equation.symbol: equation for equation in estimate.explain("ttft_s").equations}
    assert found["t_op"].value == pytest.approx(float(row.seconds))
    assert "t_least / max(1e-12, rho)" in found["t_op"].formula
