"""One scenario through all layers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import calc
from calc.timing.calibration import Z80


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
        ({"pp": 33}, "pp: 33 is more than the 32 layers"),
        ({"ep": 3, "dp": 4}, "ep: 3 does not divide tp * dp (4)"),
        ({"cp": 2, "tp": 2}, "cp: 2 is more than the ranks that hold the same KV head"),
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


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("llama-3.1-70b", {"tp": 2, "pp": 2}),
        ("deepseek-v3", {"tp": 1, "dp": 8, "ep": 8}),
        ("deepseek-v3", {"tp": 8, "cp": 8}),
        ("mixtral-8x7b", {"tp": 2, "pp": 2, "dp": 2, "ep": 4}),
    ],
)
@pytest.mark.parametrize(
    "load", [{"concurrency": 64}, {"concurrency": 8, "mode": "static"}, {"mode": "max_load"}]
)
def test_every_parallelism_is_answered_with_rows_that_sum(model, place, load):
    e = calc.estimate(model, "h200-sxm", calc.Deployment(**place), calc.Workload(**load))
    for metric in ("ttft_s", "tpot_s"):
        value = getattr(e, metric)
        assert sum(seconds for _, seconds, _ in e.breakdown(metric)) == pytest.approx(value, rel=1e-12)
        low, high = e.range(metric)
        assert low <= value <= high
        assert e.roofline(metric)
    assert e.requests_per_s * e.e2e_latency_s == pytest.approx(e.service.concurrency + e.service.queued)
    assert json.loads(json.dumps(e.to_dict()))["scenario"]["dp"] == e.deployment.dp


def test_skewed_experts_take_longer_where_ranks_share_them_out():
    deployment = calc.Deployment(dp=8, ep=8)
    even, skewed = (
        calc.estimate("deepseek-v3", "h200-sxm", deployment, calc.Workload(concurrency=512, expert_skew=skew))
        for skew in (0.0, 1.0)
    )
    assert skewed.tpot_s > even.tpot_s


def test_a_range_is_that_of_measured_runs_where_an_engine_has_them():
    e = calc.estimate("llama-3.1-70b", "h100-sxm", calc.Deployment(tp=4))
    for metric, error in (("tpot_s", "tpot_s"), ("ttft_s", "ttft_s"), ("e2e_latency_s", "tpot_s")):
        measured, value = e.overheads.errors[error], getattr(e, metric)
        assert e.run_error(metric) is measured
        assert e.range(metric) == pytest.approx((value * measured.low, value * measured.high))
    slow, fast = e.range("requests_per_s")
    rate, error = e.requests_per_s, e.overheads.errors["tpot_s"]
    assert (slow, fast) == pytest.approx((rate / error.high, rate / error.low))


def test_a_range_is_wider_where_kernels_are_not_calibrated():
    measured = calc.estimate("llama-3.1-8b", "h100-sxm")
    guessed = calc.estimate("llama-3.1-8b", "h100-sxm", calibration="datasheet")
    assert guessed.trust("tpot_s") == "datasheet"
    near, far = ((high / low) for low, high in (e.range("tpot_s") for e in (measured, guessed)))
    assert far > near


def test_a_range_is_no_wider_for_kernels_that_the_runs_knew_as_badly():
    """Gaudi's runs were answered with datasheet kernels: their errors hold those already."""
    e = calc.estimate("llama-3.1-8b", "gaudi3", calc.Deployment(engine="optimum-habana", weight_dtype="fp8"))
    assert e.trust("tpot_s") == e.run_error("tpot_s").trust == "datasheet"
    assert e.widening("tpot_s") == 1.0


def test_a_range_comes_from_kernels_where_no_run_was_measured():
    e = calc.estimate("llama-3.1-8b", "h100-sxm", calc.Deployment(engine="transformers"))
    assert e.run_error("tpot_s") is None
    spread = np.exp(Z80 * e.service.tpot.sigma)
    assert e.range("tpot_s") == pytest.approx((e.tpot_s / spread, e.tpot_s * spread))


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
