"""Engines: what they keep to of a model, by version."""

import pytest

import calc
from calc.specs.engine import as_served, load_engine
from calc.work.op import Sequences

LONG = calc.Workload(prompt_tokens=20_000, output_tokens=2_000, mode="max_load")


def bytes_of_a_request(model, version):
    deployment = calc.Deployment(engine="tensorrt-llm", engine_version=version, weight_dtype="fp16")
    return calc.memory(model, "a100-sxm-80gb", deployment, LONG).tightest.request_bytes


def test_an_engine_that_ignores_windows_keeps_all_tokens():
    """Mistral and Llama-3.1-8B: 32 layers of 8 heads, 128 wide, as keys and values of 2 bytes."""
    every_token = 22_000 * 32 * 2 * 8 * 128 * 2
    assert bytes_of_a_request("mistral-7b-v0.1", "0.17") == pytest.approx(every_token, rel=0.01)
    assert bytes_of_a_request("mistral-7b-v0.1", "0.17") == bytes_of_a_request("llama-3.1-8b", "0.17")
    assert bytes_of_a_request("mistral-7b-v0.1", "1.0") < 0.3 * every_token


def test_a_model_without_windows_is_served_as_it_is():
    llama = calc.load_model("llama-3.1-8b")
    assert as_served(llama, load_engine("tensorrt-llm", "0.17")) is llama


def test_every_answer_for_an_engine_that_ignores_windows_reads_every_token():
    """Mistral is then Llama-3.1-8B with a smaller vocabulary: 0.8 GB less, of 131,072 bytes a token."""
    deployment = calc.Deployment(engine="tensorrt-llm", engine_version="0.17")
    load = calc.Workload(prompt_tokens=20_000, output_tokens=2_000, concurrency=8)
    names = ("mistral-7b-v0.1", "llama-3.1-8b")
    e = [calc.estimate(name, "h100-sxm", deployment, load) for name in names]
    assert e[0].tpot_s == pytest.approx(e[1].tpot_s, rel=0.1)
    decodes = Sequences("decode", 64, 1, 20_000)
    steps = [calc.steps_of(name, "h100-sxm", deployment).time(decodes).seconds for name in names]
    assert steps[0] == pytest.approx(steps[1], rel=0.1)
    most = [calc.solve(name, "h100-sxm", deployment, load, for_="concurrency").value for name in names]
    assert most[1] <= most[0] <= 1.2 * most[1]  # buffers of the decoder grow with the vocabulary


def test_ways_to_fit_are_those_of_the_memory_that_does_not_fit():
    deployment = calc.Deployment(engine="tensorrt-llm", engine_version="0.17")
    load = calc.Workload(prompt_tokens=20_000, output_tokens=2_000, concurrency=40, mode="static")
    scenario = "mistral-7b-v0.1", "h100-sxm", deployment, load
    assert not calc.memory(*scenario).fits
    assert (
        [way.label for way in calc.ways_to_fit(*scenario)]
        == [way.label for way in calc.estimate(*scenario).ways_to_fit()]
        != []
    )


def test_buffers_of_the_decoder_grow_with_the_sequences_an_engine_is_built_for():
    """Logits and workspaces of 28 bytes for each sequence and each of 128,256 tokens."""

    def pool(sequences):
        deployment = calc.Deployment(
            engine="tensorrt-llm", engine_version="0.14", tp=8, max_sequences=sequences
        )
        return calc.memory("llama-3.1-70b", "h100-sxm", deployment, LONG).tightest.cache_pool_bytes

    assert pool(1024) - pool(2048) == pytest.approx(0.9 * 28 * 1024 * 128_256, rel=0.01)
