"""Memory of models whose layers keep several kinds of cache, in whole deployments."""

import pytest

import calc
from calc.work.memory import cache_bytes_per_sequence


def memory(name, tp=1, **load):
    load = calc.Workload(**({"concurrency": 1} | load))
    return calc.estimate(name, "b200-sxm", calc.Deployment(tp=tp), load).memory


def test_deepseek_v4_flash_holds_as_many_requests_of_a_million_tokens_as_vllm_logged():
    """20.43 at TP8 on 8 B200 (vllm-project/recipes issue 762): 6,880 bytes a token, not a page each."""
    found = memory("deepseek-v4-flash", tp=8, prompt_tokens=2**20 - 256, output_tokens=256)
    assert found.max_concurrency == pytest.approx(20.43, rel=0.02)


@pytest.mark.parametrize("name", ["deepseek-v4-flash", "whisper-large-v3"])
def test_several_caches_in_a_layer_are_charged_as_they_are(name):
    model = calc.load_model(name)
    found = memory(name, prompt_tokens=1024, output_tokens=256)
    assert found.request_cache_bytes_per_device == cache_bytes_per_sequence(model, 1280, 2)


def test_a_request_to_whisper_keeps_all_positions_of_its_encoder():
    """1500 positions of 163,840 bytes, whatever is spoken or written."""
    short, long = (memory("whisper-large-v3", prompt_tokens=16, output_tokens=n) for n in (16, 416))
    kept = short.request_cache_bytes_per_device
    assert kept == (1500 + 32) * 163_840
    assert long.request_cache_bytes_per_device == kept + 400 * 163_840


def test_a_request_to_t5_keeps_prompt_and_output_once():
    assert (
        memory("t5-large", prompt_tokens=1024, output_tokens=256).request_cache_bytes_per_device
        == 1280 * 98_304
    )
