"""Each probe's kernel against float64, in small sizes; wrong ones are found out. Needs torch."""

import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")

from validate.acceptance import DECODERS  # noqa: E402
from validate.machine import core_cache_bytes  # noqa: E402
from validate.probes import PROBES, kernels, scans  # noqa: E402
from validate.probes.base import Case, Plan  # noqa: E402
from validate.probes.bench import Bench, relative_error, rotated  # noqa: E402
from validate.worker import Worker, answer  # noqa: E402

#: a plan of short calls
SMALL = Plan(level=0, call_s=1e-2, case_bytes=2.1e8, tokens=256)


@pytest.fixture(scope="module")
def worker():
    return Worker("cpu", 1, 2.4e8)


def smallest(probe, dtype):
    plan = replace(SMALL, call_s=1.0) if probe.name in ("read", "copy", "triad") else SMALL
    cases = [case for case in probe.cases(plan) if case.dtype == dtype]
    return sorted(cases, key=lambda case: float(probe.op(case.sizes, dtype).bytes))


@pytest.mark.parametrize("name", PROBES)
def test_a_kernel_is_right_where_torch_has_it(worker, name):
    probe = PROBES[name]
    for dtype in probe.dtypes:
        cases = smallest(probe, dtype)
        for case in (cases[0], cases[len(cases) // 2], cases[-1]):
            found = answer(worker, {"do": "check", "case": vars(case)})
            if found.get("flag") == "unavailable":
                continue
            assert "flag" not in found, (case.key, found)
            assert 0 <= found["error"] <= found["limit"], (case.key, found)


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_agrees_with_float64(worker, name):
    for sizes in ({"batch": 1, "new": 32, "past": 0}, {"batch": 1, "new": 1, "past": 128}):
        found = answer(worker, {"do": "check", "case": vars(Case(name, "bf16", sizes))})
        assert found["error"] <= found["limit"], found
        assert found["error"] > 0  # it was compared


@pytest.mark.parametrize(
    ("name", "sizes", "function"),
    [
        ("gemm", {"m": 4, "n": 64, "k": 64}, "linear"),
        ("norm", {"rows": 3, "width": 64}, "norm_and_residual"),
        ("swiglu", {"rows": 3, "width": 64}, "swiglu"),
    ],
)
@pytest.mark.parametrize("harm", ["scaled", "nan", "unwritten"])
def test_a_wrong_kernel_is_found_out(worker, monkeypatch, name, sizes, function, harm):
    right = getattr(kernels, function)

    def wrong(*args):
        out = right(*args)
        whole = out[1] if isinstance(out, tuple) else out
        if harm == "scaled":
            whole.mul_(1.05)
        elif harm == "nan":
            whole.view(-1)[-2] = math.nan
        else:
            whole = torch.empty_like(whole).fill_(math.nan)
        return (out[0], whole) if isinstance(out, tuple) else whole

    monkeypatch.setattr(kernels, function, wrong)
    worker._ready.clear()
    found = answer(worker, {"do": "check", "case": vars(Case(name, "bf16", sizes))})
    worker._ready.clear()
    assert found["error"] > found["limit"]


def test_what_a_kernel_raises_is_an_answer(worker, monkeypatch):
    def no_memory(*args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    monkeypatch.setattr(kernels, "swiglu", no_memory)
    worker._ready.clear()
    found = answer(worker, {"do": "check", "case": vars(Case("swiglu", "bf16", {"rows": 2, "width": 64}))})
    worker._ready.clear()
    assert found["flag"] == "out-of-memory"
    assert "\n" not in found["note"]


def test_a_missing_dtype_says_why(worker, monkeypatch):
    monkeypatch.delattr(torch, "_scaled_mm")
    found = answer(worker, {"do": "check", "case": vars(Case("gemm", "fp8", {"m": 16, "n": 64, "k": 64}))})
    assert found == {"flag": "unavailable", "note": "this torch has no _scaled_mm"}


def test_a_visit_gives_a_time(worker):
    found = answer(
        worker,
        {"do": "visit", "case": vars(Case("swiglu", "bf16", {"rows": 2, "width": 64})), "block_s": 0.002},
    )
    assert 0 < found["seconds"] < 1
    assert found["calls"] >= 1


def test_cold_inputs_pass_all_of_the_pool():
    bench = Bench("cpu", 1 << 22)
    places = bench.cold(100, 100, dtype="fp32")
    starts = sorted({each.data_ptr() for each in places})
    assert len(starts) == len(places)
    assert starts[-1] - starts[0] > 0.9 * (1 << 22) - 40000
    with pytest.raises(MemoryError):
        bench.cold(1 << 22, dtype="fp32")


def test_what_is_read_between_short_calls_is_four_times_the_second_level_caches(monkeypatch):
    """Twice left some of the code in them, now and then: minima of equal cases differed threefold."""
    asked = []
    monkeypatch.setattr(Bench, "flusher", lambda self, flush_bytes: asked.append(flush_bytes))
    Worker("cpu", 1, 1e9)
    Worker("cpu", 1, 1e6)
    assert asked == [4 * core_cache_bytes(), 1e6]


def test_rows_of_the_embedding_are_cold_again_when_their_turn_comes():
    bench = Bench("cpu", 1 << 24)
    case = Case("embedding", "bf16", {"rows": 3, "width": 64})
    built = PROBES["embedding"].build(case, bench)
    tokens = {tuple(args[0].tolist()) for args in built.sets}
    assert len(tokens) == len(built.sets) == 256


def test_inputs_depend_on_the_key_alone():
    bench = Bench("cpu", 1 << 20)
    drawn = []
    for _ in range(2):
        bench.seed("a case")
        drawn.append(bench.random(5, dtype="fp32"))
    assert torch.equal(*drawn)
    assert rotated("x", [1, 2, 3], ["a"]) == [("x", 1, "a"), ("x", 2, "a"), ("x", 3, "a")]


def test_an_error_counts_nan_as_infinite():
    right = torch.ones(4, dtype=torch.float64)
    assert relative_error(torch.tensor([1.0, 1.0, 1.0, math.nan]), right) == math.inf
    assert relative_error(torch.ones(3), right) == math.inf
    assert relative_error(torch.full((4,), 1.1), right) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(("window", "tokens"), [(8, 32), (16, 16), (8, 8)])
def test_windowed_attention_is_masked_attention(window, tokens):
    q, k, v = (torch.randn(2, heads, tokens, 16, dtype=torch.float64) for heads in (4, 2, 2))
    cache = torch.full((2, 2, 2, tokens, 16), math.nan, dtype=torch.float64)
    got = kernels.prefill_attention(q, k, v, cache[0], cache[1], 0, window)
    i, j = torch.arange(tokens)[:, None], torch.arange(tokens)
    mask = (j <= i) & (j > i - window)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(got, want)
    assert torch.equal(cache[0], k)  # the whole cache was written


@pytest.mark.parametrize("delta", [False, True])
def test_scans_and_updates_are_the_same_recurrence(delta):
    torch.manual_seed(0)
    state, q, k, v = torch.randn(2, 4, 8, 8), *(torch.randn(2, 70, h, 8) * 0.3 for h in (2, 2, 4))
    gates = [-torch.rand(2, 70, 4), *([torch.rand(2, 70, 4)] if delta else [])]
    want = scans.by_token(state, q, k, v, *gates)
    scan, update = (
        (scans.delta_scan, scans.delta_update) if delta else (scans.decayed_scan, scans.decayed_update)
    )
    got, end = scan(state.clone(), q, k, v, *gates, chunk=16)
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-4)
    moving = state.clone()
    steps = [update(moving, *(x[:, t : t + 1] for x in (q, k, v, *gates))) for t in range(70)]
    torch.testing.assert_close(torch.stack(steps, 1).double(), want, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(moving, end, atol=1e-4, rtol=1e-4)


def test_grouped_experts_are_the_looped_ones():
    torch.manual_seed(0)
    x, logits = torch.randn(33, 64).bfloat16(), torch.randn(33, 8)
    up, down = (torch.randn(8, 128, 64) * 0.1).bfloat16(), (torch.randn(8, 64, 64) * 0.1).bfloat16()
    loop = kernels.looped_experts(x, logits, up, down, 2)
    try:
        grouped = kernels.grouped_experts(x, logits, up, down, 2)
    except (RuntimeError, AttributeError) as error:
        pytest.skip(f"this torch groups no products here: {error}")
    assert relative_error(grouped, loop.double()) < 1e-2


def test_a_reference_does_not_depend_on_the_kernel_tested(worker):
    case = Case(
        "moe", "bf16", {"tokens": 3, "d_model": 64, "d_expert": 64, "experts": 4, "top_k": 2, "skew_pct": 0}
    )
    assert answer(worker, {"do": "check", "case": vars(case)})["error"] < 2e-2
    skewed = replace(case, sizes={**case.sizes, "skew_pct": 120, "tokens": 64})
    assert answer(worker, {"do": "check", "case": vars(skewed)})["error"] < 2e-2
