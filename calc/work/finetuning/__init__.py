"""Memory of fine-tuning: full, LoRA and QLoRA; weights, gradients, optimizer, activations, logits.

Model states follow ZeRO (arXiv 1910.02054), activations Korthikanti et al. (arXiv 2205.05198),
with what PyTorch's autograd keeps for models other than GPT (``docs/fine-tuning-memory.md``).
"""

from calc.work.finetuning.activations import (
    KEPT_OF_KIND,
    activation_bytes,
    kept_per_token,
    layer_activation_bytes,
    logits_bytes,
)
from calc.work.finetuning.memory import FinetuningMemory, finetuning_memory, overhead_bytes
from calc.work.finetuning.settings import NF4, FineTuning
from calc.work.finetuning.states import adapters, state_bytes, zero_partitions

__all__ = [
    "KEPT_OF_KIND",
    "NF4",
    "FineTuning",
    "FinetuningMemory",
    "activation_bytes",
    "adapters",
    "finetuning_memory",
    "kept_per_token",
    "layer_activation_bytes",
    "logits_bytes",
    "overhead_bytes",
    "state_bytes",
    "zero_partitions",
]
