"""How a model is fine-tuned: method, optimizer, sharding, formats, checked."""

from dataclasses import dataclass

from calc.specs.errors import unknown_name
from calc.specs.quantization import WEIGHT_FORMATS, WeightFormat
from calc.specs.workload import whole_number

CHECKPOINTING = ("none", "selective", "full")
METHODS = ("full", "lora", "qlora")
DTYPE_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
#: bytes of optimizer state per trained parameter; Adafactor keeps one value per row and column
OPTIMIZERS = {
    "adamw": 8.0,  # two fp32 moments
    "adamw-8bit": 2 * (1 + 4 / 256),  # two moments in 8 bits, an fp32 scale per block of 256 (bitsandbytes)
    "sgd": 0.0,
    "sgd-momentum": 4.0,
    "adafactor": None,
}
#: NormalFloat with double quantisation: a scale of 8 bits per 64 weights, an fp32 one per 256 of those
NF4 = WeightFormat("nf4", 4 + 8 / 64 + 32 / (64 * 256), "bf16", note="QLoRA, arXiv 2305.14314 section 3")
#: bytes per logit at the peak: bf16 logits, fp32 log-probabilities and two fp32 gradients
LOGIT_BYTES = 14
CONTEXT_BYTES = 2.0**30  # assumed: CUDA context, cuBLAS workspace, communication buffers
FRAGMENTATION = 0.05  # assumed: share of everything else that the allocator cannot use


@dataclass(frozen=True, eq=False)
class FineTuning:
    """How a model is fine-tuned; ``batch``, ``seq_len``, ``dp`` and ``tp`` may be arrays that broadcast.

    Attributes
    ----------
    method : str
        ``"full"``, ``"lora"`` or ``"qlora"``.
    batch, seq_len : int or array
        Sequences per device and forward pass (the micro-batch), and their length. [tokens]
    optimizer : str
        ``"adamw"``, ``"adamw-8bit"``, ``"sgd"``, ``"sgd-momentum"`` or ``"adafactor"``.
    weights_dtype, adapter_dtype, grad_dtype : str, optional
        bf16 weights (``"nf4"`` with qlora), fp32 adapters, gradients as what is trained.
    master_weights : bool, optional
        An fp32 copy of trained 16-bit weights; kept unless False.
    zero_stage, dp, tp : int
        ZeRO stage 0-3 (FSDP is 3) over ``dp`` ranks; tensor-parallel ranks.
    checkpointing : str
        ``"none"``, ``"selective"`` (attention scores) or ``"full"`` (whole layers) recomputed.
    flash_attention, dropout, sequence_parallel : bool
        No stored scores; dropout masks as in GPT-3; Megatron's split of what tp leaves whole.
    lora_rank, lora_targets : int, str or sequence of str
        Adapters; ``"all-linear"`` or names such as ``"q_proj,v_proj"``.
    """

    method: str = "full"
    batch: object = 1
    seq_len: object = 2048
    optimizer: str = "adamw"
    weights_dtype: str | None = None
    adapter_dtype: str = "fp32"
    grad_dtype: str | None = None
    master_weights: bool | None = None
    zero_stage: int = 0
    dp: object = 1
    tp: object = 1
    checkpointing: str = "none"
    flash_attention: bool = True
    dropout: bool = False
    sequence_parallel: bool = False
    lora_rank: int = 16
    lora_targets: object = "all-linear"

    def __post_init__(self):
        put = object.__setattr__
        for name, known in (
            ("method", METHODS), ("optimizer", OPTIMIZERS), ("checkpointing", CHECKPOINTING),
            ("adapter_dtype", DTYPE_BYTES), ("grad_dtype", (*DTYPE_BYTES, None)),
        ):  # fmt: skip
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), filter(None, known))
        for name, most in (
            ("batch", 2**20), ("seq_len", 2**30), ("dp", 2**20), ("tp", 1024), ("lora_rank", 2**16),
        ):  # fmt: skip
            put(self, name, whole_number(name, getattr(self, name), 1, most))
        put(self, "zero_stage", whole_number("zero_stage", self.zero_stage, 0, 3))
        put(self, "weights_dtype", self.weights_dtype or ("nf4" if self.method == "qlora" else "bf16"))
        allowed = [*WEIGHT_FORMATS, "nf4"] if self.method == "qlora" else DTYPE_BYTES
        if self.weights_dtype not in allowed:
            raise unknown_name(f"weights_dtype of {self.method}", str(self.weights_dtype), allowed)

    @property
    def full(self) -> bool:
        """Whether all weights are trained."""
        return self.method == "full"

    @property
    def trained_dtype(self) -> str:
        """Dtype of what is trained: the weights or the adapters."""
        return self.weights_dtype if self.full else self.adapter_dtype

    @property
    def weight_format(self) -> WeightFormat:
        """Format of the base weights."""
        return NF4 if self.weights_dtype == "nf4" else WEIGHT_FORMATS[self.weights_dtype]
