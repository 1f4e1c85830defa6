"""One scenario through all layers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calc


def test_the_interface_of_the_readme_holds():
    model, device = calc.load_model("llama-3.1-70b"), calc.load_device("h100-sxm")
    load = calc.Workload(prompt_tokens=1024, output_tokens=256, concurrency=64)
    deploy = calc.Deployment(engine="vllm", tp=4, pp=1, ep=1, dp=1, weight_dtype="fp8", kv_dtype="fp8")
    e = calc.estimate(model, device, deploy, load)
    assert e.fits is True
    assert e.memory.weights_bytes > 70e9
    assert e.memory.cache_bytes == 64 * 1280 * 327_680 / 2
    assert e.memory.cache_tokens > 64 * 1280
    assert e.memory.max_concurrency > 64
    assert e.memory.shortfall_bytes == 0
    assert e.bound in ("memory bandwidth", "compute", "interconnect", "overhead")
    low, high = e.range("tpot_s")
    assert low < e.tpot_s < high
    assert e.trust("tpot_s") == "calibrated"
    assert calc.estimate(model, "mi300x", deploy, load).trust("tpot_s") == "datasheet"
    assert e.cost.usd_per_mtok_output == pytest.approx(
        e.cost.usd_per_hour / 3600 / e.output_tokens_per_s * 1e6
    )
    assert calc.Estimate.schema_version == 1


@pytest.mark.parametrize("metric", ["ttft_s", "tpot_s"])
@pytest.mark.parametrize(
    "load", [{"concurrency": 64}, {"concurrency": 8, "mode": "static"}, {"mode": "max_load"}]
)
def test_a_breakdown_sums_to_its_value_and_names_bounds(metric, load):
    e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4), calc.Workload(**load))
    rows = e.breakdown(metric)
    assert sum(seconds for _, seconds, _ in rows) == pytest.approx(getattr(e, metric), rel=1e-12)
    assert {bound for *_, bound in rows} <= {"memory bandwidth", "compute", "interconnect", "overhead"}


def test_what_does_not_fit_is_a_value_with_its_shortfall_in_words():
    e = calc.estimate("llama-3.1-70b", "h100-sxm")
    assert e.fits is False
    assert e.memory.shortfall_bytes > 0
    assert "short)" in e.fit_sentence()


@settings(deadline=None, max_examples=60)
@given(
    model=st.sampled_from(calc.model_ids()),
    device=st.sampled_from(calc.device_ids()),
    tp=st.sampled_from([1, 2, 4, 8]),
    users=st.integers(1, 2000),
    prompt=st.integers(1, 100_000),
    output=st.integers(1, 4000),
    dtype=st.sampled_from([None, *calc.WEIGHT_FORMATS]),
    kv=st.sampled_from([None, *calc.KV_BYTES]),
    engine=st.sampled_from(calc.engine_ids()),
    mode=st.sampled_from(["static", "closed_loop", "max_load"]),
)
def test_any_scenario_is_answered_or_refused_in_one_line(
    model, device, tp, users, prompt, output, dtype, kv, engine, mode
):
    try:
        e = calc.estimate(
            model,
            device,
            calc.Deployment(tp=tp, weight_dtype=dtype, kv_dtype=kv, engine=engine),
            calc.Workload(
                prompt_tokens=prompt,
                output_tokens=output,
                concurrency=None if mode == "max_load" else users,
                mode=mode,
            ),
        )
    except calc.SpecError as error:
        if "\n" in str(error):
            pytest.fail(str(error))
        return
    record = json.loads(json.dumps(e.to_dict(), allow_nan=False))
    numbers = [record[name] for name in ("ttft_s", "tpot_s", "e2e_latency_s", "output_tokens_per_s")]
    assert all(np.isfinite(number) and number > 0 for number in numbers)
    assert record["schema_version"] == 1
    assert record["fits"] == (record["memory"]["shortfall_bytes"] == 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tp": 0}, "tp: 0 is not allowed; allowed are whole numbers from 1"),
        ({"tp": 2.5}, "tp: 2.5 is not allowed"),
        ({"tp": "x"}, "tp: 'x' is not a number"),
        ({"tp": float("nan")}, "tp: nan is not allowed"),
        ({"pp": 2}, "pp: 2: times are not answered yet"),
        ({"weight_dtype": "fp7"}, "unknown weight_dtype 'fp7'"),
        ({"kv_dtype": "nvfp4"}, "unknown kv_dtype 'nvfp4'"),
        ({"memory_utilization": 1.5}, "memory_utilization: 1.5 is not allowed"),
        ({"engine": "vlm"}, "unknown engine 'vlm': did you mean 'vllm'"),
    ],
)
def test_a_wrong_deployment_names_the_thing_the_value_and_what_is_allowed(change, message):
    with pytest.raises(calc.SpecError) as error:
        calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(**change))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens: 0 is not allowed"),
        ({"output_tokens": -1}, "output_tokens: -1 is not allowed"),
        ({"concurrency": 1.5}, "concurrency: 1.5 is not allowed"),
        ({"requests_per_s": -5.0}, "requests_per_s: -5.0 is not allowed"),
        ({"mode": "open"}, "mode: 'open' is not known"),
        ({"mode": "max_load", "concurrency": 4}, "concurrency: 4 contradicts mode 'max_load'"),
    ],
)
def test_a_wrong_workload_names_the_thing_the_value_and_what_is_allowed(change, message):
    with pytest.raises(calc.SpecError) as error:
        calc.Workload(**change)
    assert message in str(error.value)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    e = calc.estimate("llama-3.1-8b", "h100-sxm")
    with pytest.raises(calc.SpecError, match="metric: 'speed' is not known; allowed are ttft_s"):
        e.range("speed")


def test_public_names_survive_importing_their_modules_in_any_order():
    import importlib
    import subprocess
    import sys

    code = (
        "import calc.planning.search, calc.estimate, calc.explain, calc;"
        "assert callable(calc.estimate) and callable(calc.explain)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    for name in calc.__all__:
        assert getattr(calc, name) is not None
    assert importlib.import_module("calc").estimate is calc.estimate
