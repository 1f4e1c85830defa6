"""The gated delta rule in plain torch: the update of one token, and the scan of a prompt in chunks."""

from calc.work.linear_kernels import GATED_DELTA
from validate.probes.states import StateProbe

#: (key heads, value heads, widths): Qwen3-Next, and ranks of it
LAYERS = ((16, 32, 128, 128), (8, 16, 128, 128), (4, 8, 128, 128), (4, 8, 64, 64))


class DeltaUpdate(StateProbe):
    """One token of each sequence."""

    name, rule, layers, gated_delta = "delta_update", GATED_DELTA, LAYERS, True


class DeltaScan(StateProbe):
    """The tokens of a prompt."""

    name, rule, layers, gated_delta, phase = "delta_scan", GATED_DELTA, LAYERS, True, "prefill"
