"""Time of one exchange between devices: which kernels an engine uses, which links it goes over."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from calc.specs.device import Device
from calc.specs.numeric import maximum, where
from calc.timing.calibration import Calibration, OpFit, calibration_for
from calc.timing.collectives import (
    hop_bytes_per_s,
    is_all_to_all,
    link_bytes_per_s,
    near_devices,
    ring_time_s,
    tiers,
)
from calc.timing.forms import Ceilings, Parts
from calc.work.expert_load import expert_ranks
from calc.work.op import Op

#: payload up to which engines use their own all-reduce (the buffer of vLLM's custom all-reduce) [byte]
CUSTOM_ALLREDUCE_BYTES = 8 * 2**20
#: engine -> format of the calibration of its own all-reduce; vLLM's where none is named
CUSTOM_ALLREDUCE = {"tensorrt-llm": "trtllm"}


class Exchange(NamedTuple):
    """Parts of one call, the fit they come from, and whether a size lies beyond its range."""

    parts: Parts
    fit: OpFit
    outside: object


def exchange_link_bytes_per_s(op: Op, device: Device):
    """Bandwidth that the topology offers one device for an exchange, one direction. [byte/s]"""
    if op.kind == "p2p":
        return hop_bytes_per_s(device, op.shape["stages"], op.shape["stride"])
    stride = op.shape.get("stride", 1)
    return link_bytes_per_s(device, op.shape["world"], is_all_to_all(op.kind), stride)


def exchange_work(op: Op, device: Device) -> tuple[dict, Ceilings]:
    """Return what a form of an exchange is given: sizes and payload of one call, and the link."""
    stride = op.shape.get("stride", 1)
    work = {**op.shape, **tiers(device, op.shape["world"], stride), "comm_bytes": op.comm_bytes}
    return work, Ceilings(exchange_link_bytes_per_s(op, device), device.bandwidth_bytes_per_s, 1)


def least_exchange_s(op: Op, device: Device):
    """Time that the links alone allow an exchange: a ring at their full bandwidth. [s]"""
    link = exchange_link_bytes_per_s(op, device)
    return ring_time_s(op.comm_bytes, op.shape["world"], link, 0.0, 1.0, op.shape["rounds"])


def exchange(op: Op, device: Device, calibration: Calibration, engine: str = "") -> Exchange:
    """Return the time of one call of an exchange.

    Inside an engine (``engine`` is its id) an all-reduce takes the faster of two kernels, the
    collective library's and the engine's own, where both are measured. Calibrations are of one
    node or link domain: beyond it what is known of the device's topology stands in.
    """
    inside = _fitted(op, device, calibration)
    if engine and op.kind == "allreduce":
        inside = _faster(inside, op, device, calibration, engine)
    if op.kind == "p2p":
        return inside
    beyond = op.shape["world"] * op.shape.get("stride", 1) > near_devices(device)
    if not np.any(beyond):
        return inside
    outside = _fitted(_merged_by_node(op, device), device, calibration, _network_fit(op, device))
    if np.all(beyond):
        return outside
    return replace_parts(inside, beyond, outside)._replace(outside=inside.outside | beyond)


def replace_parts(one: Exchange, condition, other: Exchange) -> Exchange:
    """Return an exchange with the parts of another where a condition holds."""
    parts = (where(condition, b, a) for a, b in zip(one.parts, other.parts, strict=True))
    return one._replace(parts=Parts(*parts))


def _fitted(op: Op, device: Device, calibration: Calibration, fit: OpFit | None = None) -> Exchange:
    fit = fit or calibration.fit(op.kind, op.format)
    work, ceilings = exchange_work(op, device)
    parts = fit.form.parts(work, ceilings, fit.parameters)
    return Exchange(parts, fit, fit.is_outside(work))


def _faster(inside: Exchange, op: Op, device: Device, calibration: Calibration, engine: str) -> Exchange:
    """Return the faster of both all-reduces, within one link domain and the custom one's buffer."""
    own_format = CUSTOM_ALLREDUCE.get(engine, "vllm-custom-graph")
    own_fit = calibration.fit("custom_allreduce", own_format)
    if "datasheet" in (own_fit.trust, inside.fit.trust) or not np.any(
        op.shape["world"] <= device.link.domain
    ):
        return inside
    own = _fitted(op, device, calibration, own_fit)
    usable = (op.shape["world"] <= device.link.domain) & (op.comm_bytes <= CUSTOM_ALLREDUCE_BYTES)
    quicker = usable & (own.parts.seconds <= inside.parts.seconds)
    mixed = replace_parts(inside, quicker, own)
    return mixed._replace(fit=own.fit) if np.all(quicker) else mixed


def _merged_by_node(op: Op, device: Device) -> Op:
    """Return a dispatch whose rows for several devices of a node cross the network as one.

    References
    ----------
    .. [1] DeepEP README: normal kernels send a token once to each node and forward it inside.
    """
    top_k = op.shape.get("top_k")
    if top_k is None:
        return op
    world = op.shape["world"]
    nodes = maximum(1.0, world / near_devices(device))
    share = expert_ranks(top_k, nodes) / expert_ranks(top_k, world)
    return replace(op, comm_bytes=op.comm_bytes * share)


def _network_fit(op: Op, device: Device) -> OpFit:
    """Return the fit of the device's topology, which knows of several nodes: nothing was measured there."""
    return calibration_for(device, "datasheet").fit(op.kind, op.format)
