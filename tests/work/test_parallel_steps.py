"""Steps of every parallelism: work is shared out, not lost; exchanges carry what they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc
from calc.work.communication import FP8_ROW_BYTES
from calc.work.expert_load import expert_load, expert_ranks
from calc.work.memory import precision_of
from calc.work.op import Sequences
from calc.work.sharding import Split, split_of
from calc.work.step import step_ops

EXCHANGES = {"allgather", "reduce_scatter", "dispatch", "combine", "deepep_ll_dispatch", "deepep_ll_combine"}


def ops_of(model, split, *groups, skew=0.0, **deployment):
    m = calc.load_model(model)
    return step_ops(m, groups, precision_of(m, calc.Deployment(**deployment)), split, expert_skew=skew)


def total(ops, name, *kinds):
    return sum(op.count * getattr(op, name) for op in ops if not kinds or op.kind in kinds)


def only(ops, name):
    (op,) = [op for op in ops if op.name == name]
    return op


def decode(batch, past=1000):
    return Sequences("decode", batch, 1, past)


def prefill(batch, tokens, past=0):
    return Sequences("prefill", batch, tokens, past)


def test_the_split_of_a_deployment_has_its_ranks():
    split = split_of(calc.Deployment(tp=4, pp=2, ep=8, dp=2, cp=2))
    assert (split.tp, split.pp, split.ep, split.dp, split.cp) == (4, 2, 8, 2, 2)
    assert (split.expert_devices, split.expert_cut) == (8, 1)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "mixtral-8x7b", "qwen3-235b-a22b"])
@pytest.mark.parametrize("split", [Split(tp=2), Split(tp=4, dp=2), Split(dp=4), Split(tp=4, pp=4)])
def test_all_devices_together_do_the_matrix_work_of_one(model, split):
    """Each data-parallel rank has its own 16 sequences; routers are copied on tp ranks."""
    ranks = split.tp * split.dp
    parts, whole = ops_of(model, split, decode(16)), ops_of(model, Split(), decode(16 * split.dp))
    for kind in ("gemm", "decode_attention", "moe"):
        copied = total([op for op in parts if op.name == "moe.router"], "flops") * (split.tp - 1) * split.dp
        copied = copied if kind == "gemm" else 0
        assert ranks * total(parts, "flops", kind) - copied == pytest.approx(total(whole, "flops", kind))


@pytest.mark.parametrize("split", [Split(tp=4, dp=2), Split(dp=8), Split(tp=8)])
def test_all_devices_together_read_each_expert_hit_once(split):
    parts = only(ops_of("mixtral-8x7b", split, decode(64 / split.dp)), "moe.experts")
    whole = only(ops_of("mixtral-8x7b", Split(), decode(64)), "moe.experts")
    assert 8 * parts.weight_bytes == pytest.approx(whole.weight_bytes)


def test_data_parallel_ranks_read_every_other_weight_themselves():
    parts, whole = (
        total(ops_of("mixtral-8x7b", split, decode(8)), "weight_bytes", "gemm")
        for split in (Split(dp=8), Split())
    )
    assert parts == whole


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_experts_of_the_busiest_rank_follow_the_tokens_of_all(skew):
    """DeepSeek-V3, 32 ranks of 32 sequences each: 256 experts of 3 x 7168 x 2048 in 8 bits."""
    split = Split(dp=32, ep=32)
    experts = only(ops_of("deepseek-v3", split, decode(32), skew=skew), "moe.experts")
    load = expert_load(32 * 32, 256, 8, 32, skew)
    assert experts.flops == pytest.approx(2 * load.rows * 3 * 7168 * 2048)
    assert experts.weight_bytes == pytest.approx(load.hit * 3 * 7168 * 2048, rel=1e-3)  # with block scales
    assert experts.flops * 32 >= 2 * 32 * 32 * 8 * 3 * 7168 * 2048


def test_a_decode_step_sends_a_row_for_each_expert_and_gets_it_back_in_16_bits():
    ops = ops_of("deepseek-v3", Split(dp=32, ep=32), decode(32))
    there, back = only(ops, "moe.dispatch"), only(ops, "moe.combine")
    assert there.comm_bytes == pytest.approx(32 * 8 * 7168 * FP8_ROW_BYTES)
    assert back.comm_bytes == 32 * 8 * 7168 * 2
    assert (there.kind, back.kind) == ("deepep_ll_dispatch", "deepep_ll_combine")
    assert there.count == back.count == 58
    assert (there.shape["world"], there.shape["experts"]) == (32, 256)


def test_prefill_sends_a_row_for_each_device_visited():
    ops = ops_of("deepseek-v3", Split(tp=2, dp=16, ep=32), prefill(1, 4096))
    back = only(ops, "moe.combine")
    assert back.kind == "combine"
    assert back.comm_bytes == pytest.approx(
        2048 * expert_ranks(8, 32) * 7168 * 2
    )  # half of them by each tp rank


def test_on_few_devices_all_tokens_are_gathered_and_results_scattered():
    """A token of DeepSeek-V3 visits 8 experts: no fewer than there are devices."""
    ops = ops_of("deepseek-v3", Split(tp=2, dp=4, ep=8), decode(32))
    for name, kind in (("moe.gather_tokens", "allgather"), ("moe.scatter_results", "reduce_scatter")):
        op = only(ops, name)
        assert (op.kind, op.comm_bytes, op.count) == (kind, 4 * 32 * 7168 * 2, 58)
        assert (op.shape["world"], op.shape["stride"], op.shape["rounds"]) == (4, 2, 1)
    assert not [op for op in ops if "dispatch" in op.kind]


def test_one_data_parallel_rank_exchanges_nothing_but_sums_and_logits():
    ops = ops_of("deepseek-v3", Split(tp=8, ep=8), decode(32))
    assert {op.kind for op in ops if op.is_collective} == {"allreduce", "allgather"}


def test_ranks_gather_the_logits_of_each_sequence_once():
    """128,256 logits of 2 bytes for the last token of 32 prompts."""
    ops = ops_of("llama-3.1-70b", Split(tp=8), Sequences("prefill", 32, 1000, 0))
    gather = only(ops, "logits_gather")
    assert (gather.kind, gather.count, gather.comm_bytes) == ("allgather", 1, 32 * 128256 * 2)


def test_stages_pass_the_hidden_state_on():
    whole, stages = (ops_of("llama-3.1-70b", Split(tp=4, pp=pp), decode(16)) for pp in (1, 4))
    hop = only(stages, "stage_hop")
    assert (hop.count, hop.comm_bytes) == (3, 16 * 8192 * 2)
    for name in ("flops", "weight_bytes", "cache_bytes", "activation_bytes"):
        assert total(stages, name) == total(whole, name)


def test_context_ranks_share_the_cache_read_and_do_the_same_arithmetic():
    whole, part = (ops_of("deepseek-v3", Split(tp=8, cp=cp), decode(16, 9999)) for cp in (1, 4))
    for kind in ("decode_mla",):
        assert total(part, "cache_bytes", kind) == total(whole, "cache_bytes", kind) / 4
        assert total(part, "flops", kind) == total(whole, "flops", kind)
    core = next(op for op in part if op.kind == "decode_mla")
    assert (core.shape["heads"], core.shape["seen"]) == (128 / 8 * 4, 10_000 / 4)


def test_context_ranks_gather_queries_and_scatter_outputs():
    """Llama-3.1-70B on 16 ranks: 8 KV heads, each twice; 4 query heads of 128 a rank."""
    ops = ops_of("llama-3.1-70b", Split(tp=16, cp=2), decode(10))
    for name, kind in (("queries", "allgather"), ("outputs", "reduce_scatter")):
        op = only(ops, f"attention.decode_{name}")
        assert (op.kind, op.comm_bytes, op.shape["world"], op.count) == (kind, 10 * 4 * 2 * 128 * 2, 2, 80)


def test_prefill_gathers_the_keys_and_values_of_earlier_tokens():
    first, second = (ops_of("llama-3.1-70b", Split(tp=16, cp=2), prefill(1, 512, past)) for past in (0, 4096))
    assert only(first, "attention.prefill_past").comm_bytes == 0
    assert only(second, "attention.prefill_past").comm_bytes == 4096 * 1 * (128 + 128) * 2
    assert only(second, "attention.prefill").flops == only(
        ops_of("llama-3.1-70b", Split(tp=16), prefill(1, 512, 4096)), "attention.prefill"
    ).flops  # fmt: skip


def test_arrays_broadcast_as_one_by_one():
    tp, dp, ep = np.array([1, 2, 1, 8]), np.array([8, 4, 32, 1]), np.array([8, 8, 32, 8])
    together = ops_of("deepseek-v3", Split(tp=tp, ep=ep, dp=dp), decode(16), prefill(1, 300))
    for i in range(4):
        split = Split(tp=int(tp[i]), ep=int(ep[i]), dp=int(dp[i]))
        alone = {op.name: op for op in ops_of("deepseek-v3", split, decode(16), prefill(1, 300))}
        for op in together:
            count = np.broadcast_to(op.count, 4)[i]
            if op.name not in alone:
                assert count == 0, op.name
            elif op.kind in EXCHANGES or op.kind == "moe":
                for name in ("flops", "weight_bytes", "comm_bytes"):
                    got = np.broadcast_to(getattr(op, name), 4)[i]
                    assert got == pytest.approx(getattr(alone[op.name], name)), (op.name, name)


@given(
    model=st.sampled_from(["llama-3.1-8b", "deepseek-v3", "gpt-oss-120b", "qwen3-next-80b-a3b"]),
    split=st.sampled_from(
        [Split(dp=2), Split(dp=32, ep=32), Split(tp=2, dp=4, ep=4, cp=2), Split(tp=4, pp=2)]
    ),
    skew=st.sampled_from([0.0, 0.8]),
    batch=st.integers(1, 200),
    more=st.integers(1, 200),
    past=st.integers(0, 50_000),
)
def test_more_sequences_never_mean_less_of_anything(model, split, skew, batch, more, past):
    few, many = (ops_of(model, split, decode(n, past), skew=skew) for n in (batch, batch + more))
    for name in ("flops", "weight_bytes", "cache_bytes", "activation_bytes", "comm_bytes"):
        for a, b in zip(few, many, strict=True):
            assert getattr(b, name) * b.count >= getattr(a, name) * a.count * (1 - 1e-9), (a.name, name)
