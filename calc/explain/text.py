"""An explanation as text for a terminal: aligned, at most 100 columns."""

import re
import textwrap

from calc.explain.explanation import Equation, Explanation, Part, Term

WIDTH = 100
_NO_BREAK = "\N{NO-BREAK SPACE}"  # between a number and its unit


def explanation_text(why: Explanation) -> str:
    """Return the text of an explanation."""
    blocks = [f"{why.title}: {why.shown}"]
    derived = {term.symbol: term for term in why.terms if term.equation}
    blocks += ["\n".join(_equation(equation, derived[equation.symbol])) for equation in why.equations]
    if why.parts:
        blocks.append("\n".join(["Parts", *_parts(why.parts, why.value)]))
    sources = list(dict.fromkeys(term.source for term in why.terms if term.source))
    blocks.append("\n".join(["Inputs", *_terms([term for term in why.terms if not term.equation], sources)]))
    if why.notes:
        blocks.append("\n".join(["Notes", *(line for note in why.notes for line in _wrapped(note, "- "))]))
    if sources:
        blocks.append("\n".join(["Sources", *_sources(why.terms, sources)]))
    return "\n\n".join(blocks)


def _equation(equation: Equation, term: Term) -> list[str]:
    """Words, formula, the same with numbers, and the result, equals signs below each other."""
    left = equation.symbol
    symbols = equation.formula.removeprefix(f"{left} = ")
    numbers = equation.substituted.removeprefix(f"{left} = ").removesuffix(f" = {equation.shown}")
    space = " " * (2 + len(left))
    words = term.name + (f" ({term.note})" if term.note else "")
    lines = [words[0].upper() + words[1:], *_wrapped(symbols, f"{left} = ")]
    numbers = re.sub(r"(?<=\d) (?=[A-Za-z])", _NO_BREAK, numbers)
    for text in (numbers, equation.shown) if numbers != equation.shown else (equation.shown,):
        lines += _wrapped(text, f"{space[2:]} = ")
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _wrapped(text: str, lead: str) -> list[str]:
    indent = "  " + " " * len(lead)
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent="  " + lead,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _parts(parts: tuple[Part, ...], total: float) -> list[str]:
    name = max(len(part.name) for part in parts)
    size = max(len(part.shown) for part in parts)
    lines = []
    for part in parts:
        share = 100 * part.value / total if total else 0.0
        lead = f"{part.name:<{name}}  {part.shown:>{size}}  {share:5.1f} %  "
        lines += _wrapped(part.note, lead) or [f"  {lead}".rstrip()]
    return lines


def _terms(terms: list[Term], sources: list[str]) -> list[str]:
    if not terms:
        return ["  none"]
    symbol = max(len(term.symbol) for term in terms)
    size = max(len(term.shown) for term in terms)
    lines = []
    for term in terms:
        number = f" [{sources.index(term.source) + 1}]" if term.source else ""
        note = f"; {term.note}" if term.note else ""
        lines += _wrapped(
            f"{term.name}; {term.kind}{number}{note}", f"{term.symbol:<{symbol}} = {term.shown:>{size}}  "
        )
    return lines


def _sources(terms: tuple[Term, ...], sources: list[str]) -> list[str]:
    lines = []
    for number, source in enumerate(sources, 1):
        term = next(term for term in terms if term.source == source)
        date = f" ({term.date})" if term.date else ""
        lines += _wrapped(f"{source}{date}", f"[{number}] ")
        if term.url:
            lines.append(f"      {term.url}")
    return lines
