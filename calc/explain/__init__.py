"""Why a number is what it is: its formula, the formula with numbers, its inputs and sources.

The formulas are traced: the calculator's own functions are called with sympy symbols.
sympy is imported when the first explanation is asked for, not before.
"""

from calc.explain.explanation import Equation, Explanation, Part, Term
from calc.explain.metrics import METRICS, OPEN_LOOP_METRICS, explain

__all__ = ["METRICS", "OPEN_LOOP_METRICS", "Equation", "Explanation", "Part", "Term", "explain"]
