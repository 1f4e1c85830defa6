"""Vision towers: counted as named weights, so that memory and totals are right; no operations."""

from calc.specs.hf_config.fields import Fields
from calc.specs.model import Weight

_LAYERS = 500


def _linear(name: str, d_out: int, d_in: int, copies: int = 1, bias: bool = True) -> tuple[Weight, ...]:
    weights = (Weight(f"vision.{name}", "vision", d_out, d_in, copies),)
    return (*weights, Weight(f"vision.{name}.bias", "vision", d_out, 1, copies)) if bias else weights


def _layer_norm(name: str, width: int, copies: int = 1) -> tuple[Weight, ...]:
    return _linear(name, width, 1, copies)


def _text_width(c: Fields) -> int:
    return c.section("text_config").count("hidden_size")


def _blocks(d: int, d_ff: int, depth: int) -> tuple[Weight, ...]:
    """Return plain transformer blocks: fused qkv, output, two-layer MLP, two LayerNorms."""
    return (
        *_linear("blocks.qkv", 3 * d, d, depth),
        *_linear("blocks.proj", d, d, depth),
        *_linear("blocks.fc1", d_ff, d, depth),
        *_linear("blocks.fc2", d, d_ff, depth),
        *_layer_norm("blocks.norm", d, 2 * depth),
    )


def qwen3_vl(c: Fields) -> tuple[Weight, ...]:
    """Qwen3-VL and Qwen3.5: patches in space and time, mergers, deep-stack mergers."""
    v = c.section("vision_config")
    d, d_ff, depth = v.count("hidden_size"), v.count("intermediate_size"), v.count("depth", most=_LAYERS)
    frames = v.count("in_channels", default=3) * v.count("temporal_patch_size", default=2)
    patch = frames * v.count("patch_size") ** 2
    merged = d * v.count("spatial_merge_size", default=2) ** 2
    out = v.count("out_hidden_size")
    deep = len(v.counts("deepstack_visual_indexes", []))
    weights = (
        *_linear("patch_embed", d, patch),
        *_linear("pos_embed", v.count("num_position_embeddings"), d, bias=False),
        *_blocks(d, d_ff, depth),
        *_layer_norm("merger.norm", d),
        *_linear("merger.fc1", merged, merged, 1 + deep),
        *_linear("merger.fc2", out, merged, 1 + deep),
    )
    return (*weights, *_layer_norm("deepstack_merger.norm", merged, deep)) if deep else weights


def siglip(c: Fields) -> tuple[Weight, ...]:
    """Gemma 3: a SigLIP tower, a norm and one projection."""
    v = c.section("vision_config")
    d, d_ff = v.count("hidden_size"), v.count("intermediate_size")
    depth, patch = v.count("num_hidden_layers", most=_LAYERS), v.count("patch_size")
    n_patches = (v.count("image_size") // patch) ** 2
    weights = (
        *_linear("patch_embed", d, v.count("num_channels", default=3) * patch**2),
        *_linear("pos_embed", n_patches, d, bias=False),
        *_blocks(d, d_ff, depth),
        *_layer_norm("post_norm", d),
        Weight("vision.projector.norm", "vision", d),
    )
    return (*weights, *_linear("projector", _text_width(c), d, bias=False))


def gemma4(c: Fields) -> tuple[Weight, ...]:
    """Gemma 4: gated blocks without biases, norms of queries and keys, a two-axis position table."""
    v = c.section("vision_config")
    d, d_ff = v.count("hidden_size"), v.count("intermediate_size")
    depth = v.count("num_hidden_layers", most=_LAYERS)
    n_heads, d_head = v.count("num_attention_heads"), v.count("head_dim")
    kv = v.count("num_key_value_heads", default=n_heads) * d_head
    return (
        *_linear("patch_embed", d, 3 * v.count("patch_size") ** 2, bias=False),
        *_linear("pos_embed", v.count("position_embedding_size"), d, 2, bias=False),
        *_linear("blocks.q_proj", n_heads * d_head, d, depth, bias=False),
        *_linear("blocks.kv_proj", 2 * kv, d, depth, bias=False),
        *_linear("blocks.o_proj", d, n_heads * d_head, depth, bias=False),
        *_linear("blocks.mlp", d_ff, d, 3 * depth, bias=False),
        *_linear("blocks.qk_norm", d_head, 1, 2 * depth, bias=False),
        *_linear("blocks.norm", d, 1, 4 * depth, bias=False),
        *_linear("projector", _text_width(c), d, bias=False),
    )


def kimi(c: Fields) -> tuple[Weight, ...]:
    """Kimi K2.5: a MoonViT tower with a patch-merging projector."""
    v = c.section("vision_config")
    d = v.count("vt_hidden_size", "hidden_size")
    d_ff = v.count("vt_intermediate_size", "intermediate_size")
    depth = v.count("vt_num_hidden_layers", "num_hidden_layers", most=_LAYERS)
    rows = v.count("init_pos_emb_height", "pos_emb_height", most=10**5)
    columns = v.count("init_pos_emb_width", "pos_emb_width", default=rows, most=10**5)
    merge = v.counts("merge_kernel_size", [2, 2])
    if len(merge) != 2 or not all(0 < size <= 64 for size in merge):
        raise v.wrong("merge_kernel_size", "two whole numbers from 1 to 64")
    merged = d * merge[0] * merge[1]
    return (
        *_linear("patch_embed", d, 3 * v.count("patch_size") ** 2),
        *_linear("pos_embed", rows * columns, d, bias=False),
        *_blocks(d, d_ff, depth),
        *_layer_norm("post_norm", d),
        *_layer_norm("projector.norm", v.count("mm_hidden_size", default=d)),
        *_linear("projector.in_proj", merged, merged),
        *_linear("projector.out_proj", _text_width(c), merged),
    )


def llama4(c: Fields) -> tuple[Weight, ...]:
    """Llama 4: a tower with a class token, a pixel-shuffle adapter and one projection."""
    v = c.section("vision_config")
    d, d_ff = v.count("hidden_size"), v.count("intermediate_size")
    depth, patch = v.count("num_hidden_layers", most=_LAYERS), v.count("patch_size")
    n_patches = (v.count("image_size") // patch) ** 2 + 1
    d_in, d_out = v.count("projector_input_dim"), v.count("projector_output_dim")
    return (
        *_linear("patch_embed", d, v.count("num_channels", default=3) * patch**2, bias=False),
        *_linear("class_embed", d, 1, bias=False),
        *_linear("pos_embed", n_patches, d, bias=False),
        *_layer_norm("norm", d, 2),
        *_blocks(d, d_ff, depth),
        *_linear("adapter.fc1", d_in, d_ff, bias=False),
        *_linear("adapter.fc2", d_out, d_out, bias=False),
        *_linear("projector", _text_width(c), v.count("vision_output_dim"), bias=False),
    )


def minimax_m3(c: Fields) -> tuple[Weight, ...]:
    """MiniMax-M3: a tower with a norm before it, a projector and a patch-merging one after it."""
    v = c.section("vision_config")
    compression = v.section("img_token_compression_config") if "img_token_compression_config" in v else v
    frames = compression.count("temporal_patch_size", default=2)
    merged = compression.count("spatial_merge_size", default=2, most=64) ** 2
    d, d_ff, d_text = v.count("hidden_size"), v.count("intermediate_size"), _text_width(c)
    depth, d_projector = v.count("num_hidden_layers", most=_LAYERS), c.count("projector_hidden_size")
    patch = v.count("num_channels", default=3) * frames * v.count("patch_size") ** 2
    return (
        *_linear("patch_embed", d, patch, bias=False),
        *_layer_norm("pre_norm", d),
        *_blocks(d, d_ff, depth),
        *_linear("projector.fc1", d_projector, d),
        *_linear("projector.fc2", d_text, d_projector),
        *_linear("patch_merger.fc1", d_projector, d_text * merged),
        *_linear("patch_merger.fc2", d_text, d_projector),
    )


def pixtral(c: Fields) -> tuple[Weight, ...]:
    """Mistral Small 3.1 and 3.2: gated blocks without biases, a patch merger, two projections."""
    v = c.section("vision_config")
    d, d_ff, d_text = v.count("hidden_size"), v.count("intermediate_size"), _text_width(c)
    depth, n_heads = v.count("num_hidden_layers", most=_LAYERS), v.count("num_attention_heads")
    inner = n_heads * v.count("head_dim", default=max(1, d // n_heads))
    merged = d * c.count("spatial_merge_size", default=2, most=64) ** 2
    bias = c.flag("multimodal_projector_bias")
    return (
        *_linear(
            "patch_embed", d, v.count("num_channels", default=3) * v.count("patch_size") ** 2, bias=False
        ),
        *_linear("norm", d, 1, 2, bias=False),  # before the blocks, and before the projector
        *_linear("blocks.qkv", 3 * inner, d, depth, bias=False),
        *_linear("blocks.proj", d, inner, depth, bias=False),
        *_linear("blocks.mlp", d_ff, d, 3 * depth, bias=False),
        *_linear("blocks.norm", d, 1, 2 * depth, bias=False),
        *_linear("patch_merger", d, merged, bias=False),
        *_linear("projector.fc1", d_text, d, bias=bias),
        *_linear("projector.fc2", d_text, d_text, bias=bias),
    )
