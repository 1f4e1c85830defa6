"""Explanations of memory: budgets of each engine, pages and layer groups, bits of weights."""

from dataclasses import replace

import pytest

import calc
from calc.cli import main
from calc.work.memory import precision_of


def formulas(e, metric):
    return {equation.symbol: equation.formula.split(" = ", 1)[1] for equation in e.explain(metric).equations}


def numbers(e, metric):
    return {equation.symbol: equation.substituted.split(" = ")[1] for equation in e.explain(metric).equations}


def values(e, metric):
    return {term.symbol: term.value for term in e.explain(metric).terms}


def estimate(model="llama-3.1-8b", device="h100-sxm", load=None, **deployment):
    return calc.estimate(model, device, calc.Deployment(**deployment), calc.Workload(**(load or {})))


def test_a_pool_of_pages_is_explained_as_vllm_counts_it():
    found = formulas(estimate(), "max_concurrency")
    assert found["N_most"] == "max(0, k_pool * M_page) / C_request"
    assert found["k_pool"] == "floor(M_pool / M_page)"
    assert found["M_page"] == "L * B_block * c"
    assert found["k_request"] == "ceil(T / B_block)"
    assert found["M_pool"] == "max(0, M_usable - (M_weights + M_activation + M_other))"
    assert formulas(estimate(), "cache_tokens")["T_pool"] == "floor(k_pool / g) * B_block"


def test_groups_of_layers_are_explained_with_their_padding():
    """Gemma-3-27B: 52 layers with a window in six groups of ten, ten without in one."""
    e = estimate("gemma-3-27b", load={"concurrency": 4, "prompt_tokens": 20_000})
    found, known = formulas(e, "cache_bytes"), values(e, "cache_bytes")
    assert found["L_group"] == "min(L_1, L_2)"
    assert (known["L_group"], known["g_1"], known["g_2"]) == (10, 6, 1)
    assert found["k_request"] == "g_1 * k_1 + g_2 * k_2"
    assert known["k_1"] == -(-(1024 - 1 + 8192) // 16) + 1
    assert known["k_2"] == -(-20_256 // 16)
    sliding = next(part for part in e.explain("cache_bytes").parts if "window 1024" in part.name)
    assert sliding.details == {"layers": 52, "charged_layers": 60}


def test_what_is_reserved_is_told_from_what_is_used():
    e = estimate("gemma-3-27b", load={"concurrency": 4, "prompt_tokens": 20_000})
    note = next(note for note in e.explain("cache_bytes").notes if "reserves" in note)
    assert e.memory.cache_used_bytes < e.memory.cache_bytes
    assert f"fill {e.memory.cache_used_bytes / 1e9:.3g} GB of it" in note
    assert "room for the tokens of one step beside each window" in note
    assert "groups of layers padded to one size" in note
    plain = estimate("gemma-3-27b", engine="sglang", load={"concurrency": 4, "prompt_tokens": 20_000})
    assert "the tokens fill all of it." in " ".join(plain.explain("cache_bytes").notes)


def test_a_page_is_enlarged_until_it_holds_a_state():
    e = estimate("qwen3-next-80b-a3b", tp=4)
    assert formulas(e, "cache_tokens")["B_page"] == "max(B_block, ceil(s_1 / c_2 / B_block) * B_block)"
    assert values(e, "cache_tokens")["B_page"] == e.memory.tightest.block_tokens


def test_a_model_of_states_alone_takes_one_page_a_request():
    e = estimate("mamba2-2.7b", load={"concurrency": 4})
    assert formulas(e, "max_concurrency")["C_request"] == "L * s"
    assert e.explain("cache_bytes").value == e.memory.cache_bytes


def test_cache_without_layer_groups_is_explained_by_request():
    found = formulas(estimate(engine="sglang"), "max_concurrency")
    assert found["N_most"] == "max(0, M_pool) / C_request"
    assert "k_pool" not in found
    found = formulas(estimate(engine="tensorrt-llm"), "cache_tokens")
    assert found["T_pool"] == "floor(M_pool / C_request * T_request)"


BUDGETS = [
    ("vllm", None, {}, "M_device * u", 0.9),
    ("vllm", "0.11.0", {}, "M_device * u", 0.9),
    ("sglang", None, {}, "M_device * u", 0.88),
    ("tensorrt-llm", None, {}, "M_device - (1 - u) * max(0, M_device - M_fixed)", 0.9),
    ("llama.cpp", None, {}, "M_device * u", 1),
    ("transformers", None, {}, "M_device * u", 1),
    ("vllm", None, {"mode": "static", "concurrency": 4}, "M_device * u", 1),
    ("tensorrt-llm", None, {"mode": "static", "concurrency": 4}, "M_device * u", 1),
]


@pytest.mark.parametrize(("engine", "version", "load", "formula", "share"), BUDGETS)
def test_every_kind_of_budget_is_explained(engine, version, load, formula, share):
    e = estimate(engine=engine, engine_version=version, load=load)
    assert formulas(e, "memory")["M_usable"] == formula
    known = values(e, "memory")
    assert (known["u"], known["M_usable"]) == (share, e.memory.usable_bytes_per_device)
    assert known["M_activation"] == pytest.approx(e.memory.activation_bytes_per_device, rel=1e-12)
    assert values(e, "max_concurrency")["M_pool"] == pytest.approx(e.memory.cache_pool_bytes, rel=1e-12)


def test_a_share_of_your_own_is_given_and_a_static_batch_says_why_it_has_all():
    own = estimate(memory_utilization=0.7).explain("memory")
    assert next(term for term in own.terms if term.symbol == "u").kind == "given"
    static = estimate(load={"mode": "static", "concurrency": 4}).explain("memory")
    assert "static batch" in next(term for term in static.terms if term.symbol == "u").note


def test_the_activation_peak_is_that_of_the_engines_version():
    assert (
        formulas(estimate(engine_version="0.11.0"), "memory")["M_activation"] == "a_0 + a_logit * n_max * V"
    )
    newest = "a_0 + a_logit * n_max * V + 2 * a_copies * B * d_model"
    assert formulas(estimate(), "memory")["M_activation"] == newest
    assert formulas(estimate(engine="llama.cpp"), "memory")["M_activation"] == "a_0"


def test_experts_and_a_tower_add_to_the_activation_peak():
    found = formulas(estimate("qwen3-30b-a3b", tp=2), "memory")
    assert found["w"] == "d_model + w_experts"
    assert found["w_experts"] == "top_k * (max(d_model, 2 * d_expert / tp) + d_expert / tp)"
    assert "w" not in formulas(estimate("gpt-oss-20b"), "memory"), "4-bit experts bring their own buffers"
    assert formulas(estimate("gemma-3-27b"), "memory")["M_activation"] == "M_peak + a_vision"


def test_adapters_are_part_of_what_a_device_holds():
    e = estimate(lora_slots=4, lora_rank=32)
    assert formulas(e, "memory")["M_lora"] == "2 * n_lora * p_lora"
    assert {part.name: part.value for part in e.explain("memory").parts}["adapters"] == e.memory.adapter_bytes
    assert "M_lora" not in formulas(estimate(), "memory")


WEIGHTS = [
    ("llama-3.1-8b", {}), ("llama-3.1-8b", {"weight_dtype": "int4"}),
    ("llama-3.1-8b", {"weight_dtype": "q4_k_m"}), ("deepseek-v3", {"tp": 8}), ("gpt-oss-120b", {}),
    ("gemma-3-27b", {"tp": 2}), ("llama-4-scout", {"tp": 4}),
    ("mixtral-8x7b", {"tp": 4, "weight_dtype": "nvfp4"}), ("qwen3-235b-a22b-fp8", {"tp": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "deployment"), WEIGHTS)
def test_weights_are_parameters_times_bits_in_every_class(model, deployment):
    e = estimate(model, **deployment)
    bits = precision_of(e.model, e.deployment).bits
    for part in e.explain("weights_bytes").parts:
        assert part.details["bits"] == pytest.approx(bits[part.name], rel=0.01), part.name
        assert part.value == pytest.approx(part.details["parameters"] * part.details["bits"] / 8, rel=1e-12)
    found = numbers(e, "weights_bytes")
    assert all(" bit / 8" in found[f"M_{part.name}"] for part in e.explain("weights_bytes").parts)


def test_a_formula_that_rounds_shows_the_digits_that_decide():
    """A pool in six digits may be a page too small: floor would lose it."""
    shown = numbers(estimate(), "max_concurrency")["k_pool"]
    pool, page = (
        float(text.split()[0]) for text in shown.removeprefix("floor(").removesuffix(")").split(" / ")
    )
    assert int(pool * 1e9 / (page * 1e6)) == values(estimate(), "max_concurrency")["k_pool"]
    assert len(str(pool)) > 8


def test_a_model_without_cache_has_no_pool_to_explain():
    model = calc.load_model("llama-3.1-8b")
    e = estimate(replace(model, layers=tuple(replace(layer, attention=None) for layer in model.layers)))
    assert e.explain("cache_bytes").value == 0
    with pytest.raises(calc.SpecError, match="it keeps no cache"):
        e.explain("max_concurrency")


@pytest.mark.parametrize("metric", ["memory", "max_concurrency", "cache_tokens", "memory.cache_tokens"])
def test_the_command_line_explains_memory(capsys, metric):
    code = main(["explain", metric, "--model", "gemma-3-27b", "--device", "h100-sxm", "--users", "4"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "M_weights = " in out
    assert "M_page" in out


def test_what_fewer_devices_would_lack_counts_drafts():
    """Qwen2.5-0.5B has 14 heads: 1 and 2 devices divide them."""
    drafts = calc.Speculation("draft", 3, 0.7, draft_model="qwen2.5-0.5b")
    notes = estimate("qwen2.5-3b", tp=2, speculation=drafts).explain("n_devices").notes
    assert [note.split(":")[0] for note in notes if note.startswith("tp ")] == ["tp 1"]
