"""Single changes that make a scenario fit."""

import pytest

import calc


def ways(model="llama-3.1-70b", device="h100-sxm", load=None, **deployment):
    return calc.ways_to_fit(model, device, calc.Deployment(**deployment), load)


def test_every_way_really_fits_and_changes_one_thing():
    for way in ways():
        m = calc.memory("llama-3.1-70b", way.device, way.deployment, way.workload)
        assert m.fits, way.label
        changed = [
            name
            for name in ("tp", "pp", "weight_dtype", "kv_dtype", "memory_utilization")
            if getattr(way.deployment, name) != getattr(calc.Deployment(), name)
        ]
        changed += ["device"] * (way.device.id != "h100-sxm")
        changed += ["load"] * (way.workload.prompt_tokens != 1024)
        assert len(changed) == 1, (way.label, changed)


def test_settings_come_before_formats_before_devices_before_a_smaller_workload():
    order = ["setting", "weights", "parallelism", "device", "workload"]
    load = calc.Workload(prompt_tokens=40_000)
    kinds = [way.kind for way in ways("llama-3.1-8b", "l4", load)]
    assert kinds == sorted(kinds, key=order.index)
    assert {"setting", "parallelism", "device", "workload"} <= set(kinds)


def test_what_fits_has_no_ways():
    assert ways(tp=4) == []


def test_a_refusal_says_what_is_needed_what_is_there_and_what_would_fit():
    """141.1 GB of weights, 3.5 GB for the engine, 0.4 GB of cache; 85.0 GB reported by the device."""
    sentence = calc.estimate("llama-3.1-70b", "h100-sxm").fit_sentence()
    assert sentence.startswith("does not fit: needs 145.0 GB per device, h100-sxm reports 85 GB")
    assert sentence.endswith("fits with weights nvfp4, or tp=2, or b200-sxm")


def test_arrays_are_refused():
    import numpy as np

    with pytest.raises(calc.SpecError, match="one scenario"):
        ways(tp=np.array([1, 2]))
