"""The forms by name."""

from calc.specs.errors import unknown_name
from calc.timing.forms.base import Ceilings, Form, Parameter, Parts, overlap
from calc.timing.forms.collective import COLLECTIVE, CUSTOM_ALLREDUCE
from calc.timing.forms.decode import DECODE
from calc.timing.forms.dispatch import DISPATCH
from calc.timing.forms.gemm import GEMM
from calc.timing.forms.linear import LINEAR
from calc.timing.forms.link import LINK
from calc.timing.forms.mla import DECODE_MLA, PREFILL_MLA
from calc.timing.forms.moe import MOE
from calc.timing.forms.pnorm import PNORM
from calc.timing.forms.prefill import ENCODER, PREFILL
from calc.timing.forms.ring import RING
from calc.timing.forms.roofline import ROOFLINE

__all__ = ["FORMS", "Ceilings", "Form", "Parameter", "Parts", "form", "overlap"]

#: every form by its versioned name
FORMS: dict[str, Form] = {
    each.name: each
    for each in (
        ROOFLINE, PNORM, RING, GEMM, PREFILL, DECODE, ENCODER, PREFILL_MLA, DECODE_MLA, LINEAR, MOE,
        COLLECTIVE, CUSTOM_ALLREDUCE, DISPATCH, LINK,
    )
}  # fmt: skip


def form(name: str) -> Form:
    """Return a form by its versioned name.

    Raises
    ------
    SpecError
        If there is none: parameters of another version are never read by a newer formula.

    Examples
    --------
    >>> form("roofline/1").parameters[0].name
    'fixed_s'
    """
    if name not in FORMS:
        raise unknown_name("form", name, FORMS)
    return FORMS[name]
