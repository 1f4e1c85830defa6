"""Memory of fine-tuning on one device and on all."""

from dataclasses import dataclass, fields

from calc.specs.device import Device, load_device
from calc.specs.errors import SpecError, unknown_name
from calc.specs.model import Model, Weight
from calc.specs.model_files import load_model
from calc.specs.numeric import maximum, where
from calc.specs.quantization import stored_bits
from calc.work.finetuning.activations import KEPT_OF_KIND, activation_bytes, logits_bytes
from calc.work.finetuning.settings import CONTEXT_BYTES, DTYPE_BYTES, FRAGMENTATION, OPTIMIZERS, FineTuning
from calc.work.finetuning.states import adapters, state_bytes, zero_partitions
from calc.work.memory import stored_bytes
from calc.work.parameters import layer_weights, weights
from calc.work.sharding import check_tp, parameters_per_device


def overhead_bytes(others):
    """Allowance for the CUDA context and for fragmentation of everything else; assumed. [byte]"""
    return CONTEXT_BYTES + FRAGMENTATION * others


@dataclass(frozen=True, eq=False)
class FinetuningMemory:
    """Where the memory of fine-tuning goes, on one device; numbers or arrays, in bytes.

    ``gathered_bytes_per_device`` is the largest layer (or table) that ZeRO-3 holds whole while
    it is computed. Without a device ``fits`` and the shortfall are None.
    """

    how: FineTuning
    model: Model
    trained_parameters: int
    device: Device | None
    weights_bytes_per_device: object
    gathered_bytes_per_device: object
    adapters_bytes_per_device: object
    gradients_bytes_per_device: object
    optimizer_bytes_per_device: object
    master_bytes_per_device: object
    activation_bytes_per_device: object
    logits_bytes_per_device: object

    @property
    def n_devices(self):
        """Devices: dp * tp."""
        return self.how.dp * self.how.tp

    @property
    def device_bytes_per_device(self):
        """Memory that the device reports; None without a device. [byte]"""
        return None if self.device is None else self.device.memory_bytes

    @property
    def overhead_bytes_per_device(self):
        """CUDA context and fragmentation, assumed. [byte]"""
        return overhead_bytes(sum(size for _, size in self._parts()))

    @property
    def total_bytes_per_device(self):
        """All rows together. [byte]"""
        return sum(size for _, size in self.breakdown())

    @property
    def total_bytes(self):
        """All rows on all devices. [byte]"""
        return self.n_devices * self.total_bytes_per_device

    @property
    def shortfall_bytes_per_device(self):
        """Bytes missing on each device; 0 when it fits. [byte]"""
        if self.device is None:
            return None
        return maximum(0.0, self.total_bytes_per_device - self.device_bytes_per_device)

    @property
    def fits(self):
        """Whether all rows fit in what the device reports."""
        return None if self.device is None else self.shortfall_bytes_per_device <= 0

    def _parts(self) -> list[tuple[str, object]]:
        return [
            ("weights", self.weights_bytes_per_device),
            ("gathered layer", self.gathered_bytes_per_device),
            ("adapters", self.adapters_bytes_per_device),
            ("gradients", self.gradients_bytes_per_device),
            ("optimizer", self.optimizer_bytes_per_device),
            ("master weights", self.master_bytes_per_device),
            ("activations", self.activation_bytes_per_device),
            ("logits", self.logits_bytes_per_device),
        ]

    def breakdown(self) -> list[tuple[str, object]]:
        """Rows (name, bytes per device) that sum to the total."""
        return [*self._parts(), ("overhead, assumed", self.overhead_bytes_per_device)]


def finetuning_memory(model: str | Model, *, device: str | Device | None = None, **how) -> FinetuningMemory:
    """Return the memory of fine-tuning a model, per device.

    Parameters
    ----------
    model, device : str or object
        As in ``load_model`` and ``load_device``; without a device nothing is said about fitting.
    **how
        The fields of ``FineTuning``: method, batch, seq_len, optimizer, zero_stage, dp, tp ...

    Notes
    -----
    All rows are taken to be there at once, which is an upper bound: gradients appear while
    activations go. Paging, offloading, pipeline and expert parallelism are not answered.

    Examples
    --------
    >>> m = finetuning_memory("llama-2-7b", method="qlora", device="rtx-4090", checkpointing="full")
    >>> m.trained_parameters, m.fits
    (39976960, True)
    """
    model, setup = load_model(model), _setup(how)
    _check(model, setup)
    trained = weights(model) if setup.full else adapters(model, setup.lora_rank, setup.lora_targets)
    held = sum(count * parameters_per_device(weight, setup.tp) for weight, count in trained)
    cut = zero_partitions(setup.zero_stage, setup.dp)
    width = DTYPE_BYTES[setup.trained_dtype]
    master = 0 if width == 4 or setup.master_weights is False else 4
    tokens = setup.batch * setup.seq_len
    return FinetuningMemory(
        how=setup,
        model=model,
        trained_parameters=sum(weight.parameters * count for weight, count in trained),
        device=None if device is None else load_device(device),
        weights_bytes_per_device=_base_bytes(weights(model), setup) / cut["weights"],
        gathered_bytes_per_device=_gathered_bytes(model, setup),
        adapters_bytes_per_device=0.0 if setup.full else state_bytes(held, width, cut["weights"]),
        gradients_bytes_per_device=state_bytes(
            held, DTYPE_BYTES[setup.grad_dtype or setup.trained_dtype], cut["gradients"]
        ),
        optimizer_bytes_per_device=_optimizer_bytes(trained, held, setup, cut["optimizer"]),
        master_bytes_per_device=state_bytes(held, master, cut["optimizer"]),
        activation_bytes_per_device=activation_bytes(model, setup),
        logits_bytes_per_device=logits_bytes(tokens, model.vocab_size, setup.tp),
    )


def _check(model: Model, how: FineTuning) -> None:
    """Raise SpecError for what is not answered."""
    if model.encoder_layers:
        raise SpecError(f"{model.id}: fine-tuning of models with an encoder is not answered")
    kinds = {layer.attention.kind for layer, _ in model.distinct_layers if layer.attention}
    for kind in sorted(kinds - set(KEPT_OF_KIND)):
        allowed = ", ".join(KEPT_OF_KIND)
        raise SpecError(f"{model.id}: fine-tuning of {kind!r} layers is not answered; allowed are {allowed}")
    check_tp(model, how.tp)


def _setup(how: dict) -> FineTuning:
    known = [field.name for field in fields(FineTuning)]
    for name in how:
        if name not in known:
            raise unknown_name("fine-tuning setting", name, known)
    return FineTuning(**how)


def _base_bytes(rows, how: FineTuning):
    """Bytes of weights on one tensor-parallel rank. [byte]"""
    total = 0.0
    for weight, count in rows:
        held = count * parameters_per_device(weight, how.tp)
        total = total + stored_bytes(held, stored_bits(weight.role, how.weight_format))
    return total


def _gathered_bytes(model: Model, how: FineTuning):
    if how.zero_stage < 3:
        return 0.0
    layers = [[(weight, 1) for weight in layer_weights(layer)] for layer, _ in model.distinct_layers]
    units = layers + [[(weight, 1)] for weight in model.outer]
    return where(how.dp > 1, maximum(*(_base_bytes(unit, how) for unit in units), 0.0), 0.0)


def _optimizer_bytes(trained, held, how: FineTuning, partition):
    per_parameter = OPTIMIZERS[how.optimizer]
    if per_parameter is not None:
        return state_bytes(held, per_parameter, partition)
    return sum(
        state_bytes(count * parameters_per_device(weight, how.tp), 4 * _factored_share(weight), partition)
        for weight, count in trained
    )


def _factored_share(weight: Weight) -> float:
    """Adafactor's values per parameter: a row and a column of a matrix, each element of a vector."""
    rows, columns = weight.out_features, weight.in_features
    return 1.0 if columns == 1 else (rows + columns) / (rows * columns)
