"""A named scenario made ready for serving questions: its steps and its memory."""

import numpy as np

from calc.serving.steps import Steps
from calc.specs.deployment import Deployment
from calc.specs.device import Device, load_device
from calc.specs.engine import as_served, engine_of
from calc.specs.errors import SpecError
from calc.specs.model import Model
from calc.specs.model_files import load_model
from calc.specs.workload import Workload
from calc.timing.calibration import Calibration, calibration_for
from calc.timing.overheads import overheads_of
from calc.work.budget import Memory, memory_of
from calc.work.sharding import check_tp


def steps_of(
    model: Model | str,
    device: Device | str,
    deployment: Deployment | None = None,
    calibration: Calibration | str = "default",
) -> Steps:
    """Return the step times of a deployment, given by names or records.

    Examples
    --------
    >>> steps_of("llama-3.1-8b", "h100-sxm").engine.id
    'vllm'
    """
    model, device, deployment = load_model(model), load_device(device), deployment or Deployment()
    check_scalar(deployment)
    check_tp(model, deployment.tp)
    engine, adds = engine_of(deployment, device), overheads_of(deployment, device)
    return Steps(
        as_served(model, engine), device, deployment, engine, calibration_for(device, calibration), adds
    )


def memory_of_steps(steps: Steps, load: Workload) -> Memory:
    """Return the memory of a deployment under requests of a workload's lengths."""
    return memory_of(steps.model, steps.device, steps.deployment, load, steps.engine)


def check_scalar(deployment: Deployment) -> None:
    """Raise SpecError for arrays: steps of one deployment at a time are simulated."""
    for name in ("tp", "pp", "ep", "dp", "cp"):
        value = getattr(deployment, name)
        if np.ndim(value):
            raise SpecError(f"{name}: an array is not allowed here; allowed is one whole number")
