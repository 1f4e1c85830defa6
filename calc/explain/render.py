"""Formulas as text and LaTeX, in the order in which the code computes them.

sympy's own printers sort factors and terms; a traced tree still has the order of the
code, so this printer walks it as it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from calc.explain.quantities import number

_ADD, _MUL, _POW, _ATOM = 1, 2, 3, 4
_RELATIONS = {"==": ("==", "="), "<=": ("<=", r"\le"), ">=": (">=", r"\ge"), "<": ("<", "<"), ">": (">", ">")}


@dataclass(frozen=True)
class Printer:
    """Prints a traced tree; ``leaf`` says how a symbol is written, ``latex`` in which language."""

    leaf: Callable[[sympy.Symbol], str]
    latex: bool = False

    def print(self, tree) -> str:
        """Return the formula of a tree."""
        return self._at(pruned(tree), 0)

    def _at(self, node, least: int) -> str:
        """Text of a node, in brackets where it binds less than ``least``."""
        text, level = self._node(node)
        if level >= least:
            return text
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def _node(self, node) -> tuple[str, int]:
        if isinstance(node, sympy.Symbol):
            return self.leaf(node), _ATOM
        if node.is_Number:
            return number(float(node)), _ATOM if node >= 0 else _ADD
        if node.is_Add:
            return self._sum(node), _ADD
        if node.is_Mul:
            return self._product(node)
        if node.is_Pow:
            return self._power(node)
        if isinstance(node, sympy.Piecewise):
            return self._choice(node)
        if node.is_Relational:
            text, tex = _RELATIONS[node.rel_op]
            return f"{self._at(node.lhs, 0)} {tex if self.latex else text} {self._at(node.rhs, 0)}", 0
        return self._call(node), _ATOM

    def _sum(self, node) -> str:
        text = ""
        for arg in _flat(node, sympy.Add):
            negative, size = _sign(arg)
            sign = "-" if negative else "+"
            lead = ("-" if negative else "") if not text else f" {sign} "
            text += lead + self._at(size, _MUL if negative else _ADD)
        return text

    def _product(self, node) -> tuple[str, int]:
        negative, node = _sign(node)
        if negative:
            return "-" + self._at(node, _MUL), _ADD
        above = [arg for arg in _flat(node, sympy.Mul) if not _is_reciprocal(arg)]
        below = [arg.base for arg in _flat(node, sympy.Mul) if _is_reciprocal(arg)]
        if self.latex:
            return self._fraction(above, below), _MUL
        text = "" if above and not _is_reciprocal(_flat(node, sympy.Mul)[0]) else "1"
        for arg in _flat(node, sympy.Mul):
            if _is_reciprocal(arg):
                text += " / " + self._at(arg.base, _POW)
            else:
                text += (" * " if text else "") + self._at(arg, _MUL)
        return text, _MUL

    def _fraction(self, above, below) -> str:
        if not below:
            return r" \cdot ".join(self._at(arg, _MUL) for arg in above)
        top = self._alone(above) if above else "1"
        return rf"\frac{{{top}}}{{{self._alone(below)}}}"

    def _alone(self, factors) -> str:
        """Factors that stand alone above or below a line: one sum needs no brackets there."""
        if len(factors) == 1:
            return self._at(factors[0], 0)
        return r" \cdot ".join(self._at(arg, _MUL) for arg in factors)

    def _power(self, node) -> tuple[str, int]:
        if _is_reciprocal(node):
            return (
                rf"\frac{{1}}{{{self._at(node.base, 0)}}}"
                if self.latex
                else f"1 / {self._at(node.base, _POW)}"
            ), _MUL
        base = self._at(node.base, _ATOM)
        if self.latex:
            return f"{base}^{{{self._at(node.exp, 0)}}}", _POW
        return f"{base} ** {self._at(node.exp, _ATOM)}", _POW

    def _choice(self, node) -> tuple[str, int]:
        (first, condition), (other, _) = [(pair.expr, pair.cond) for pair in node.args]
        yes, test, no = (self._at(part, 0) for part in (first, condition, other))
        if self.latex:
            return rf"\begin{{cases}} {yes} & {test} \\ {no} & \text{{otherwise}} \end{{cases}}", _ATOM
        return f"({yes} if {test} else {no})", _ATOM

    def _call(self, node) -> str:
        inside = ", ".join(self._at(arg, 0) for arg in node.args)
        if isinstance(node, sympy.floor | sympy.ceiling):
            name = "floor" if isinstance(node, sympy.floor) else "ceil"
            return rf"\left\l{name} {inside} \right\r{name}" if self.latex else f"{name}({inside})"
        name = {"Max": "max", "Min": "min"}[type(node).__name__]
        return rf"\{name}\left({inside}\right)" if self.latex else f"{name}({inside})"


def pruned(node):
    """Return a tree without what does nothing: added zeros, factors and powers of one, products with zero."""
    if not node.args or isinstance(node, sympy.Symbol):
        return node
    with sympy.evaluate(False):
        args = [pruned(arg) for arg in node.args]
        if node.is_Mul:
            if any(_is(arg, 0) for arg in args):
                return sympy.Integer(0)
            return _joined(sympy.Mul, [arg for arg in args if not _is(arg, 1)], 1)
        if node.is_Add:
            return _joined(sympy.Add, [arg for arg in args if not _is(arg, 0)], 0)
        if node.is_Pow and _is(args[0], 1):
            return sympy.Integer(1)
        return node.func(*args)


def _is(node, value: int) -> bool:
    """Whether a node is that number; sympy's own == tells 0.0 from 0."""
    return node.is_Number and float(node) == value


def _joined(kind, args, neutral):
    if len(args) < 2:
        return args[0] if args else sympy.Integer(neutral)
    return kind(*args)


def _flat(node, kind) -> list:
    """Arguments of nested sums or products, from left to right."""
    if not isinstance(node, kind) or (kind is sympy.Mul and _sign(node)[0]):
        return [node]
    return [leaf for arg in node.args for leaf in _flat(arg, kind)]


def _sign(node) -> tuple[bool, object]:
    """Whether a node is subtracted, and what is."""
    if node.is_Number and node < 0:
        return True, -node
    if node.is_Mul and _sign(node.args[0])[0]:  # a product is negative if its first factor is
        first, rest = _sign(node.args[0])[1], node.args[1:]
        with sympy.evaluate(False):
            return True, _joined(sympy.Mul, [*([] if _is(first, 1) else [first]), *rest], 1)
    return False, node


def _is_reciprocal(node) -> bool:
    return node.is_Pow and node.exp == -1


def symbol_latex(name: str) -> str:
    r"""Return the LaTeX of a symbol named in text.

    Examples
    --------
    >>> print(symbol_latex("t_decode"), symbol_latex("N"), symbol_latex("TPOT"))
    t_{\mathrm{decode}} N \mathrm{TPOT}
    """
    head, _, below = name.partition("_")
    head = head if len(head) == 1 else rf"\mathrm{{{head}}}"
    if not below:
        return head
    if len(below) == 1:
        return f"{head}_{{{below}}}"
    words = below.replace("_", r"\ ")
    return rf"{head}_{{\mathrm{{{words}}}}}"


def quantity_latex(text: str) -> str:
    r"""Return the LaTeX of a quantity in text.

    Examples
    --------
    >>> print(quantity_latex("12.3 ms"), quantity_latex("1,024"))
    12.3\,\mathrm{ms} 1{,}024
    """
    size, _, unit = text.partition(" ")
    mantissa, _, exponent = size.replace(",", "{,}").partition("e")
    if exponent:
        mantissa += rf" \times 10^{{{int(exponent)}}}"
    return mantissa + (rf"\,\mathrm{{{unit}}}" if unit else "")
