"""Memory of fine-tuning: published figures, what PyTorch keeps, sums, arrays, errors."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import calc
from calc.cli import finetune
from calc.work import finetuning
from calc.work.finetuning import (
    FineTuning,
    activation_bytes,
    adapters,
    finetuning_memory,
    kept_per_token,
    layer_activation_bytes,
    logits_bytes,
    overhead_bytes,
    state_bytes,
    zero_partitions,
)

STATES = ("weights", "adapters", "gradients", "optimizer", "master weights")


def states(memory) -> float:
    return sum(size for name, size in memory.breakdown() if name in STATES)


@pytest.mark.parametrize(("stage", "printed_gb"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_of_7_5_billion_parameters_on_64_ranks_is_figure_1_of_the_paper(stage, printed_gb):
    """arXiv 1910.02054, figure 1: 2 + 2 + 12 bytes a parameter, 64-way data parallel."""
    cut = zero_partitions(stage, 64)
    kept = {"weights": 2, "gradients": 2, "optimizer": 12}
    total = sum(state_bytes(7.5e9, kept[name], cut[name]) for name in kept)
    assert round(total / 1e9, 1) == printed_gb


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_real_model_keeps_sixteen_bytes_a_parameter_cut_as_in_the_paper(stage):
    """Llama-2-7B, 6,738,415,616 parameters as published."""
    memory = finetuning_memory("llama-2-7b", zero_stage=stage, dp=64)
    per_parameter = [16, 4 + 12 / 64, 2 + 14 / 64, 16 / 64][stage]
    assert states(memory) == pytest.approx(6_738_415_616 * per_parameter, rel=1e-12)


@pytest.mark.parametrize(
    ("rank", "targets", "printed"),
    [(16, "q_proj,v_proj", 8_388_608), (8, ["q_proj", "v_proj"], 4_194_304), (16, "all-linear", 39_976_960)],
)
def test_adapters_have_the_parameters_that_peft_prints_for_llama_2_7b(rank, targets, printed):
    """print_trainable_parameters() of PEFT 0.21.2; 4,194,304 also in ymcui/Chinese-LLaMA-Alpaca issue 189."""
    rows = adapters(calc.load_model("llama-2-7b"), rank, targets)
    assert sum(weight.parameters * count for weight, count in rows) == printed


def test_trained_parameters_and_gradients_of_lora_are_the_adapters():
    memory = finetuning_memory("llama-2-7b", method="lora")
    assert memory.trained_parameters == 39_976_960
    assert memory.gradients_bytes_per_device == 4 * 39_976_960
    assert memory.optimizer_bytes_per_device == 8 * 39_976_960
    assert memory.master_bytes_per_device == 0
    assert memory.weights_bytes_per_device == 2 * 6_738_415_616


def config(tmp_path, name, **fields):
    path = tmp_path / name / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(fields))
    return calc.load_model(str(path))


def test_qlora_of_llama_65b_fits_in_48_gb(tmp_path):
    """arXiv 2305.14314: 65B on one 48 GB GPU; its footprint figure takes batch 1 of 512 tokens.

    Rank 64 on all linear layers in bf16 and AdamW in 32 bits, as in qlora.py of artidoro/qlora. The
    batch of 4 in its scripts/finetune_guanaco_65b.sh fits once its paged optimizer's states may leave.
    """
    model = config(
        tmp_path, "llama-65b", model_type="llama", hidden_size=8192, intermediate_size=22016,
        num_hidden_layers=80, num_attention_heads=64, vocab_size=32000, max_position_embeddings=2048,
    )  # fmt: skip
    how = {"checkpointing": "full", "lora_rank": 64, "adapter_dtype": "bf16", "master_weights": False}
    one = finetuning_memory(model, device="rtx-a6000", method="qlora", seq_len=512, **how)
    assert one.trained_parameters == 799_539_200
    assert one.fits
    assert one.total_bytes_per_device > 0.9 * one.device_bytes_per_device  # a smaller card would not do
    four = finetuning_memory(model, device="rtx-a6000", method="qlora", batch=4, seq_len=528, **how)
    assert 0 < four.shortfall_bytes_per_device < four.optimizer_bytes_per_device
    assert not finetuning_memory(model, device="rtx-a6000", method="lora", seq_len=512, **how).fits


def test_normal_float_takes_4_127_bits_with_and_saves_0_373_by_double_quantisation():
    """arXiv 2305.14314, section 3: from 0.5 to 0.127 bits of constants per parameter."""
    assert finetuning.NF4.bits == pytest.approx(4.127, abs=1e-3)
    assert 4 + 32 / 64 - finetuning.NF4.bits == pytest.approx(0.373, abs=1e-3)


def paper_setup(**how) -> FineTuning:
    """The assumptions of arXiv 2205.05198: dropout, scores stored."""
    return FineTuning(seq_len=2048, dropout=True, flash_attention=False, **how)


@pytest.mark.parametrize(
    ("tp", "sequence_parallel", "factor", "recomputed"),
    [(1, False, 34, 80), (8, False, 10 + 24 / 8, 80 / 8), (8, True, 34 / 8, 80 / 8)],
)
def test_a_gpt_3_layer_keeps_what_table_2_of_korthikanti_says(tp, sequence_parallel, factor, recomputed):
    """sbh (34 + 5as/h), sbh (10 + 24/t + 5as/(ht)), sbh/t (34 + 5as/h); 5as/h is 80 for GPT-3."""
    model = calc.load_model("opt-175b")  # GPT-3's shape: 96 layers and heads, 12288 wide
    kept = kept_per_token(model.layers[0], model.d_model, paper_setup(tp=tp))
    cut = tp if sequence_parallel else 1
    layer = layer_activation_bytes(2048, kept.whole, kept.split, kept.scores, cut)
    assert layer == pytest.approx(2048 * 12288 * (factor + recomputed))
    assert kept.scores / 12288 == recomputed


def test_recomputing_as_in_korthikanti_leaves_34_or_2_bytes_a_layer():
    model, sbh = calc.load_model("opt-175b"), 2048 * 12288
    outside = 5 * sbh  # final norm, input of the lm_head, mask of the embedding
    selective = activation_bytes(model, paper_setup(checkpointing="selective"))
    assert selective == outside + 96 * 34 * sbh + 80 * sbh  # one layer's scores while it is recomputed
    full = activation_bytes(model, paper_setup(checkpointing="full"))
    assert full == outside + 96 * 2 * sbh + (34 + 80) * sbh


LLAMA = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 512,
}  # fmt: skip
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN3 = LLAMA | {"model_type": "qwen3", "head_dim": 64}
LORA = {"method": "lora", "lora_rank": 16}
NORMS = 2 * 4  # the fp32 scale that each norm keeps a token, not counted by the calculator


@pytest.mark.parametrize(
    ("fields", "how", "kept_bytes", "small"),
    [
        (LLAMA, {}, 12824, NORMS),
        (LLAMA, {"flash_attention": False}, 16392, NORMS),
        (MIXTRAL, {}, 22156.125, NORMS + 116.125),  # and the router's choices
        (QWEN3, {}, 15152, NORMS + 24),  # and the scales of the norms of queries and keys
        (LLAMA, {**LORA, "adapter_dtype": "bf16"}, 12024, NORMS),
        (LLAMA, LORA, 14728, NORMS + 2 * 83_968 / 256),  # and the adapters in bf16, spread over 256 tokens
        (LLAMA, {**LORA, "lora_targets": "q_proj,v_proj"}, 10184, NORMS + 2 * 14_336 / 256),
    ],
)
def test_a_layer_keeps_what_autograd_saves(tmp_path, fields, how, kept_bytes, small):
    """Bytes per token and layer from saved_tensors_hooks: torch 2.13, transformers 5.23, PEFT 0.21.2.

    Batch 2 of 128 tokens, bf16 (under autocast with fp32 adapters), three layers less two.
    """
    model = config(tmp_path, "tiny", **fields)
    three = activation_bytes(model, FineTuning(batch=2, seq_len=128, **how))
    model = config(tmp_path, "tinier", **fields | {"num_hidden_layers": 2})
    two = activation_bytes(model, FineTuning(batch=2, seq_len=128, **how))
    assert (three - two) / 256 + small == pytest.approx(kept_bytes)


def test_the_loss_of_transformers_peaks_at_14_bytes_a_logit():
    """Peak of ForCausalLMLoss forward and backward in transformers 5.23 by the profiler: 14.0 bytes."""
    assert logits_bytes(512, 8000) == 14 * 512 * 8000


@pytest.mark.parametrize(
    ("optimizer", "bytes_per_parameter"),
    [("adamw", 8), ("adamw-8bit", 2.03125), ("sgd", 0), ("sgd-momentum", 4)],
)
def test_optimizers_keep_their_states(optimizer, bytes_per_parameter):
    memory = finetuning_memory("llama-2-7b", optimizer=optimizer)
    assert memory.optimizer_bytes_per_device == 6_738_415_616 * bytes_per_parameter


def test_adafactor_keeps_rows_and_columns():
    """Per layer of Llama-2-7B: four 4096 x 4096, three 4096 x 11008, two norms; two tables of 32000."""
    memory = finetuning_memory("llama-2-7b", optimizer="adafactor")
    layer = 4 * (4096 + 4096) + 3 * (4096 + 11008) + 2 * 4096
    assert memory.optimizer_bytes_per_device == pytest.approx(
        4 * (32 * layer + 2 * (32000 + 4096) + 4096), rel=1e-12
    )


@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "gemma-3-12b", "gpt2",
                                   "qwen3-next-80b-a3b", "falcon-7b", "gemma-4-e2b"])  # fmt: skip
def test_rows_sum_to_the_total_and_fit_says_by_how_much(model, method):
    memory = finetuning_memory(model, device="h100-sxm", method=method, zero_stage=3, dp=8)
    assert sum(size for _, size in memory.breakdown()) == pytest.approx(memory.total_bytes_per_device)
    assert all(size >= 0 for _, size in memory.breakdown())
    assert memory.total_bytes == 8 * memory.total_bytes_per_device
    short = memory.total_bytes_per_device - memory.device_bytes_per_device
    assert memory.fits == (short <= 0)
    assert memory.shortfall_bytes_per_device == max(0, short)


def test_without_a_device_nothing_is_said_about_fitting():
    memory = finetuning_memory("llama-2-7b")
    assert (memory.fits, memory.shortfall_bytes_per_device) == (None, None)


def test_arrays_answer_as_each_of_their_elements():
    batch, seq_len, dp = np.array([[1], [4]]), np.array([512, 2048, 8192]), 8
    how = {"method": "lora", "zero_stage": 3, "checkpointing": "full", "tp": 2}
    table = finetuning_memory("llama-3.1-8b", device="l40s", batch=batch, seq_len=seq_len, dp=dp, **how)
    assert table.total_bytes_per_device.shape == table.fits.shape == (2, 3)
    one = finetuning_memory("llama-3.1-8b", device="l40s", batch=4, seq_len=8192, dp=8, **how)
    assert table.total_bytes_per_device[1, 2] == pytest.approx(one.total_bytes_per_device)
    ranks = finetuning_memory("llama-3.1-8b", zero_stage=3, dp=np.array([1, 8]))
    assert ranks.weights_bytes_per_device.tolist() == [2 * 8_030_261_248, 2 * 8_030_261_248 / 8]
    assert ranks.gathered_bytes_per_device.tolist() == [0, 2 * 525_336_576]  # the embedding is largest


def test_small_functions_take_symbols():
    sympy = pytest.importorskip("sympy")
    t, w, s, v, p = sympy.symbols("t w s v p", positive=True)
    assert sympy.expand(layer_activation_bytes(t, w, s, 0, p) - t * w / p - t * s) == 0
    assert logits_bytes(t, v, p) == 14 * t * v / p
    assert state_bytes(t, 12, zero_partitions(1, p)["optimizer"]) == 12 * t / p
    assert overhead_bytes(t).free_symbols == {t}


def test_tensor_parallelism_cuts_everything_but_norms_and_whole_activations():
    one, two = (finetuning_memory("llama-2-7b", method="lora", tp=tp) for tp in (1, 2))
    assert two.weights_bytes_per_device == pytest.approx(one.weights_bytes_per_device / 2, rel=1e-4)
    assert two.logits_bytes_per_device == one.logits_bytes_per_device / 2
    assert one.adapters_bytes_per_device / 2 < two.adapters_bytes_per_device < one.adapters_bytes_per_device


def test_experts_get_adapters_for_gate_and_up_each():
    """Mixtral 8x7B, rank 8 on the experts' up matrices: 32 layers, 8 experts, 4096 to 14336."""
    rows = adapters(calc.load_model("mixtral-8x7b"), 8, "moe.experts.up_proj")
    assert sum(weight.parameters * count for weight, count in rows) == 32 * 8 * 8 * (4096 + 14336)
    gate = adapters(calc.load_model("mixtral-8x7b"), 8, "moe.experts.gate_proj,moe.experts.up_proj")
    assert sum(weight.parameters * count for weight, count in gate) == 2 * 32 * 8 * 8 * (4096 + 14336)


def is_answered(model) -> bool:
    kinds = {layer.attention.kind for layer in model.layers if layer.attention}
    return kinds <= set(finetuning.KEPT_OF_KIND) and not model.encoder_layers


def test_all_models_are_answered_or_say_in_one_line_that_they_are_not():
    models = [calc.load_model(model_id) for model_id in calc.model_ids()]
    for model in filter(is_answered, models):
        memory = finetuning_memory(model, method="lora", checkpointing="full")
        assert memory.total_bytes_per_device > memory.weights_bytes_per_device > 0
    for model in models:
        if not is_answered(model):
            with pytest.raises(calc.SpecError, match=r"^.* is not answered.*$"):
                finetuning_memory(model)
    assert sum(map(is_answered, models)) > 100


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"method": "lroa"}, "unknown method 'lroa': did you mean 'lora'?"),
        ({"optimizer": "adam"}, "unknown optimizer 'adam': did you mean 'adamw'?"),
        ({"zero_stage": 4}, "zero_stage: 4 is not allowed"),
        ({"batch": 0}, "batch: 0 is not allowed"),
        ({"dp": 1.5}, "dp: 1.5 is not allowed"),
        ({"tp": 3}, "tp: 3 does not divide the 32 attention heads"),
        ({"checkpointing": "some"}, "unknown checkpointing 'some'"),
        ({"weights_dtype": "fp8"}, "unknown weights_dtype of full 'fp8'"),
        ({"method": "qlora", "weights_dtype": "nf5"}, "did you mean 'nf4'?"),
        ({"grad_dtype": "int8"}, "unknown grad_dtype 'int8'"),
        ({"method": "lora", "lora_targets": "q_prj"}, "unknown lora target 'q_prj': did you mean 'q_proj'?"),
        ({"method": "lora", "lora_targets": []}, "unknown lora target ''"),
        ({"bach": 2}, "unknown fine-tuning setting 'bach': did you mean 'batch'?"),
    ],
)
def test_wrong_settings_are_one_line(how, message):
    with pytest.raises(calc.SpecError) as error:
        finetuning_memory("llama-2-7b", **how)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def options(**given) -> SimpleNamespace:
    defaults = {
        "model": "llama-3.1-8b", "device": "h100-sxm", "method": "lora", "batch": "4", "seq": "4k",
        "optimizer": "adamw", "weights": None, "grads": None, "adapters": "fp32", "no_master": False,
        "zero": "3", "dp": "8", "tp": "1", "checkpointing": "full", "no_flash": False, "rank": "16",
        "targets": "all-linear", "json": False, "csv": False,
    }  # fmt: skip
    return SimpleNamespace(**defaults | given)


def test_the_command_reports_that_it_fits_and_exits_with_0():
    output, code = finetune.run(options())
    assert code == 0
    assert "fits: needs " in output
    assert "overhead, assumed" in output


def test_the_command_says_by_how_much_it_does_not_fit_and_exits_with_1():
    output, code = finetune.run(options(checkpointing="none", json=True))
    record = json.loads(output)
    assert (code, record["fits"], record["schema_version"]) == (1, False, 1)
    assert record["shortfall_bytes_per_device"] > 0
    assert sum(record["bytes_per_device"].values()) == pytest.approx(record["total_bytes_per_device"])
    assert record["scenario"]["weights_dtype"] == "bf16"
    header, row = finetune.run(options(csv=True))[0].splitlines()
    assert len(header.split(",")) == len(row.split(","))
