"""Step times of one deployment: the same calibrated work for every question."""

from dataclasses import dataclass, replace

from calc.specs.deployment import Deployment
from calc.specs.device import Device
from calc.specs.engine import Engine
from calc.specs.model import Model
from calc.specs.numeric import floor, maximum
from calc.timing.calibration import Calibration
from calc.timing.overheads import Overheads, handling_s, launches
from calc.timing.step_time import Duration, step_time
from calc.work.memory import precision_of
from calc.work.op import Op, Sequences
from calc.work.sharding import split_of
from calc.work.step import step_ops

#: what engines do with prompts as shipped, where it differs from chunks that share steps with decodes
POLICY = {"sglang": "prefill_first"}


@dataclass(frozen=True, eq=False)
class Steps:
    """Step times of one deployment.

    Groups of decodes are requests: each is ``sequences_per_request`` sequences (beams, or n of
    best-of-n), which share the cache of their prompt but read it one by one. Their prompt is
    computed once.
    """

    model: Model
    device: Device
    deployment: Deployment
    engine: Engine
    calibration: Calibration
    overheads: Overheads
    expert_skew: object = 0.0
    sequences_per_request: object = 1

    @property
    def tokens_per_step(self):
        """Tokens that a sequence gains in a decode step: one, without drafts."""
        return 1

    @property
    def policy(self) -> str:
        """``"chunked"``: prompt chunks share steps with decodes; ``"prefill_first"``: they run alone."""
        return POLICY.get(self.engine.id, "chunked")

    @property
    def hold_steps(self):
        """Decode steps that the scheduler's settings let a new request wait."""
        return self.deployment.hold_steps

    @property
    def stages(self):
        """Pipeline stages, each working on a micro-batch of its own."""
        return self.deployment.pp

    @property
    def ranks(self):
        """Batches that run side by side: attention-data ranks, and micro-batches of a pipeline."""
        return self.deployment.dp * self.deployment.pp

    def token_budget(self, prompt_tokens):
        """Most tokens of a step; engines without a limit prefill a whole prompt. [tokens]"""
        return self.deployment.max_batched_tokens or self.engine.max_batched_tokens or prompt_tokens

    @property
    def most_sequences(self):
        """Most sequences that run at once: the limit of each attention-data rank's scheduler."""
        return self.deployment.dp * (self.deployment.max_sequences or self.engine.max_sequences)

    @property
    def most_requests(self):
        """Most requests that run at once: the scheduler counts each of their sequences."""
        return requests_of(self.most_sequences, self.sequences_per_request)

    @property
    def prefill_launches(self):
        """Kernels that a step with a prompt launches. [count]"""
        return launches(self._ops((Sequences("prefill", 1, 1, 0),)))

    @property
    def handling_s(self):
        """Host time of a request before its first token, beside the steps that it is part of. [s]"""
        return handling_s(self.overheads, self.prefill_launches)

    def _ops(self, groups: tuple[Sequences, ...]) -> list[Op]:
        precision, split = precision_of(self.model, self.deployment), split_of(self.deployment)
        return step_ops(self.model, groups, precision, split, expert_skew=self.expert_skew)

    def time(self, *groups: Sequences) -> Duration:
        """Return the time of one step on these sequences of one rank, through all stages."""
        groups = tuple(branched(group, self.sequences_per_request) for group in groups)
        ops = self._ops(groups)
        sequences = sum(group.logit_rows for group in groups)
        layers = self.model.n_layers
        return step_time(ops, self.device, self.calibration, self.overheads, sequences, layers)


def branched(group: Sequences, sequences_per_request) -> Sequences:
    """Return a group of requests as sequences: decodes branch, prompts do not.

    Examples
    --------
    >>> branched(Sequences("decode", 8, 1, 1000), 4).n_sequences
    32
    >>> branched(Sequences("prefill", 8, 1000, 0), 4).n_sequences
    8
    """
    each = sequences_per_request
    if group.phase != "decode" or (type(each) is int and each == 1):
        return group
    sampled = None if group.sampled is None else group.sampled * each
    return replace(group, n_sequences=group.n_sequences * each, sampled=sampled)


def requests_of(sequences, sequences_per_request):
    """Requests that a limit on sequences lets run at once, at least one.

    Examples
    --------
    >>> requests_of(256, 1), requests_of(256, 5), requests_of(256, 1000)
    (256, 51, 1)
    """
    each = sequences_per_request
    return sequences if type(each) is int and each == 1 else maximum(1, floor(sequences / each))


def decode_rows(requests, sequences_per_request, drafts=0):
    """Tokens of a decode step: one for each sequence, and its drafts. [count]

    Examples
    --------
    >>> decode_rows(8, 4), decode_rows(8, 1, 3)
    (32, 32)
    """
    return requests * sequences_per_request * (drafts + 1)
