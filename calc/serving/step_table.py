"""Step times of one deployment as a table: made once per scenario, looked up ever after.

The chain of ``open_loop`` and the simulator read the same table. A step is timed as

    decodes at their mean context + prompt tokens beside them + attention of each prompt

where the first two are interpolated between exact step times, and the third is what
a prompt's attention takes beyond that of short pieces, plus what it reads of its past.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calc.serving.steps import Steps
from calc.work.op import Sequences

#: grids are exact up to here, then geometric
_EXACT = 16
_RATIO = 1.06
#: prompts of up to so many tokens count as having no attention of their own [tokens]
_SHORT_TOKENS = 64
#: tokens between two entries of a dense row of contexts [tokens]
CONTEXT_STRIDE = 64


@dataclass(frozen=True, eq=False)
class StepTable:
    """Step times over (decodes, mean context, prompt tokens). [s]

    ``decode_s`` has a row per number of decodes and a column per context; ``surplus_s`` is
    what prompt tokens add to a step of 0, 1, ... decodes; ``attention_s`` the attention of
    one prompt piece, ``past_s`` what it adds to have tokens before it; ``sequence_s`` what
    each further prompt of a step adds; ``request_s`` the host's handling of a request before
    its first step.
    """

    decodes: np.ndarray
    contexts: np.ndarray
    tokens: np.ndarray
    decode_s: np.ndarray
    surplus_s: np.ndarray
    attention_s: np.ndarray
    past_s: np.ndarray
    sequence_s: float
    request_s: float = 0.0

    @property
    def max_decodes(self) -> int:
        """Most decodes in a step."""
        return int(self.decodes[-1])

    @property
    def budget_tokens(self) -> int:
        """Most prompt tokens in a step. [tokens]"""
        return int(self.tokens[-1])

    def decode(self, n, context):
        """Time of a step of ``n`` decodes at a mean context; 0 without any. [s]"""
        rows, context = np.asarray(n), np.clip(context, self.contexts[0], self.contexts[-1])
        seconds = _bilinear(self.decode_s, self.decodes, self.contexts, np.maximum(rows, 1), context)
        return np.where(rows < 1, 0.0, seconds)

    def surplus(self, n, tokens):
        """What prompt tokens (short pieces) add to a step of ``n`` decodes; 0 without any. [s]"""
        rows, tokens = np.asarray(n), np.asarray(tokens)
        grid = np.concatenate([[0.0], self.decodes])
        seconds = _bilinear(self.surplus_s, grid, self.tokens, rows, np.maximum(tokens, 1.0))
        return np.where(tokens > 0, seconds, 0.0)

    def attention(self, tokens):
        """Attention of one prompt piece beyond that of short pieces. [s]"""
        return np.interp(tokens, self.tokens, self.attention_s)

    def past(self, tokens, past_tokens):
        """What it adds to a prompt piece that so many tokens came before it. [s]"""
        seen = np.clip(past_tokens, self.contexts[0], self.contexts[-1])
        seconds = _bilinear(self.past_s, self.tokens, self.contexts, np.maximum(tokens, 1.0), seen)
        return np.where(np.asarray(past_tokens) > 0, seconds, 0.0)

    def prompt_attention(self, new_tokens, past_tokens=0):
        """Attention of whole prompts, cut into chunks of the token budget. [s]

        ``past_tokens`` of each are cached already.
        """
        chunk, new = self.budget_tokens, np.asarray(new_tokens, dtype=float)
        total = 0.0 * new
        for start in np.arange(0, max(1, new.max(initial=0)), chunk):
            rest = np.clip(new - start, 0, chunk)
            piece = self.attention(rest) + self.past(rest, start + past_tokens)
            total = total + np.where(rest > 0, piece, 0.0)
        return total

    def step(self, n, context, tokens):
        """Time of a step of ``n`` decodes and so many tokens of short prompts. [s]"""
        return self.decode(n, context) + self.surplus(n, tokens)

    @cached_property
    def dense_attention(self) -> list[float]:
        """Attention by number of tokens, for every one up to the budget. [s]"""
        return self.attention(np.arange(self.budget_tokens + 1)).tolist()

    def decode_row(self, n: int) -> list[float]:
        """Times of ``n`` decodes at contexts 0, 64, 128, ... tokens. [s]"""
        contexts = np.arange(0, self.contexts[-1] + 2 * CONTEXT_STRIDE, CONTEXT_STRIDE)
        return self.decode(n, contexts).tolist()

    def surplus_row(self, n: int) -> np.ndarray:
        """What 0, 1, 2, ... prompt tokens add to ``n`` decodes. [s]"""
        return self.surplus(n, np.arange(self.budget_tokens + 1.0))


def step_table(steps: Steps, max_decodes: int, budget_tokens: int, max_context_tokens: int) -> StepTable:
    """Return the table of step times of one deployment.

    Parameters
    ----------
    steps : Steps
        The calibrated work of the deployment.
    max_decodes : int
        Most sequences in a step.
    budget_tokens : int
        Most prompt tokens in a step. [tokens]
    max_context_tokens : int
        Longest context. [tokens]

    Examples
    --------
    >>> from calc.serving.scenario import steps_of
    >>> steps = steps_of("llama-3.1-8b", "h100-sxm")
    >>> table = step_table(steps, 256, 8192, 16384)
    >>> exact = steps.time(Sequences("decode", 100, 1, 3000)).seconds
    >>> print(f"{float(table.decode(100, 3000)) / exact:.2f}")
    1.00
    """
    decodes, tokens = _grid(max_decodes), _grid(budget_tokens)
    contexts = np.concatenate([[1.0], np.geomspace(32, max(64, max_context_tokens), 40)])
    middle = contexts[len(contexts) // 2]
    decode_s = _seconds(steps, Sequences("decode", decodes[:, None], 1, contexts)) + 0.0 * contexts
    alone = _seconds(steps, Sequences("prefill", 1, tokens, 0))
    beside = _seconds(
        steps, Sequences("decode", decodes[:, None], 1, middle), Sequences("prefill", 1, tokens, 0)
    )
    at_middle = _seconds(steps, Sequences("decode", decodes[:, None], 1, middle))
    pieces = _seconds(
        steps,
        Sequences(
            "prefill", np.maximum(1, tokens / _SHORT_TOKENS), np.minimum(tokens, _SHORT_TOKENS), 0, sampled=1
        ),
    )
    attention_s = np.maximum.accumulate(np.maximum(0.0, alone - pieces))
    after = _seconds(steps, Sequences("prefill", 1, tokens[:, None], contexts))
    two = _seconds(steps, Sequences("prefill", 2, 1, 0))
    return StepTable(
        decodes=decodes,
        contexts=contexts,
        tokens=tokens,
        decode_s=decode_s,
        surplus_s=np.vstack([alone, beside - at_middle]) - attention_s,
        attention_s=attention_s,
        past_s=np.maximum(0.0, after - alone[:, None]) + 0.0 * contexts,  # without attention none adds any
        sequence_s=float(max(0.0, two - alone[1])),
        request_s=float(steps.handling_s),
    )


def _seconds(steps: Steps, *groups: Sequences) -> np.ndarray:
    return np.asarray(steps.time(*groups).seconds, dtype=float)


def _grid(most: int) -> np.ndarray:
    """Whole numbers from 1: all of them first, then with a ratio, the last one included."""
    exact = np.arange(1, min(_EXACT, most) + 1)
    count = max(0, int(np.ceil(np.log(max(most, _EXACT) / _EXACT) / np.log(_RATIO))))
    rest = np.round(np.geomspace(_EXACT, max(most, _EXACT), count + 1))
    return np.unique(np.concatenate([exact, rest[rest <= most], [most]])).astype(float)


def _bilinear(table, rows, columns, row, column):
    """Interpolate a table at arrays of rows and columns that broadcast; clipped at its edges."""
    row, column = np.clip(row, rows[0], rows[-1]), np.clip(column, columns[0], columns[-1])
    i = np.clip(np.searchsorted(rows, row, side="right") - 1, 0, max(0, len(rows) - 2))
    j = np.clip(np.searchsorted(columns, column, side="right") - 1, 0, max(0, len(columns) - 2))
    i2, j2 = np.minimum(i + 1, len(rows) - 1), np.minimum(j + 1, len(columns) - 1)
    x = (row - rows[i]) / np.maximum(rows[i2] - rows[i], 1e-30)
    y = (column - columns[j]) / np.maximum(columns[j2] - columns[j], 1e-30)
    low = table[i, j] * (1 - y) + table[i, j2] * y
    high = table[i2, j] * (1 - y) + table[i2, j2] * y
    return low * (1 - x) + high * x
