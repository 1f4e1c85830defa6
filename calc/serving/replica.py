"""One replica, step by step: iteration-level scheduling with a paged cache.

Decodes cost nothing per sequence here: all running sequences gain one token a step, so that
a finish is a step number in a heap, the cached tokens are one sum, and new blocks are counted
by sequence length modulo the block. Steps without prompts are taken many at a time.
"""

import math
from collections import deque
from heapq import heappop, heappush

from calc.serving.scheduler import Scheduler
from calc.serving.step_table import CONTEXT_STRIDE, StepTable


class Sequence:
    """A request on its way: lengths, what is computed and generated, and when. [tokens], [s]"""

    __slots__ = (
        "admitted", "arrival_s", "blocks", "cached", "computed", "finish_s", "first_s", "generated",
        "index", "joined", "output", "phase", "prompt", "start_s", "target",
    )  # fmt: skip

    def __init__(self, index: int, arrival_s: float, prompt: int, output: int):
        self.index, self.arrival_s, self.prompt, self.output = index, arrival_s, prompt, output
        self.computed = self.generated = self.cached = self.blocks = self.admitted = self.joined = 0
        self.target = prompt  # tokens to compute before the next token
        self.phase = "waiting"
        self.start_s = self.first_s = self.finish_s = math.nan


class Replica:
    """One engine with its queue; ``advance`` runs it up to a point in time.

    Parameters
    ----------
    table : StepTable
    scheduler : Scheduler

    Notes
    -----
    Ignored: time between steps beyond the engine's overhead, blocks of a shared prefix
    themselves, swapping to the host.
    """

    def __init__(self, table: StepTable, scheduler: Scheduler):
        self.table, self.rules = table, scheduler
        self.now = self.busy_s = self.decode_token_s = 0.0
        self.preemptions = self.prefilled_tokens = self.peak_blocks = self.steps = 0
        self.finished: list[Sequence] = []
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._running: list[Sequence] = []  # by admission, ended ones still in it
        self._n_running = self._n_decoding = 0
        self._finish: list[tuple[int, int, Sequence]] = []  # (step, admission, sequence)
        self._admissible = int(scheduler.blocks * (1 - scheduler.watermark))
        self._step = self._admissions = 0
        self._cached_tokens = 0  # of all decoding sequences
        self._used_blocks = 0
        self._full_at = [0] * scheduler.block_tokens  # decoding sequences by when a block is full
        self._decode_rows: dict[int, list[float]] = {}
        self._surplus_rows: dict[int, object] = {}

    @property
    def in_flight(self) -> int:
        """Requests that wait or run."""
        return len(self._waiting) + self._n_running

    def fits(self, prompt: int, output: int) -> bool:
        """Whether the pool could ever hold such a request."""
        return -(-(prompt + output) // self.rules.block_tokens) <= self.rules.blocks

    def push(self, sequence: Sequence) -> None:
        """Add a request that arrives now."""
        if not self.in_flight:
            self.now = max(self.now, sequence.arrival_s)
        self._prepare(sequence)
        self._waiting.append(sequence)

    def advance(self, until: float) -> None:
        """Run all steps that start before a time, or until nothing is left. [s]"""
        while self.now < until and self.in_flight:
            self._one_step(until)

    # --- one step -----------------------------------------------------------------------

    def _one_step(self, until: float) -> None:
        pieces, tokens = self._schedule()
        decodes = self._n_decoding
        if not pieces:
            self._decode_many(until)
            return
        if self.rules.policy == "prefill_first":
            decodes = 0
        seconds = self._step_seconds(decodes, tokens, pieces)
        self._spend(seconds, decodes)
        if decodes:
            self._decode(1)
        self.prefilled_tokens += tokens
        for sequence, new in pieces:
            self._computed(sequence, new)

    def _spend(self, seconds: float, decodes: int, steps: int = 1) -> None:
        self.now += seconds
        self.busy_s += seconds
        self.decode_token_s += seconds * decodes
        self.steps += steps

    def _step_seconds(self, decodes: int, tokens: int, pieces) -> float:
        row = self._surplus_rows.get(decodes)
        if row is None:
            row = self._surplus_rows[decodes] = self.table.surplus_row(decodes)
        seconds = row.item(tokens) + (len(pieces) - 1) * self.table.sequence_s
        attention = self.table.dense_attention
        for sequence, new in pieces:
            seconds += attention[new]
            if sequence.computed:
                seconds += float(self.table.past(new, sequence.computed))
        return seconds + (self._decode_seconds(decodes, 0) if decodes else 0.0)

    def _decode_seconds(self, n: int, ahead: float) -> float:
        """Time of one decode step when every sequence has ``ahead`` more tokens than now. [s]"""
        row = self._decode_rows.get(n)
        if row is None:
            row = self._decode_rows[n] = self.table.decode_row(n)
        place = min((self._cached_tokens / n + ahead) / CONTEXT_STRIDE, len(row) - 1.001)
        i = int(place)
        return row[i] + (row[i + 1] - row[i]) * (place - i)

    # --- decodes ------------------------------------------------------------------------

    def _decode_many(self, until: float) -> None:
        """Run decode steps up to the next finish, arrival or shortage of blocks."""
        n = self._n_decoding
        steps = self._steps_to_finish()
        steps = min(steps, self._steps_with_blocks(n, steps))
        if until < math.inf and steps > 1:
            gap = until - self.now
            guess = gap / self._decode_seconds(n, 0)
            if guess < steps:
                guess = gap / self._decode_seconds(n, guess / 2)
                steps = max(1, min(steps, math.ceil(guess)))
        self._spend(steps * self._decode_seconds(n, (steps - 1) / 2), n, steps)
        self._decode(steps)

    def _steps_to_finish(self) -> int:
        heap = self._finish
        while heap[0][2].phase != "decoding" or heap[0][2].admitted != heap[0][1]:
            heappop(heap)
        return heap[0][0] - self._step

    def _blocks_next(self, step: int) -> int:
        """Decoding sequences whose last block is full before a step: each needs a new one."""
        return self._full_at[-step % self.rules.block_tokens]

    def _steps_with_blocks(self, n: int, most: int) -> int:
        """Steps for which free blocks last, at least one."""
        free, block = self.rules.blocks - self._used_blocks, self.rules.block_tokens
        if self.rules.reserve == "request" or free >= n * (most // block + 1):
            return most
        rounds = free // n
        free -= rounds * n
        steps = rounds * block
        while steps < most and free >= self._blocks_next(self._step + steps):
            free -= self._blocks_next(self._step + steps)
            steps += 1
        return max(1, steps)

    def _decode(self, steps: int) -> None:
        """Give every decoding sequence so many tokens; those that are done leave."""
        n, block = self._n_decoding, self.rules.block_tokens
        if self.rules.reserve == "prompt":
            rounds, rest = divmod(steps, block)
            grown = rounds * n
            for step in range(self._step, self._step + rest):
                grown += self._blocks_next(step)
            self._used_blocks += grown
            self.peak_blocks = max(self.peak_blocks, self._used_blocks)
        self._cached_tokens += n * steps
        self._step += steps
        heap = self._finish
        while heap and heap[0][0] <= self._step:
            _, admitted, sequence = heappop(heap)
            if sequence.phase == "decoding" and sequence.admitted == admitted:
                self._leave_decodes(sequence)
                self._end(sequence)

    def _join_decodes(self, sequence: Sequence) -> None:
        sequence.phase, sequence.joined = "decoding", self._step
        sequence.cached = sequence.target
        self._full_at[(sequence.cached - self._step) % self.rules.block_tokens] += 1
        self._n_decoding += 1
        self._cached_tokens += sequence.cached
        finish = self._step + sequence.output - sequence.generated
        heappush(self._finish, (finish, sequence.admitted, sequence))

    def _leave_decodes(self, sequence: Sequence) -> None:
        gained = self._step - sequence.joined
        self._full_at[(sequence.cached - sequence.joined) % self.rules.block_tokens] -= 1
        self._n_decoding -= 1
        sequence.cached += gained
        sequence.generated += gained
        self._cached_tokens -= sequence.cached
        if self.rules.reserve == "prompt":
            sequence.blocks = self._blocks_of(sequence, sequence.cached)

    def _end(self, sequence: Sequence) -> None:
        sequence.phase, sequence.finish_s = "finished", self.now
        self._used_blocks -= sequence.blocks
        self._n_running -= 1
        self.finished.append(sequence)

    # --- prompts ------------------------------------------------------------------------

    def _prepare(self, sequence: Sequence) -> None:
        """Set what has to be computed: everything that no prefix cache holds."""
        sequence.phase = "waiting"
        sequence.target = sequence.prompt + sequence.generated
        block = self.rules.block_tokens
        hit = int(self.rules.cached_share * sequence.prompt) // block * block
        sequence.computed = min(hit, (sequence.target - 1) // block * block)
        sequence.blocks = 0

    def _blocks_of(self, sequence: Sequence, tokens: int) -> int:
        """Blocks of a sequence's own tokens; those of a cached prefix are shared."""
        block = self.rules.block_tokens
        shared = int(self.rules.cached_share * sequence.prompt) // block
        return max(0, -(-tokens // block) - min(shared, (sequence.target - 1) // block))

    def _schedule(self) -> tuple[list[tuple[Sequence, int]], int]:
        """Return the prompt pieces of the next step and their tokens, with cache for all of it."""
        rules = self.rules
        is_chunked = rules.policy == "chunked"
        count = self.preemptions
        if is_chunked or not (self._prefilling or self._waiting):
            self._secure_decodes()
        budget = rules.budget_tokens - (self._n_decoding if is_chunked else 0)
        pieces: list[tuple[Sequence, int]] = []
        tokens = 0
        for sequence in tuple(self._prefilling):
            if budget - tokens <= 0 or sequence.phase != "prefilling":
                continue
            new = min(sequence.target - sequence.computed, budget - tokens)
            if self._secure(sequence, new):
                pieces.append((sequence, new))
                tokens += new
        while self._waiting and tokens < budget and self.preemptions == count:
            new = self._admit(budget - tokens)
            if not new:
                break
            pieces.append((self._running[-1], new))
            tokens += new
        pieces = [piece for piece in pieces if piece[0].phase == "prefilling"]
        if not pieces and not is_chunked:
            self._secure_decodes()
        return pieces, sum(new for _, new in pieces)

    def _admit(self, room: int) -> int:
        """Start the first request of the queue if there is room; return its first tokens."""
        sequence, rules = self._waiting[0], self.rules
        if self._n_running >= rules.max_sequences:
            return 0
        new = min(sequence.target - sequence.computed, room)
        reserved = (
            sequence.prompt + sequence.output if rules.reserve == "request" else sequence.computed + new
        )
        blocks = self._blocks_of(sequence, reserved)
        upcoming = self._blocks_next(self._step) if rules.reserve == "prompt" else 0
        if self._n_running and self._used_blocks + upcoming + blocks > self._admissible:
            return 0
        self._waiting.popleft()
        self._take(sequence, blocks)
        self._admissions += 1
        sequence.admitted, sequence.phase = self._admissions, "prefilling"
        if math.isnan(sequence.start_s):
            sequence.start_s = self.now
        self._n_running += 1
        self._prefilling.append(sequence)
        if len(self._running) > 64 + 2 * self._n_running:
            self._running = [s for s in self._running if s.phase in ("prefilling", "decoding")]
        self._running.append(sequence)
        return new

    def _take(self, sequence: Sequence, blocks: int) -> None:
        self._used_blocks += blocks - sequence.blocks
        sequence.blocks = blocks
        self.peak_blocks = max(self.peak_blocks, self._used_blocks)

    def _computed(self, sequence: Sequence, new: int) -> None:
        """Count computed prompt tokens; the last of them give a token."""
        sequence.computed += new
        if sequence.computed < sequence.target:
            return
        self._prefilling.remove(sequence)
        sequence.generated += 1
        if math.isnan(sequence.first_s):
            sequence.first_s = self.now
        if sequence.generated >= sequence.output:
            self._end(sequence)
        else:
            self._join_decodes(sequence)

    # --- running out of cache -----------------------------------------------------------

    def _secure_decodes(self) -> None:
        """Preempt the newest requests until every decode has room for its next token."""
        if self.rules.reserve == "request":
            return
        while self._used_blocks + self._blocks_next(self._step) > self.rules.blocks:
            self._preempt(self._newest())

    def _secure(self, sequence: Sequence, new: int) -> bool:
        """Give a prompt piece its blocks, from newer requests if needed; False if it had to go."""
        if self.rules.reserve == "request":
            return True
        blocks = self._blocks_of(sequence, sequence.computed + new)
        upcoming = self._blocks_next(self._step) if self.rules.policy == "chunked" else 0
        while self._used_blocks - sequence.blocks + blocks + upcoming > self.rules.blocks:
            newest = self._newest()
            self._preempt(newest)
            if newest is sequence:
                return False
        self._take(sequence, blocks)
        return True

    def _newest(self) -> Sequence:
        while self._running[-1].phase not in ("prefilling", "decoding"):
            self._running.pop()
        return self._running[-1]

    def _preempt(self, sequence: Sequence) -> None:
        """Drop a request's cache and put it first in the queue: its tokens are computed again."""
        if sequence.phase == "decoding":
            self._leave_decodes(sequence)
        else:
            self._prefilling.remove(sequence)
        self._running.pop()
        self._used_blocks -= sequence.blocks
        self._n_running -= 1
        self._prepare(sequence)
        self._waiting.appendleft(sequence)
        self.preemptions += 1
