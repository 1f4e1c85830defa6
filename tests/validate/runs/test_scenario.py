"""Rows of measured runs in the calculator's terms."""

import pytest

import calc
from validate.runs.scenario import figure, interval, scenario_of


def test_a_row_says_its_deployment_and_load(run):
    s = scenario_of(run())
    assert (s.model.id, s.device.id, s.deployment.tp) == ("llama-3.1-70b", "h100-sxm", 4)
    assert (s.workload.mode, s.workload.concurrency, s.workload.equal_lengths) == ("closed_loop", 16, True)


def test_devices_must_be_the_product_of_the_ranks(run):
    with pytest.raises(calc.SpecError, match=r"n_devices: 8 is not tp \* pp \* dp"):
        scenario_of(run(n_devices=8))


def test_devices_that_were_counted_twice_are_counted_once(run):
    """InferenceX runs 8 devices with tp 8 and ep 8; its dump multiplies both to 64."""
    where = {"group": "inferencex", "model": "deepseek-ai/DeepSeek-R1", "device": "b200-sxm"}
    twice = run(n_devices=64, tp=64, ep=8, notes="measured; moe_tp=8 moe_ep=8; x", **where)
    assert (scenario_of(twice).deployment.tp, scenario_of(twice).deployment.ep) == (8, 8)
    ranks = run(n_devices=16, tp=1, dp=16, ep=4, notes="moe_tp=4 moe_ep=4", **where)
    assert (scenario_of(ranks).deployment.dp, scenario_of(ranks).deployment.n_devices) == (4, 4)


def test_what_is_counted_once_stays(run):
    plain = run(n_devices=8, tp=8, ep=8, notes="moe_tp=1 moe_ep=8", model="deepseek-ai/DeepSeek-R1",
                device="h200-sxm")  # fmt: skip
    assert scenario_of(plain).deployment.tp == 8


def test_inferencex_draws_lengths_from_80_to_100_percent(run):
    load = scenario_of(run(group="inferencex", prompt_tokens=1024, output_tokens=8192)).workload
    assert (load.prompt_tokens, load.output_tokens, load.equal_lengths) == (922, 7373, False)
    load = scenario_of(run(group="inferencex", prompt_tokens=2048, output_tokens=256)).workload
    assert (load.prompt_tokens, load.equal_lengths) == (2048, True)


def test_fp8_checkpoints_of_tensorrt_llm_keep_an_fp8_cache(run):
    assert scenario_of(run(engine="tensorrt-llm", engine_version="")).deployment.kv_dtype == "fp8"
    assert scenario_of(run()).deployment.kv_dtype is None


def test_a_limit_turns_maximum_load_into_so_many_requests(run):
    assert scenario_of(run(mode="max_load", concurrency=64)).workload.mode == "closed_loop"
    free = run(mode="max_load", concurrency="", notes="kv frac ~0.95 of free", metric="output_tokens_per_s")
    assert scenario_of(free).workload.mode == "max_load"
    assert scenario_of(free).deployment.memory_utilization == 0.95


def test_figures_follow_from_the_times(run):
    static = {"mode": "static", "concurrency": 4, "prompt_tokens": 128, "output_tokens": 64}
    e = scenario_of(run(**static)).estimate()
    names = ("decode_tokens_per_s", "prefill_tokens_per_s", "e2e_latency_s", "output_tokens_per_s")
    of = {name: figure(e, run(metric=name, **static)) for name in names}
    assert of["decode_tokens_per_s"] == pytest.approx(1 / e.tpot_s)
    assert of["prefill_tokens_per_s"] == pytest.approx(128 / e.ttft_s)
    assert of["output_tokens_per_s"] == pytest.approx(4 * 64 / of["e2e_latency_s"])


@pytest.mark.parametrize("metric", ["tpot_s", "ttft_s", "e2e_latency_s", "output_tokens_per_s",
                                    "decode_tokens_per_s", "prefill_tokens_per_s"])  # fmt: skip
def test_the_interval_holds_the_figure(run, metric):
    each = run(metric=metric)
    e = scenario_of(each).estimate()
    low, high = interval(e, each)
    assert low < figure(e, each) < high
