"""Mamba-2 in plain torch: the update of one token, and the scan of a prompt in chunks."""

from calc.work.linear_kernels import MAMBA2
from validate.probes.states import StateProbe

#: (groups, heads, state, width of a head): Mamba-2, Bamba, Nemotron-H on a rank
LAYERS = ((1, 24, 128, 64), (1, 48, 128, 64), (2, 16, 128, 64), (1, 80, 128, 64))


class Mamba2Update(StateProbe):
    """One token of each sequence."""

    name, rule, layers = "mamba2_update", MAMBA2, LAYERS


class Mamba2Scan(StateProbe):
    """The tokens of a prompt."""

    name, rule, layers, phase = "mamba2_scan", MAMBA2, LAYERS, "prefill"
