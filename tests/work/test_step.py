"""The list of operations of one step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import calc
from calc.work.memory import precision_of, weights_bytes_by_role
from calc.work.op import Sequences
from calc.work.parameters import weights
from calc.work.sharding import Split
from calc.work.step import step_ops


def ops_of(model, *groups, tp=1, **deployment):
    m = calc.load_model(model)
    return step_ops(m, groups, precision_of(m, calc.Deployment(tp=tp, **deployment)), Split(tp))


def total(ops, name):
    return sum(op.count * getattr(op, name) for op in ops)


def decode(batch, past):
    return Sequences("decode", batch, 1, past)


def prefill(batch, tokens, past=0):
    return Sequences("prefill", batch, tokens, past)


def test_a_decode_step_of_a_dense_model_does_two_flops_a_parameter_and_token():
    """2 N per token without the input embedding, plus attention over one token of context."""
    model = calc.load_model("llama-3.1-8b")
    matrices = sum(
        count * weight.parameters
        for weight, count in weights(model)
        if weight.role not in ("embedding", "norm")
    )
    gemms = [op for op in ops_of("llama-3.1-8b", decode(1, 0)) if op.kind == "gemm"]
    assert total(gemms, "flops") == 2 * matrices


def test_every_weight_but_the_embedding_table_is_read_once_per_decode_step():
    model = calc.load_model("llama-3.1-8b")
    stored = weights_bytes_by_role(model, precision_of(model, calc.Deployment()))
    read = total([op for op in ops_of("llama-3.1-8b", decode(1, 0)) if op.kind == "gemm"], "weight_bytes")
    assert read == sum(stored.values()) - stored["embedding"] - stored["norm"]


def test_the_embedding_reads_rows_not_the_table():
    embedding = ops_of("llama-3.1-8b", prefill(1, 100))[0]
    assert embedding.weight_bytes == 100 * 4096 * 2


def test_the_lm_head_runs_on_the_last_token_of_a_prompt_only():
    head = next(op for op in ops_of("llama-3.1-8b", prefill(3, 2000)) if op.name == "lm_head")
    assert head.flops == 2 * 3 * 128_256 * 4096


def test_decode_reads_the_cache_once_and_writes_one_token():
    """131,072 bytes per token in all layers; 1000 tokens of context and the new one, read and written."""
    attention = [op for op in ops_of("llama-3.1-8b", decode(1, 999)) if op.kind == "decode_attention"]
    assert total(attention, "cache_bytes") == 131_072 * (1000 + 1)


def test_causal_prefill_visits_half_the_square():
    attention = [op for op in ops_of("llama-3.1-8b", prefill(1, 1000)) if op.kind == "prefill_attention"]
    pairs = 1000 * 1001 / 2
    assert total(attention, "flops") == 2 * 32 * 32 * pairs * (128 + 128)


def test_chunked_prefill_does_the_same_attention_work_as_one_pass():
    def attention(*groups):
        return total(
            [op for op in ops_of("llama-3.1-8b", *groups) if op.kind == "prefill_attention"], "flops"
        )

    parts = sum(attention(prefill(1, 256, past)) for past in range(0, 2048, 256))
    assert parts == attention(prefill(1, 2048))


def test_moe_flops_follow_the_chosen_experts_and_weights_the_distinct_ones():
    """Mixtral-8x7B: 2 of 8 experts of 3 x 4096 x 14336 parameters in 32 layers."""
    expert = 3 * 4096 * 14336
    one, many = (
        next(op for op in ops_of("mixtral-8x7b", decode(batch, 10)) if op.kind == "moe") for batch in (1, 64)
    )
    assert one.count * one.flops == 32 * 2 * 2 * expert
    assert one.weight_bytes == pytest.approx(2 * 2 * expert)
    assert many.flops == 64 * one.flops
    assert many.weight_bytes == pytest.approx(2 * 8 * expert, rel=1e-6)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-120b"])
def test_tensor_parallelism_divides_the_matrix_work(model):
    whole, part = (total(ops_of(model, decode(8, 500), tp=tp), "flops") for tp in (1, 8))
    assert part < whole / 4
    assert part >= whole / 8 * 0.999


def test_an_encoder_runs_in_prefill_only_over_the_prompt_or_its_own_positions():
    """T5 reads a start token after it; Whisper's 1500 positions do not depend on the prompt."""
    for name, positions, read in (("t5-large", 300, 1), ("whisper-large-v3", 1500, 300)):
        ops = ops_of(name, prefill(2, 300))
        inside = [op for op in ops if op.name == "attention.prefill" and op.flops]
        assert len(inside) == 2  # of the encoder and of the decoder
        assert inside[0].shape["new"] == positions
        assert inside[1].shape["new"] == read
        decoded = ops_of(name, decode(2, 300))
        assert total(decoded, "flops") < total(ops, "flops") / 20


def test_decoding_reads_self_and_cross_caches_as_kept():
    """T5: 300 tokens before, prompt and output alike; Whisper: 1500 positions besides."""
    for name, kept in (("t5-large", 300), ("whisper-large-v3", 300 + 1500)):
        attention = [op for op in ops_of(name, decode(1, 300)) if op.kind == "decode_attention"]
        per_token = calc.cache_bytes_per_token(calc.load_model(name))
        assert total(attention, "cache_bytes") == per_token * (kept + 1 + 1)  # the new one, written and read


def test_two_allreduces_a_layer_carry_the_hidden_state():
    (op,) = [op for op in ops_of("llama-3.1-70b", decode(4, 10), tp=4) if op.kind == "allreduce"]
    assert op.count == 2 * 80
    assert op.comm_bytes == 4 * 8192 * 2


@given(
    model=st.sampled_from(calc.model_ids()),
    batch=st.integers(1, 512),
    past=st.integers(0, 100_000),
    new=st.integers(1, 8192),
    phase=st.sampled_from(["decode", "prefill"]),
)
def test_no_work_is_negative_or_not_a_number(model, batch, past, new, phase):
    group = decode(batch, past) if phase == "decode" else prefill(batch, new, past)
    for op in ops_of(model, group):
        for name in ("flops", "weight_bytes", "cache_bytes", "activation_bytes", "comm_bytes"):
            assert np.isfinite(getattr(op, name)), (op.name, name)
            assert getattr(op, name) >= 0, (op.name, name)


@given(
    model=st.sampled_from(calc.model_ids()),
    batch=st.integers(1, 256),
    past=st.integers(0, 50_000),
    more=st.integers(1, 1000),
)
def test_work_grows_with_batch_and_context(model, batch, past, more):
    base = ops_of(model, decode(batch, past))
    for other in (ops_of(model, decode(batch + more, past)), ops_of(model, decode(batch, past + more))):
        for name in ("flops", "bytes"):
            assert total(other, name) >= total(base, name) * (1 - 1e-12)
