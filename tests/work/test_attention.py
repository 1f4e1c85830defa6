"""Attention kinds: cache bytes, pairs visited, operations."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calc.specs.errors import SpecError
from calc.specs.model import ROLES, Part
from calc.specs.model_files import load_model, model_ids
from calc.work.attention import attention
from calc.work.causal import causal_pairs
from calc.work.compressed_attention import CompressedAttention
from calc.work.delta_attention import KimiDeltaAttention
from calc.work.encoder_decoder import DecoderAttention, EncoderAttention
from calc.work.grouped_query import GroupedQuery
from calc.work.latent_attention import LatentAttention
from calc.work.lightning_attention import LightningAttention
from calc.work.linear_attention import GatedDeltaNet
from calc.work.mamba import Mamba1, Mamba2
from calc.work.op import Precision, Sequences
from calc.work.paging import layer_caches
from calc.work.sparse_attention import BlockSparse

BF16 = Precision(bits=dict.fromkeys(ROLES, 16), kv_bytes=2, math="bf16")
#: kinds with a state of fixed size
STATES = [
    KimiDeltaAttention(2304, 32, 128, 4),
    KimiDeltaAttention(7168, 96, 128, 4, full_rank_gate=True),
    LightningAttention(6144, 64, 128),
    Mamba1(4096, 8192, 16, 4, 256, normed=True),
    Mamba2(4096, 128, 64, 128, 8, 4),
]
V4 = {"d_model": 4096, "n_heads": 64, "d_head": 512, "q_lora_rank": 1024, "o_groups": 8, "o_lora_rank": 1024}
V4 |= {"window": 128, "streams": 4}
CSA = {"ratio": 4, "n_index_heads": 64, "d_index": 128, "index_topk": 512}
COMPRESSED = [
    CompressedAttention(**V4),
    CompressedAttention(**V4, ratio=128),
    CompressedAttention(**V4, **CSA),
]
MLA = LatentAttention(7168, 128, 1536, 512, 128, 64, 128)
DELTA = GatedDeltaNet(2048, 16, 32, 128, 128, 4)


def gqa(**sizes):
    return GroupedQuery(**({"d_model": 4096, "n_heads": 32, "n_kv_heads": 8, "d_head": 128} | sizes))


def cache_growth(model):
    """Bytes per token in layers without a limit, in layers with one, and fixed bytes per sequence."""
    rows = layer_caches(model, 2)
    unbounded = sum(row.count * row.bytes_per_token for row in rows if row.kind == "full")
    limited = sum(row.count * row.bytes_per_token for row in rows if row.kind in ("sliding", "chunked"))
    return unbounded, limited, sum(row.count * row.state_bytes for row in rows)


def test_every_model_caches_its_known_bytes_per_token(root):
    with open(root / "tests" / "golden" / "cache_bytes_per_token.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["model"] for row in rows) == sorted(model_ids())
    for row in rows:
        known = tuple(int(row[name]) for name in ("unbounded", "windowed", "state_bytes_per_sequence"))
        assert cache_growth(load_model(row["model"])) == known, row["model"]


@pytest.mark.parametrize(
    ("name", "size"), [("llama-3.1-8b", 131_072), ("llama-3.1-70b", 327_680), ("deepseek-v3", 70_272)]
)
def test_well_known_caches_per_token(name, size):
    assert cache_growth(load_model(name)) == (size, 0, 0)


def test_a_window_caps_the_cache():
    tokens = np.array([1, 1024, 4096, 100_000])
    assert gqa(window=4096).cache_bytes(tokens, 2).tolist() == [4096, 4096 * 1024, 4096**2, 4096**2]


def test_a_chunk_caps_the_cache():
    assert gqa(chunk=8192).cache_bytes(10**6, 2) == 4096 * 8192


def test_values_may_be_narrower_than_keys():
    """MiMo-V2-Flash: 4 heads of 192 and 128 in full layers are 2,560 bytes a token."""
    assert gqa(n_kv_heads=4, d_head=192, d_value=128).cache_bytes(1, 2) == 2560


@pytest.mark.parametrize(("tp", "share"), [(1, 1), (2, 1 / 2), (8, 1 / 8), (16, 1 / 8), (32, 1 / 8)])
def test_kv_heads_are_split_until_a_rank_has_one_and_then_copied(tp, share):
    assert gqa().cache_bytes(1000, 2, tp) == share * gqa().cache_bytes(1000, 2)


def test_the_latent_is_copied_to_every_rank():
    assert MLA.cache_bytes(1000, 2, tp=8) == MLA.cache_bytes(1000, 2, tp=1) == 1000 * 1152


def test_an_indexer_adds_its_key_to_the_latent():
    with_indexer = LatentAttention(7168, 128, 1536, 512, 128, 64, 128, False, 64, 128, 2048)
    assert with_indexer.cache_bytes(1, 2) == 1408


def test_block_sparse_attention_keeps_every_token_but_reads_a_part():
    """The cache grows without end, with one indexer key a token that every rank holds."""
    part, dense = BlockSparse(4096, 32, 8, 128, index_tokens=2048), gqa()
    assert part.cache_bytes(10**6, 2) == dense.cache_bytes(10**6, 2) + 10**6 * 256
    assert part.cache_bytes(1000, 2, tp=8) == dense.cache_bytes(1000, 2, tp=8) + 1000 * 256
    read = total(step(part, "decode", 1, 1, 10**6), "cache_bytes")
    assert read == 4096 * (2048 + 1) + 256 * (10**6 + 1)


def test_a_layer_that_shares_a_cache_keeps_none_and_has_no_key_weights():
    part = gqa(shares_cache=True, qk_norm="head")
    assert part.cache_bytes(1000, 2) == 0
    assert not any("k_proj" in w.name or "v_proj" in w.name or "k_norm" in w.name for w in part.parameters())


def test_keys_used_as_values_are_cached_twice_but_projected_once():
    part = gqa(keys_as_values=True)
    assert part.cache_bytes(1, 2) == gqa().cache_bytes(1, 2)
    assert not any("v_proj" in weight.name for weight in part.parameters())


@pytest.mark.parametrize(
    ("tp", "size"), [(1, 2_162_688), (2, 2_162_688 / 2), (16, 2_162_688 / 16), (np.array([1, 4]), None)]
)
def test_a_delta_net_keeps_a_state_of_fixed_size_split_by_heads(tp, size):
    """Qwen3-Next: 8192 * 4 in 16 bits and 32 * 128 * 128 in fp32 a layer."""
    held = DELTA.cache_bytes(10**6, 1, tp)
    expected = [2_162_688, 2_162_688 / 4] if size is None else size
    assert np.all(held == expected)
    assert np.all(held == DELTA.cache_bytes(1, 2, tp))


def test_a_delta_net_broadcasts_over_tokens():
    assert DELTA.cache_bytes(np.array([1, 10])).tolist() == [2_162_688] * 2


def brute_force_pairs(new, past, window=None, chunk=None):
    pairs = 0
    for query in range(past, past + new):
        for key in range(query + 1):
            near = window is None or query - key < window
            pairs += near and (chunk is None or query // chunk == key // chunk)
    return pairs


@given(
    new=st.integers(0, 40),
    past=st.integers(0, 40),
    window=st.none() | st.integers(1, 50),
    chunk=st.none() | st.integers(1, 50),
)
def test_pairs_equal_a_count_of_every_query_and_key(new, past, window, chunk):
    if chunk is not None:
        window = None  # no model has both
    assert causal_pairs(new, past, window, chunk) == brute_force_pairs(new, past, window, chunk)


@given(new=st.integers(1, 100), past=st.integers(0, 100), window=st.integers(1, 50))
def test_pairs_of_two_steps_add_up(new, past, window):
    first = new // 2
    both = causal_pairs(first, past, window) + causal_pairs(new - first, past + first, window)
    assert both == causal_pairs(new, past, window)


def test_pairs_take_arrays():
    assert causal_pairs(np.array([1, 4]), np.array([9, 0]), window=2).tolist() == [2, 7]


def step(kind, phase, n, new, past, tp=1):
    return kind.ops((Sequences(phase, n, new, past),), BF16, tp)


def total(ops, name):
    return sum(getattr(op, name) * op.count for op in ops)


KINDS = [
    gqa(),
    gqa(window=128),
    gqa(gated=True),
    gqa(head_gate=True),
    gqa(d_head=192, d_value=128),
    gqa(keys_as_values=True),
    gqa(shares_cache=True),
    DELTA,
    BlockSparse(4096, 32, 8, 128),
    EncoderAttention(1024, 16, 16, 64),
    *STATES,
    *COMPRESSED,
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_operations_read_the_projection_weights_once(kind):
    projections = sum(w.parameters for w in kind.parameters() if w.role in ("attention", "router"))
    for phase, new, past in (("decode", 1, 500), ("prefill", 500, 0)):
        products = [op for op in step(kind, phase, 4, new, past) if op.kind == "gemm"]
        assert total(products, "weight_bytes") == 2 * projections


@pytest.mark.parametrize("kind", [*KINDS, MLA], ids=str)
def test_two_ranks_do_at_least_half_of_the_work_each_and_not_more_than_all(kind):
    for phase, new, past in (("decode", 1, 500), ("prefill", 500, 0)):
        whole, half = (step(kind, phase, 4, new, past, tp) for tp in (1, 2))
        assert total(whole, "flops") / 2 <= total(half, "flops") < total(whole, "flops")


def test_decode_reads_each_cached_token_once():
    """And writes the new one: (500 + 1) read, 1 written, 4,096 bytes each."""
    assert total(step(gqa(), "decode", 1, 1, 500), "cache_bytes") == 4096 * (501 + 1)


def test_decode_of_latent_attention_reads_the_latent_once_for_all_heads():
    assert total(step(MLA, "decode", 1, 1, 500), "cache_bytes") == 1152 * (501 + 1)


def test_a_delta_net_reads_and_writes_its_state_once_a_step_and_does_not_look_back():
    near, far = (step(DELTA, "decode", 8, 1, past) for past in (10, 10**6))
    assert total(near, "cache_bytes") == total(far, "cache_bytes") == 2 * 8 * 2_162_688
    assert total(near, "flops") == total(far, "flops")
    assert {op.kind for op in near} == {"gemm", "elementwise", "conv1d_update", "recurrent_update"}


def test_a_delta_net_does_work_in_proportion_to_the_prompt():
    short, long = (total(step(DELTA, "prefill", 1, n, 0), "flops") for n in (1024, 8192))
    assert long == 8 * short


def test_a_chunk_of_prefill_costs_more_operations_than_tokens_one_by_one():
    """Products inside a chunk buy parallelism; the state is read and written once, not 64 times."""
    at_once, one_by_one = step(DELTA, "prefill", 1, 64, 0), step(DELTA, "decode", 1, 1, 0)
    core = [
        [op for op in ops if op.kind in ("chunk_scan", "recurrent_update")] for ops in (at_once, one_by_one)
    ]
    assert total(core[0], "flops") > 64 * total(core[1], "flops")
    assert total(core[0], "cache_bytes") == total(core[1], "cache_bytes")


def test_a_convolution_of_each_phase_keeps_the_last_inputs():
    """Decode reads and writes the tail of 4 inputs in 16 bits, prefill writes it."""
    tail = 8192 * 4 * 2
    for phase, new, kind, times in (("decode", 1, "conv1d_update", 2), ("prefill", 64, "conv1d", 1)):
        (conv,) = [op for op in step(DELTA, phase, 3, new, 0) if op.kind == kind]
        assert conv.cache_bytes == times * 3 * tail
        assert conv.activation_bytes == 2 * 2 * 3 * new * 8192


@pytest.mark.parametrize("kind", STATES, ids=lambda kind: type(kind).__name__)
def test_a_state_is_read_and_written_once_a_step_however_long_the_sequence(kind):
    """One layer's state does not grow, is split over ranks, and a prompt costs in proportion."""
    assert kind.fixed_state
    state = kind.cache_bytes(1)
    assert np.all(kind.cache_bytes(np.array([1, 10**6])) == state)
    assert kind.cache_bytes(1, 2, 8) == state / 8
    near, far = (step(kind, "decode", 8, 1, past) for past in (10, 10**6))
    assert total(near, "cache_bytes") == total(far, "cache_bytes") == 2 * 8 * state
    assert total(near, "flops") == total(far, "flops")
    short, long = (total(step(kind, "prefill", 1, n, 0), "flops") for n in (1024, 8192))
    assert long == 8 * short


@pytest.mark.parametrize(
    ("kind", "per_element"),
    [(STATES[2], 5), (STATES[3], 7), (STATES[4], 5)],
    ids=["lightning", "mamba1", "mamba2"],
)
def test_a_decoded_token_does_so_many_flops_per_state_element(kind, per_element):
    """Decay, input and read-out; Mamba-1 also forms the decay and the input of every element."""
    elements = {"LightningAttention": 64 * 128**2, "Mamba1": 8192 * 16, "Mamba2": 128 * 64 * 128}
    (core,) = [op for op in step(kind, "decode", 1, 1, 9) if op.kind == "recurrent_update"]
    assert core.flops == per_element * elements[type(kind).__name__]


def test_groups_of_mamba_2_are_copied_where_there_are_more_ranks():
    """Nemotron-H: 8 groups of B and C; 16 ranks hold one each, of their own 8 heads."""
    kind = Mamba2(4096, 128, 64, 128, 8, 4)
    assert kind.cache_bytes(1, 2, 16) == (8 * 64 + 2 * 128) * 4 * 2 + 8 * 64 * 128 * 4


def test_compressed_attention_reads_its_window_and_the_entries_picked():
    """DeepSeek-V4 at 100,000 tokens: 128 in the window; 512 of 25,000 entries, or all 781."""
    past = 99_999
    window, heavy, sparse = (step(kind, "decode", 1, 1, past) for kind in COMPRESSED)
    keys = [
        sum(op.cache_bytes for op in ops if op.name == "attention.decode") / 1024
        for ops in (window, heavy, sparse)
    ]
    assert keys == [128 + 1, 128 + 10**5 / 128 + 1 + 1 / 128, 128 + 512 + 1 + 1 / 4]
    flops = [sum(op.flops for op in ops if op.name == "attention.decode") for ops in (window, heavy, sparse)]
    per_key = 64 * 2 * (512 + 512)
    assert flops[0] == per_key * 128
    assert flops[2] == per_key * (128 + 512)
    scores = next(op for op in sparse if op.name == "indexer.scores_decode")
    assert scores.flops == 2 * 64 * 128 * 10**5 / 4
    assert scores.cache_bytes == pytest.approx(256 * 10**5 / 4, rel=1e-4)


def test_compressed_caches_grow_by_a_quarter_or_less_beyond_the_window():
    window, heavy, sparse = (
        kind.cache_bytes(10**6, 2) - kind.cache_bytes(10**6 - 128, 2) for kind in COMPRESSED
    )
    assert (window, heavy, sparse) == (0, 1024, 32 * 1280)
    assert [kind.cache_bytes(1000, 2, tp=8) for kind in COMPRESSED] == [
        kind.cache_bytes(1000, 2) for kind in COMPRESSED
    ]


def test_an_encoder_sees_every_pair_and_keeps_nothing():
    kind = EncoderAttention(1024, 16, 16, 64)
    assert kind.cache_bytes(1000, 2) == 0
    (core,) = [op for op in step(kind, "prefill", 2, 100, 0) if op.kind == "encoder_attention"]
    assert core.flops == 2 * 2 * 16 * 100 * 100 * (64 + 64)
    assert core.cache_bytes == 0


def test_a_decoder_reads_its_own_tokens_and_the_encoders_positions():
    """Whisper: 1500 positions for every sequence, projected once, read at every token."""
    kind = DecoderAttention(1280, 20, 20, 64, encoder_tokens=1500)
    per_token = 2 * 20 * 64 * 2
    assert kind.cache_bytes(100, 2) == (100 + 1500) * per_token
    assert DecoderAttention(1280, 20, 20, 64).cache_bytes(100, 2) == 100 * per_token
    decode = kind.ops((Sequences("decode", 3, 1, 9, source_tokens=1500),), BF16, 1)
    assert (
        total([op for op in decode if op.name == "cross_attention.decode"], "cache_bytes")
        == 3 * 1500 * per_token
    )
    assert not any(op.name == "cross_attention.kv_proj" for op in decode)
    prefill = kind.ops((Sequences("prefill", 3, 4, 0, None, 1500, 4500),), BF16, 1)
    (project,) = [op for op in prefill if op.name == "cross_attention.kv_proj"]
    assert project.flops == 2 * 4500 * 1280 * 2 * 1280


def test_an_unknown_kind_is_refused():
    with pytest.raises(SpecError, match="unknown attention kind 'gqq': did you mean 'gqa'"):
        attention(Part.of("gqq"))
