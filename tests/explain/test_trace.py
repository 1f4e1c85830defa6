"""The traced formula is the function: same values for any input, same order as the code."""

import random
import subprocess
import sys

import pytest
import sympy

from calc.economics.cost import usd_per_mtok
from calc.explain import METRICS
from calc.explain.metrics import traced
from calc.explain.render import Printer, pruned
from calc.explain.trace import Trace
from calc.specs.errors import SpecError
from calc.specs.numeric import ceil, floor, maximum, minimum, where
from calc.timing.collectives import allreduce_time_s
from calc.timing.roofline import op_time_s
from calc.work.attention import causal_pairs
from calc.work.expert_load import experts_hit


def draws(rng: random.Random, count: int):
    """Inputs for a formula: flags 0 and 1, small whole numbers, shares, large numbers."""
    kinds = (
        lambda: float(rng.choice((0, 1))),
        lambda: float(rng.randint(1, 9)),
        lambda: rng.uniform(0.05, 1.0),
        lambda: rng.uniform(1.0, 1e6),
    )
    for _ in range(60):
        yield [rng.choice(kinds)() for _ in range(count)]
    for _ in range(60):  # shares only: efficiencies may not exceed 1
        yield [rng.uniform(0.05, 1.0) for _ in range(count)]


def assert_same(function, tree, symbols, arguments, sizes=()):
    """The tree and the function agree on every input that the function takes.

    Sizes of a model are drawn as whole numbers above 0: a 0 means that it has no such thing
    (no window), which the code decides before it calculates.
    """
    formula, checked = sympy.lambdify(symbols, tree, modules="math"), 0
    for drawn in draws(random.Random(7), len(symbols)):
        values = [
            1.0 + round(value) % 9 if symbol in sizes else value
            for symbol, value in zip(symbols, drawn, strict=True)
        ]
        known = dict(zip(symbols, values, strict=True))
        try:
            expected = function(*(known.get(argument, argument) for argument in arguments))
        except (ZeroDivisionError, SpecError, OverflowError):
            continue
        if isinstance(expected, complex):  # a broken power of a negative number
            continue
        got = float(formula(*values))
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12 * max(map(abs, values)) ** 2), values
        checked += 1
    assert checked >= 10


def test_every_traced_formula_is_its_numeric_function(estimate):
    checked = set()  # metrics share formulas
    for metric in METRICS:
        if metric.startswith("usd") and estimate.cost is None:
            continue
        trace, _ = traced(estimate, metric)
        for definition in trace.definitions.values():
            if (definition.symbol, definition.tree) in checked:
                continue
            checked.add((definition.symbol, definition.tree))
            used = [argument for argument in definition.arguments if isinstance(argument, sympy.Symbol)]
            symbols = list(dict.fromkeys(used))  # two kinds of layers may share a size
            sizes = [symbol for symbol in symbols if trace.term(symbol).kind == estimate.model.config_kind]
            assert_same(definition.function, definition.tree, symbols, definition.arguments, sizes)


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (op_time_s, 7), (allreduce_time_s, 5), (usd_per_mtok, 2), (experts_hit, 3), (causal_pairs, 2),
        (lambda new, past, window: causal_pairs(new, past, window=window), 3),
        (lambda new, past, chunk: causal_pairs(new, past, chunk=chunk), 3),
        (lambda a, b, c: where(a > b, maximum(a, c), minimum(b, c)) - floor(a) + ceil(b), 3),
    ],
)  # fmt: skip
def test_formulas_with_branches_trace_without_folding_one_away(function, count):
    symbols = sympy.symbols(f"x0:{count}")
    with sympy.evaluate(False):
        tree = pruned(function(*symbols))
    assert_same(function, tree, symbols, symbols)


@pytest.mark.parametrize(
    ("function", "text", "tex"),
    [
        (lambda a, b, c: a - b - c, "a - b - c", "a - b - c"),
        (lambda a, b, c: a - (b - c), "a - (b - c)", r"a - \left(b - c\right)"),
        (lambda a, b, c: c * b * a, "c * b * a", r"c \cdot b \cdot a"),
        (lambda a, b, c: a / b / c, "a / b / c", r"\frac{a}{b \cdot c}"),
        (lambda a, b, c: a / (b * c), "a / (b * c)", r"\frac{a}{b \cdot c}"),
        (lambda a, b, c: (a + b) / c, "(a + b) / c", r"\frac{a + b}{c}"),
        (
            lambda a, b, c: 1 - (1 - a / b) ** c,
            "1 - (1 - a / b) ** c",
            r"1 - \left(1 - \frac{a}{b}\right)^{c}",
        ),
        (lambda a, b, c: -a * b, "-a * b", r"-a \cdot b"),
        (lambda a, b, c: a * (b + 0) + 0.0 * c, "a * b", r"a \cdot b"),
        (lambda a, b, c: ceil(a / b) * c, "ceil(a / b) * c", r"\left\lceil \frac{a}{b} \right\rceil \cdot c"),
        (lambda a, b, c: maximum(0.0, a - b), "max(0, a - b)", r"\max\left(0, a - b\right)"),
        (
            lambda a, b, c: where(a > 1, b, 0.0),
            "(b if a > 1 else 0)",
            r"\begin{cases} b & a > 1 \\ 0 & \text{otherwise} \end{cases}",
        ),
    ],
)
def test_formulas_print_in_the_order_of_the_code(function, text, tex):
    with sympy.evaluate(False):
        tree = sympy.sympify(function(*sympy.symbols("a b c")))
    assert Printer(str).print(tree) == text
    assert Printer(str, latex=True).print(tree) == tex


def test_a_symbol_has_one_meaning():
    trace = Trace()
    trace.given("N", "requests in flight", 8, "count")
    with pytest.raises(ValueError, match="N has two meanings: requests in flight and layers"):
        trace.given("N", "layers", 32, "count")


def test_the_calculator_runs_without_sympy():
    program = (
        "import sys, calc, calc.explain\n"
        "e = calc.estimate('llama-3.1-8b', 'h100-sxm')\n"
        "e.to_dict()\n"
        "assert 'sympy' not in sys.modules\n"
        "e.explain('tpot_s')\n"
        "assert 'sympy' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
