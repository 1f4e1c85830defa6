"""Dispatch: which builder reads which ``model_type``."""

from collections.abc import Callable, Mapping
from typing import Any

from calc.specs.errors import SpecError, unknown_name
from calc.specs.hf_config import (
    deepseek_v4,
    encoder_decoder,
    gemma,
    hybrid,
    kimi_linear,
    latent,
    legacy,
    llama_like,
    moe,
    state_space,
    vision,
)
from calc.specs.hf_config.checkpoint import checkpoint_of
from calc.specs.hf_config.fields import Fields, shown
from calc.specs.model import Model, Weight

#: model_type -> builder(fields) -> dict of Model fields
BUILDERS: dict[str, Callable[[Fields], dict]] = {
    **dict.fromkeys(llama_like.DENSE, llama_like.build),
    **dict.fromkeys(("mixtral", "minimax_m2", "olmoe"), moe.build_mixtral),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe"), moe.build_qwen),
    "gpt_oss": moe.build_gpt_oss,
    "glm4_moe": moe.build_glm4_moe,
    "dbrx": moe.build_dbrx,
    "llama4_text": moe.build_llama4,
    "mimo_v2_flash": moe.build_mimo_v2,
    "step3p7": moe.build_step3p7,
    "minimax_m3": moe.build_minimax_m3,
    "nemotron-nas": llama_like.build_nemotron_nas,
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"), latent.build),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), hybrid.build_qwen),
    **dict.fromkeys(("minimax", "minimax_text_01"), hybrid.build_minimax),
    **dict.fromkeys(("deepseek_v4", "deepseek_ref"), deepseek_v4.build),
    "kimi_linear": kimi_linear.build,
    **dict.fromkeys(("mamba", "falcon_mamba"), state_space.build_mamba),
    "mamba2": state_space.build_mamba2,
    "jamba": state_space.build_jamba,
    "bamba": state_space.build_bamba,
    "granitemoehybrid": state_space.build_granite,
    "nemotron_h": state_space.build_nemotron_h,
    "t5": encoder_decoder.build_t5,
    "bart": encoder_decoder.build_bart,
    "whisper": encoder_decoder.build_whisper,
    "gemma4_text": gemma.build_gemma4,
    **dict.fromkeys(("gpt2", "gpt_bigcode"), legacy.build_gpt2),
    "gptj": legacy.build_gptj,
    "gpt_neox": legacy.build_gpt_neox,
    "opt": legacy.build_opt,
    "bloom": legacy.build_bloom,
    "mpt": legacy.build_mpt,
    "falcon": legacy.build_falcon,
    "phi": legacy.build_phi,
}

#: model_type of a model with a tower -> model_type of its text part, weights of the tower
TOWERS: dict[str, tuple[str, Callable[[Fields], tuple[Weight, ...]]]] = {
    "qwen3_vl": ("qwen3", vision.qwen3_vl),
    "qwen3_vl_moe": ("qwen3_moe", vision.qwen3_vl),
    "qwen3_5": ("qwen3_5_text", vision.qwen3_vl),
    "qwen3_5_moe": ("qwen3_5_moe_text", vision.qwen3_vl),
    "minimax_m3_vl": ("minimax_m3", vision.minimax_m3),
    "gemma3": ("gemma3_text", vision.siglip),
    "gemma4": ("gemma4_text", vision.gemma4),
    "mistral3": ("mistral", vision.pixtral),
    "kimi_vl": ("deepseek_v3", vision.kimi),
    "kimi_k25": ("kimi_k2", vision.kimi),
    "kimi_k3": ("kimi_linear", kimi_linear.vision),
    "llama4": ("llama4_text", vision.llama4),
}

#: model_type -> what in it no class of calc.work counts yet
NOT_YET = {
    "falcon_h1": "attention and Mamba-2 side by side in one layer",
    "zamba": "layers that share one attention block",
    "zamba2": "layers that share one attention block",
}


def model_from_config(config: Mapping[str, Any], where: str = "config.json", **identity) -> Model:
    """Return the Model that a config.json describes.

    Parameters
    ----------
    config : mapping
        The fields of the file.
    where : str
        What to call it in error messages.
    **identity
        Further fields of the Model: id, name, aliases, published figures.

    Raises
    ------
    SpecError
        If the family is not known, or a field is missing or not what it should be.
    """
    if not isinstance(config, Mapping):
        raise SpecError(f"{where}: expected a mapping of fields, got {shown(config)}")
    c = Fields(config, where)
    family = c.text("model_type")
    if family in NOT_YET:
        known = ", ".join(sorted({*BUILDERS, *TOWERS}))
        missing = NOT_YET[family]
        raise SpecError(f"{where}: model_type {family!r}: {missing} not counted yet; known are {known}")
    if family in TOWERS:
        fields = _with_tower(c, *TOWERS[family])
    elif family in BUILDERS:
        fields = BUILDERS[family](c)
    else:
        raise unknown_name("model_type", shown(family).strip("'"), [*BUILDERS, *TOWERS], hint=where)
    return Model(family=family, checkpoint=checkpoint_of(c), **fields, **identity)


def _with_tower(c: Fields, text_type: str, tower: Callable[[Fields], tuple[Weight, ...]]) -> dict:
    """Return the Model fields of a text part and, where the config has one, its vision tower."""
    text = c.section("text_config")
    inherited = {"model_type": text_type}
    if "tie_word_embeddings" not in text and "tie_word_embeddings" in c:
        inherited["tie_word_embeddings"] = c.flag("tie_word_embeddings")
    fields = BUILDERS[text_type](Fields({**text.config, **inherited}, text.where))
    if "vision_config" in c:
        fields["outer"] = (*fields["outer"], *tower(c))
    return fields
