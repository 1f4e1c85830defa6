"""Workload: what users ask for - token lengths and how many at once."""

from dataclasses import dataclass

import numpy as np

from calc.specs.errors import SpecError
from calc.specs.lengths import Lengths, lengths_of

MODES = ("closed_loop", "static", "max_load", "open_loop")
#: exponents of expert popularity beyond this are not known from any measured layer
MAX_EXPERT_SKEW = 1.5


def whole_number(name: str, value, least: int, most: float = 2**40):
    """Return a whole number or an array of them as floats, checked against bounds.

    Examples
    --------
    >>> whole_number("tp", 4, 1)
    4
    """
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise SpecError(
            f"{name}: {value!r} is not a number; allowed are whole numbers from {least}"
        ) from None
    wrong = ~np.isfinite(array) | (array < least) | (array > most) | (array != np.floor(array))
    if np.any(wrong):
        first = array[wrong].flat[0] if array.ndim else value
        top = "" if most >= 2**40 else f" to {most:g}"
        raise SpecError(f"{name}: {first} is not allowed; allowed are whole numbers from {least}{top}")
    return int(array) if array.ndim == 0 else array


@dataclass(frozen=True, eq=False)
class Workload:
    """Token lengths and load of one scenario; numeric fields may be arrays that broadcast.

    Attributes
    ----------
    prompt_tokens, output_tokens : int or array
        Lengths of one request. [tokens]
    concurrency : int or array, optional
        Requests in flight over the whole deployment; 1 when no load is given. Found from the
        rate in ``"open_loop"``, from memory in ``"max_load"``.
    mode : str
        ``"closed_loop"`` (that many requests kept in flight, continuous batching),
        ``"static"`` (one batch, prefilled together and decoded to the end),
        ``"max_load"`` (as many as memory and the engine's limit allow) or ``"open_loop"``
        (requests arrive at random at a rate; the mode of a given ``requests_per_s``).
    shared_prefix_tokens : int or array
        Leading prompt tokens that all requests have in common; cached once. [tokens]
    sequences_per_request : int or array
        Continuations of one prompt: beams, or n of best-of-n. The prompt is computed and cached
        once; one of them is the answer, whose tokens count.
    expert_skew : float or array
        Exponent of the power law of expert popularity: 0 uniform routing, up to 1.5. [1]
    equal_lengths : bool
        Whether all requests are exactly as long as said, as in many benchmarks: those that start
        together then end together, and their successors' prompts come in bursts.
    warmed_up : bool
        Whether the server has served such requests before. In a closed loop of a server that has
        not, the first requests wait for kernels that are built on first use; times are means over
        a benchmark of ten requests per place.
    requests_per_s : float or array, optional
        Arrival rate of an open loop; 0 is an idle deployment. [1/s]
    prompt_lengths, output_lengths : str or Lengths
        How lengths spread around their means in an open loop: ``"constant"``,
        ``"geometric"``, ``"lognormal"`` or a ``Lengths``.

    Examples
    --------
    >>> Workload(prompt_tokens=1024, output_tokens=256, concurrency=64).mode
    'closed_loop'
    """

    prompt_tokens: object = 1024
    output_tokens: object = 256
    concurrency: object = None
    requests_per_s: object = None
    mode: str = ""
    shared_prefix_tokens: object = 0
    sequences_per_request: object = 1
    expert_skew: object = 0.0
    equal_lengths: bool = False
    warmed_up: bool = True
    prompt_lengths: object = "constant"
    output_lengths: object = "constant"

    def __post_init__(self):
        mode = self.mode or ("closed_loop" if self.requests_per_s is None else "open_loop")
        if mode not in MODES:
            raise SpecError(f"mode: {mode!r} is not known; allowed are {', '.join(MODES)}")
        if mode == "max_load" and self.concurrency is not None:
            raise SpecError(
                f"concurrency: {self.concurrency} contradicts mode 'max_load', which finds it from memory"
            )
        if not self.warmed_up and mode != "closed_loop":
            raise SpecError(f"warmed_up: False: allowed is True in mode {mode!r}; a closed loop is timed")
        put = object.__setattr__
        put(self, "mode", mode)
        self._check_rate(mode)
        for name in ("prompt_lengths", "output_lengths"):
            lengths = lengths_of(getattr(self, name), name)
            put(self, name, lengths)
            if mode != "open_loop" and lengths != Lengths():
                raise SpecError(f"{name}: {lengths.kind!r} needs requests_per_s; allowed is 'constant'")
            if lengths.values:  # observed lengths bring their mean
                put(self, name.replace("lengths", "tokens"), round(sum(lengths.values) / len(lengths.values)))
        put(self, "prompt_tokens", whole_number("prompt_tokens", self.prompt_tokens, 1, 2**30))
        put(self, "output_tokens", whole_number("output_tokens", self.output_tokens, 1, 2**30))
        shared = whole_number("shared_prefix_tokens", self.shared_prefix_tokens, 0, 2**30)
        put(self, "shared_prefix_tokens", shared)
        if np.any(np.asarray(shared) > self.prompt_tokens):
            raise SpecError(f"shared_prefix_tokens: {shared} is not allowed; allowed is up to prompt_tokens")
        sequences = whole_number("sequences_per_request", self.sequences_per_request, 1, 1024)
        put(self, "sequences_per_request", sequences)
        put(self, "expert_skew", _exponent("expert_skew", self.expert_skew, MAX_EXPERT_SKEW))
        if mode not in ("max_load", "open_loop"):
            given = 1 if self.concurrency is None else self.concurrency
            put(self, "concurrency", whole_number("concurrency", given, 1, 2**30))

    def _check_rate(self, mode: str) -> None:
        """Raise SpecError unless a rate is given exactly where the mode needs one."""
        rate = self.requests_per_s
        if (mode == "open_loop") != (rate is not None):
            need = "needs" if rate is None else "does not take"
            raise SpecError(
                f"requests_per_s: mode {mode!r} {need} a rate; allowed is a rate with 'open_loop'"
            )
        if rate is None:
            return
        if self.concurrency is not None:
            raise SpecError(f"concurrency: {self.concurrency} contradicts requests_per_s, which finds it")
        try:
            rates = np.asarray(rate, dtype=float)
        except (TypeError, ValueError):
            rates = np.asarray(np.nan)
        if not np.all((rates >= 0) & (rates < 1e9)):
            raise SpecError(f"requests_per_s: {rate!r} is not allowed; allowed are rates from 0")
        object.__setattr__(self, "requests_per_s", float(rates) if rates.ndim == 0 else rates)


def _exponent(name: str, value, most: float):
    """Return a number or an array of floats, checked to lie between 0 and ``most``."""
    try:
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        array = np.asarray(np.nan)
    if not np.all((array >= 0) & (array <= most)):
        raise SpecError(f"{name}: {value!r} is not allowed; allowed are numbers from 0 to {most:g}")
    return float(array) if array.ndim == 0 else array
