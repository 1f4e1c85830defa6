"""Other kernels on the host: forced backends, pages, padded values, adapters. Needs torch."""

import math
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'ullage[validate]'")

from validate.probes import PROBES  # noqa: E402
from validate.probes.base import Case  # noqa: E402
from validate.probes.bench import Bench  # noqa: E402
from validate.probes.ready import ready  # noqa: E402
from validate.probes.ways import VARLEN, varlen_reason  # noqa: E402
from validate.worker import Worker, answer  # noqa: E402

PREFILL = {"batch": 2, "new": 32, "past": 0, "heads": 4, "kv_heads": 2, "d_head": 16, "window": 0}
DECODE = {**PREFILL, "new": 1, "past": 40}
LATENT = {"batch": 2, "new": 16, "past": 0, "heads": 2}
PAGED = {"batch": 3, "past": 40, "heads": 4, "kv_heads": 2, "d_head": 16, "page": 16}
NORM = {"rows": 5, "width": 64}


@pytest.fixture(scope="module")
def worker():
    return Worker("cpu", 1, 3e7)


def checked(worker, *about, **more):
    worker._ready.clear()
    return answer(worker, {"do": "check", "case": vars(Case(*about, **more))})


@pytest.mark.parametrize("way", ["sdpa-flash", "sdpa-math"])
@pytest.mark.parametrize(
    ("probe", "sizes"),
    [
        ("prefill", PREFILL),
        ("prefill", {**PREFILL, "past": 8}),
        ("prefill", {**PREFILL, "window": 8}),
        ("decode", DECODE),
        ("mla_prefill", LATENT),
        ("mla_prefill", {**LATENT, "past": 8}),
    ],
)
def test_every_backend_of_the_host_is_right_and_recorded(worker, probe, sizes, way):
    for about in ({"kernel": way}, {"prefers": way}):
        found = checked(worker, probe, "bf16", sizes, **about)
        assert (found["kernel"], found["error"] <= found["limit"]) == (way, True), found


def test_a_backend_runs_only_where_it_was_asked_for(worker):
    built = ready(PROBES["decode"], Case("decode", "bf16", DECODE, "sdpa-math"), worker.bench)
    before = torch.backends.cuda.flash_sdp_enabled()
    with built.within():
        assert not torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled() == before


def test_a_backend_that_is_not_there_says_so(worker):
    found = checked(worker, "decode", "bf16", DECODE, kernel="sdpa-cudnn")
    assert found == {"flag": "unavailable", "note": "sdpa-cudnn is no kernel for cpu"}


def test_where_the_preferred_backend_cannot_the_next_one_runs(worker, monkeypatch):
    probe = PROBES["decode"]
    by = type(probe).by

    def no_flash(self, built, way):
        if way == "sdpa-flash":
            raise RuntimeError("No available kernel. Aborting execution.")
        return by(self, built, way)

    monkeypatch.setattr(type(probe), "by", no_flash)
    assert checked(worker, "decode", "bf16", DECODE, prefers="sdpa-flash")["kernel"] == "sdpa-math"


def test_a_decoder_runs_by_the_backend_it_prefers(worker):
    sizes = {"batch": 1, "new": 1, "past": 128}
    found = checked(worker, "decoder-moe", "bf16", sizes, prefers="sdpa-math")
    assert found["kernel"] == "decoder, sdpa-math"
    assert 0 < found["error"] <= found["limit"]


def test_pages_are_read_in_the_order_of_the_table(worker):
    found = checked(worker, "paged_decode", "bf16", PAGED, prefers="gather")
    assert (found["kernel"], found["error"] <= found["limit"]) == ("gather", True)
    bench = Bench("cpu", 1 << 22)
    built = PROBES["paged_decode"].build(Case("paged_decode", "bf16", PAGED), bench)
    table, slots = built.sets[0][5:7]
    assert sorted(table.flatten().tolist()) == list(range(9))
    assert slots.tolist() == [int(row[40 // 16]) * 16 + 40 % 16 for row in table]


def test_a_table_that_is_read_in_another_order_is_found_out(worker, monkeypatch):
    from validate.probes import paged_kernels

    right = paged_kernels.paged_decode_attention

    def wrong(query, key, value, cache_k, cache_v, table, *rest, **more):
        return right(query, key, value, cache_k, cache_v, table.flip(0), *rest, **more)

    monkeypatch.setattr(paged_kernels, "paged_decode_attention", wrong)
    found = checked(worker, "paged_decode", "bf16", PAGED)
    assert found["error"] > found["limit"]


def test_on_the_host_no_kernel_reads_pages_in_place_and_it_says_so(worker):
    found = checked(worker, "paged_decode", "bf16", PAGED, kernel=VARLEN)
    assert found["flag"] == "unavailable"
    assert "varlen_attn" in found["note"]
    assert "\n" not in found["note"]


def varlen(query, key, value, starts, ends, most, longest, **about):
    """What torch's kernel computes, slowly: packed sequences, or pages of a cache."""
    assert about["enable_gqa"]
    outs = []
    for i in range(len(starts) - 1):
        q = query[starts[i] : starts[i + 1]].transpose(0, 1)
        if (table := about.get("block_table")) is not None:
            assert ends is None
            assert table.dtype == about["seqused_k"].dtype == torch.int32
            k, v = (x[table[i].long()].flatten(0, 1)[: about["seqused_k"][i]] for x in (key, value))
        else:
            k, v = (x[ends[i] : ends[i + 1]] for x in (key, value))
        n, context = q.shape[1], len(k)
        at, past = torch.arange(context), torch.arange(n)[:, None] + context - n
        left = about["window_size"][0]
        seen = (at <= past) & ((at >= past - left) if left >= 0 else True)
        out = torch.nn.functional.scaled_dot_product_attention(
            q, k.transpose(0, 1), v.transpose(0, 1), attn_mask=seen, enable_gqa=True
        )
        outs.append(out.transpose(0, 1))
    return torch.cat(outs)


def signature(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size, enable_gqa,
              seqused_k=None, block_table=None):  # fmt: skip
    about = {"window_size": window_size, "enable_gqa": enable_gqa, "seqused_k": seqused_k}
    return varlen(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, block_table=block_table, **about)


@pytest.fixture
def with_varlen(monkeypatch):
    """Put a kernel in the place of torch's ``varlen_attn``."""

    def put(call):
        module = SimpleNamespace(varlen_attn=call)
        monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)

    return put


def test_where_torch_reads_pages_that_kernel_is_called_as_it_wants(worker, with_varlen):
    with_varlen(signature)
    found = checked(worker, "paged_decode", "bf16", PAGED, kernel=VARLEN)
    assert (found["kernel"], found["error"] <= found["limit"]) == (VARLEN, True)


@pytest.mark.parametrize("window", [0, 8])
def test_packed_prompts_are_those_of_the_batch(worker, with_varlen, monkeypatch, window):
    with_varlen(signature)
    monkeypatch.setattr(type(PROBES["prefill"]), "rivals", lambda self, kind: (VARLEN,))
    found = checked(worker, "prefill", "bf16", {**PREFILL, "window": window}, kernel=VARLEN)
    assert (found["kernel"], found["error"] <= found["limit"]) == (VARLEN, True)
    found = checked(worker, "prefill", "bf16", {**PREFILL, "past": 8}, kernel=VARLEN)
    assert found["flag"] == "unavailable"


def test_an_older_torch_says_what_its_kernel_lacks(with_varlen, monkeypatch):
    with_varlen(lambda query, key, value, cu_seq_q, enable_gqa: None)
    assert varlen_reason(paged=True) == "varlen_attn of this torch has no block_table"
    assert varlen_reason(paged=False) == ""
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    assert varlen_reason(paged=True) == "this torch has no torch.nn.attention.varlen"


def norm(x, delta, weight):
    total = x + delta
    return total, torch.nn.functional.rms_norm(total, (total.shape[-1],), weight, 1e-5)


def test_an_adapter_is_checked_against_the_reference_of_the_torch_kernel(worker, fake_adapter):
    fake_adapter({"norm_and_residual": norm})
    found = checked(worker, "norm", "bf16", NORM, kernel="fake")
    assert (found["kernel"], 0 < found["error"] <= found["limit"]) == ("fake", True)


@pytest.mark.parametrize("harm", ["scaled", "nan"])
def test_a_wrong_adapter_is_found_out(worker, fake_adapter, harm):
    def wrong(*args):
        total, out = norm(*args)
        out[-1, -1] = math.nan if harm == "nan" else out[-1, -1] + 20
        return total, out

    fake_adapter({"norm_and_residual": wrong})
    found = checked(worker, "norm", "bf16", NORM, kernel="fake")
    assert not found["error"] <= found["limit"]


def test_an_adapter_that_overwrites_its_inputs_is_checked_on_copies(worker, fake_adapter):
    def in_place(x, delta, weight):
        x += delta
        delta.copy_(torch.nn.functional.rms_norm(x, (x.shape[-1],), weight, 1e-5))
        return x, delta

    fake_adapter({"norm_and_residual": in_place}, OVERWRITES=("norm_and_residual",))
    found = checked(worker, "norm", "bf16", NORM, kernel="fake")
    assert found["error"] <= found["limit"]
    fake_adapter({"norm_and_residual": in_place}, "careless")
    found = checked(worker, "norm", "bf16", NORM, kernel="careless")
    assert not found["error"] <= found["limit"]


def test_an_adapter_may_prepare_weights_and_give_them_back_to_the_reference(worker, fake_adapter):
    def linear(x, weight):
        return x @ (weight[0].bfloat16() * weight[1]).T

    fake_adapter(
        {"linear": linear},
        prepared=lambda kernel, args: (args[0], ((args[1] * 16).round().to(torch.int8), 1 / 16)),
        plain=lambda kernel, args: (args[0], args[1][0].double() / 16),
    )
    found = checked(worker, "gemm", "bf16", {"m": 4, "n": 64, "k": 64}, kernel="fake")
    assert (found["kernel"], found["error"] <= found["limit"]) == ("fake", True), found


def test_an_adapter_that_went_away_says_why(worker, fake_adapter):
    fake_adapter({"norm_and_residual": norm}, reason="its package is broken")
    found = checked(worker, "norm", "bf16", NORM, kernel="fake")
    assert found == {"flag": "unavailable", "note": "its package is broken"}


def test_checks_and_blocks_run_inside_what_a_kernel_needs_around_it(worker):
    inside, seen = [], []

    @contextmanager
    def within():
        inside.append(True)
        yield
        inside.pop()

    case = Case("swiglu", "bf16", {"rows": 2, "width": 64})
    built = PROBES["swiglu"].build(case, worker.bench)
    call = built.call
    built = built._replace(within=within, call=lambda x: seen.append(bool(inside)) or call(x))
    worker._ready[case.key] = built, worker.clock.timer(built), 0.0
    worker.check(case)
    worker.visit(case, 0.001)
    worker._ready.clear()
    assert len(seen) > 4
    assert all(seen)


def test_room_is_shared_and_grows():
    bench = Bench("cpu", 1 << 20)
    small = bench.scratch(4, 8)
    assert bench.scratch(2, 16).data_ptr() == small.data_ptr()
    assert bench.scratch(2, 64).shape == (2, 64)


def test_large_inputs_repeat_what_was_drawn(monkeypatch):
    monkeypatch.setattr("validate.probes.bench.DRAWN", 64)
    drawn = Bench("cpu", 1 << 20).random(3, 50, dtype="fp32").flatten()
    assert torch.equal(drawn[:64], drawn[64:128])
    assert drawn.std() > 0.5
