"""Which deployment: the smallest tensor parallelism that fits and meets the SLO."""

from dataclasses import dataclass, replace

import numpy as np

from calc.estimate import SLO, Estimate, estimate
from calc.specs.deployment import Deployment
from calc.specs.device import Device, load_device
from calc.specs.model import Model
from calc.specs.model_files import load_model
from calc.specs.units import format_seconds
from calc.specs.workload import Workload
from calc.work.drafts import tp_choices_with_drafts

#: tensor-parallel sizes that are tried
TP_CHOICES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Plan:
    """The chosen deployment with its estimate, and why the smaller ones were not chosen.

    ``meets`` is False when none of the tried sizes fits and meets the SLO; ``estimate`` is
    then the closest one: the smallest that fits, else the largest.
    """

    estimate: Estimate
    slo: SLO
    meets: bool
    rejected: tuple[tuple[int, str], ...]

    @property
    def n_devices(self) -> int:
        """Devices of the chosen deployment."""
        return self.estimate.n_devices


def plan(model, device, deployment: Deployment | None = None, workload: Workload | None = None,
         slo: SLO | None = None, tp: int | None = None, **options) -> Plan:  # fmt: skip
    """Return the smallest tensor-parallel deployment that fits and meets the SLO.

    Parameters
    ----------
    model, device : Model, Device or str
    deployment : Deployment, optional
        Engine and formats; its ``tp`` is replaced.
    workload : Workload, optional
    slo : SLO, optional
        Limits on mean TTFT and TPOT; fitting is enough when not given.
    tp : int, optional
        Look at this size only.
    options
        Passed on to ``estimate`` (price, calibration).

    Examples
    --------
    >>> plan("llama-3.1-70b", "h100-sxm", workload=Workload(concurrency=64), slo=SLO(ttft_s=2)).n_devices
    4
    """
    model, device = load_model(model), load_device(device)
    deployment, workload, slo = deployment or Deployment(), workload or Workload(), slo or SLO()
    sizes = (tp,) if tp else _sizes(model, device, deployment)
    tried = []
    for size in sizes:
        e = estimate(model, device, replace(deployment, tp=size), workload, **options)
        reason = _reason(e, slo)
        if reason is None:
            return Plan(e, slo, True, tuple((t.n_devices, why) for t, why in tried))
        tried.append((e, reason))
    best = next((e for e, _ in tried if e.fits), tried[-1][0])
    return Plan(best, slo, False, tuple((e.n_devices, why) for e, why in tried))


def _sizes(model: Model, device: Device, d: Deployment) -> tuple[int, ...]:
    """Sizes that divide the heads, up to the link's domain (at least a node of 8 is tried).

    Of these, sizes whose ranks can be shared out as the deployment's ep and cp say.
    """
    most = max(device.link.domain, device.devices_per_node)
    sizes = [size for size in tp_choices_with_drafts(model, d, TP_CHOICES) if size <= most]
    return tuple(size for size in sizes if size * d.dp % d.ep == 0 and size % d.cp == 0) or (1,)


def _reason(e: Estimate, slo: SLO) -> str | None:
    """Why a scenario is not good enough, or None."""
    if not e.fits:
        return e.fit_sentence()
    for name, value, limit in (("TTFT", e.ttft_s, slo.ttft_s), ("TPOT", e.tpot_s, slo.tpot_s)):
        if limit is not None and not np.all(value <= limit):
            return f"{name} {format_seconds(value)} is over {format_seconds(limit)}"
    return None
