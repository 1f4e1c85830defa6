"""What our weights are called in a checkpoint, and patterns over such names."""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

#: part of a layer -> how families name its module
_PARTS: Mapping[str, tuple[str, ...]] = {
    "attention": ("self_attn", "attn", "attention", "mixer"),
    "linear_attention": ("linear_attn", "self_attn"),
    "mamba": ("mixer", "mamba"),
    "indexer": ("self_attn.indexer", "self_attn", "attn.indexer"),
    "mlp": ("mlp", "feed_forward", "ffn", "mixer"),
    "moe.experts": (
        "mlp.experts.0", "block_sparse_moe.experts.0", "feed_forward.experts.0", "ffn.experts.0",
        "mixer.experts.0",
    ),
    "shared_expert": (
        "mlp.shared_experts", "mlp.shared_expert", "block_sparse_moe.shared_experts",
        "feed_forward.shared_expert", "ffn.shared_experts", "mixer.shared_experts", "shared_mlp",
    ),
    "per_layer_input": ("",),
}  # fmt: skip

#: Gemma 4 keeps its routed experts beside the dense part that every token passes
_GEMMA4 = {"moe.experts": ("experts.0",), "shared_expert": ("mlp",)}

_UP, _DOWN = ("gate_proj", "up_proj", "gate_up_proj", "w1", "w3"), ("down_proj", "w2")

#: matrices of a layer -> the last part of their modules' names
_LEAVES: Mapping[str, tuple[str, ...]] = {
    "attention.q_proj": ("q_proj",),
    "attention.k_proj": ("k_proj",),
    "attention.v_proj": ("v_proj",),
    "attention.o_proj": ("o_proj", "out_proj", "wo_b"),
    "attention.o_a_proj": ("wo_a", "o_a_proj"),
    "attention.o_b_proj": ("wo_b", "o_b_proj"),
    "attention.gate_proj": ("g_proj", "gate_proj"),
    "attention.q_a_proj": ("q_a_proj", "wq_a"),
    "attention.q_b_proj": ("q_b_proj", "wq_b"),
    "attention.kv_a_proj": ("kv_a_proj_with_mqa", "wkv"),
    "attention.kv_b_proj": ("kv_b_proj",),
    "attention.kv_proj": ("wkv", "kv_proj"),
    "indexer.q_b_proj": ("wq_b",),
    "indexer.q_proj": ("index_q_proj", "q_proj"),
    "indexer.k_proj": ("wk", "index_k_proj", "k_proj"),
    "linear_attention.qkv_proj": ("in_proj_qkv", "in_proj_qkvz", "qkv_proj", "q_proj", "k_proj", "v_proj"),
    "linear_attention.gate_proj": ("in_proj_z", "in_proj_qkvz", "g_proj", "output_gate"),
    "linear_attention.decay_a_proj": ("f_a_proj",),
    "linear_attention.decay_b_proj": ("f_b_proj",),
    "linear_attention.gate_a_proj": ("g_a_proj",),
    "linear_attention.gate_b_proj": ("g_b_proj",),
    "linear_attention.beta_proj": ("b_proj",),
    "linear_attention.out_proj": ("out_proj", "o_proj"),
    "mamba.in_proj": ("in_proj",),
    "mamba.x_proj": ("x_proj",),
    "mamba.dt_proj": ("dt_proj",),
    "mamba.out_proj": ("out_proj",),
    "mlp.gate_proj": ("gate_proj", "w1"),
    "mlp.up_proj": ("up_proj", "w3"),
    "mlp.down_proj": _DOWN,
    "moe.experts.up_proj": _UP,
    "moe.experts.down_proj": _DOWN,
    "shared_expert.gate_proj": ("gate_proj", "w1"),
    "shared_expert.up_proj": ("up_proj", "w3"),
    "shared_expert.down_proj": _DOWN,
    "per_layer_input.gate": ("per_layer_input_gate",),
    "per_layer_input.proj": ("per_layer_projection",),
}


def layer_modules(family: str) -> dict[str, tuple[str, ...]]:
    """Return what the matrices of a layer may be called in a checkpoint, below the layer.

    Examples
    --------
    >>> layer_modules("llama")["attention.q_proj"][0], layer_modules("gemma4")["moe.experts.down_proj"]
    ('self_attn.q_proj', ('experts.0.down_proj', 'experts.0.w2'))
    """
    parts = {**_PARTS, **(_GEMMA4 if family.startswith("gemma4") else {})}
    names = {}
    for name, leaves in _LEAVES.items():
        holders = parts[name.rsplit(".", 1)[0]]
        names[name] = tuple(f"{holder}.{leaf}".lstrip(".") for holder in holders for leaf in leaves)
    return names


#: matrices outside of the layers
OUTER_MODULES: Mapping[str, tuple[str, ...]] = {
    "embed_tokens": ("embed_tokens", "embed"),
    "lm_head": ("lm_head", "head"),
}

_LAYER = re.compile(r"layers\\?\.(\d+)(?=\\?\.)")
_NUMBERED = re.compile(r"layers\\?\.(\d+)(?=(\*|\\?\.|\s|$))")


def plain_name(module: str) -> str:
    """Return a module's name without what multimodal checkpoints and families put before it.

    Examples
    --------
    >>> plain_name("model.language_model.layers.3.mlp"), plain_name("language_model.lm_head")
    ('layers.3.mlp', 'lm_head')
    """
    name = module.replace("language_model.", "", 1)
    for prefix in ("model.", "backbone.", "text_model."):
        name = name.removeprefix(prefix)
    return name


def _spellings(module: str) -> tuple[str, ...]:
    return (
        f"model.{module}", module, f"language_model.model.{module}", f"model.language_model.{module}",
        f"language_model.{module}", f"backbone.{module}",
    )  # fmt: skip


class LayerMentions:
    """Which layers rules mention by number, so that those treated alike are looked at once.

    Examples
    --------
    >>> mentions = LayerMentions(["model.layers.0.mlp*", "model.layers.2.mlp*", "lm_head"])
    >>> mentions.of(0) == mentions.of(2), mentions.of(0) == mentions.of(1)
    (True, False)
    """

    def __init__(self, rules: Iterable[str]):
        self._rules: dict[str, set[str]] = {}
        self._prefixes: set[str] = set()
        self._unclear = False
        for rule in rules:
            found = _NUMBERED.search(rule)
            if found and found.group(2) == "*":
                self._prefixes.add(found.group(1))
            elif found:
                rest = f"{rule[: found.start(1)]}#{rule[found.end(1) :]}"
                self._rules.setdefault(found.group(1), set()).add(rest)
            elif "layers" in rule and any(map(str.isdigit, rule)):
                self._unclear = True  # an expression over numbers

    def of(self, layer: int) -> object:
        """Return what is said of a layer; equal answers for layers that rules treat alike."""
        number = str(layer)
        if self._unclear or any(number.startswith(prefix) for prefix in self._prefixes):
            return layer
        return frozenset(self._rules.get(number, ()))


@lru_cache(maxsize=4096)
def _compiled(expression: str) -> re.Pattern:
    """Return a regular expression; one that matches nothing where it is not valid."""
    try:
        return re.compile(expression)
    except re.error:
        return re.compile(r"(?!)")


class Patterns:
    """Names, globs and regular expressions (``re:``) as quantisation configs list modules.

    A name matches itself and what is below it; one that does not start at a layer matches
    anywhere between dots. Patterns that name a layer by number are looked at for it only.

    Examples
    --------
    >>> some = Patterns(["lm_head", "model.layers.0.*", "re:.*self_attn.*", "gate"])
    >>> names = ("lm_head", "layers.0.mlp.up_proj", "layers.1.mlp.gate", "layers.1.mlp.up_proj")
    >>> [some.match(name) for name in names]
    [True, True, True, False]
    """

    def __init__(self, patterns: Iterable[str]):
        self._names: set[str] = set()
        self._fragments: set[str] = set()
        self._expressions: dict[str | None, list[tuple[str, bool]]] = {}
        for pattern in patterns:
            self._add(pattern)

    def _add(self, pattern: str) -> None:
        if pattern.startswith("re:"):
            expressions, normal = [pattern[3:]], False
        elif any(letter in pattern for letter in "*?["):
            name = plain_name(pattern)
            expressions, normal = [fnmatch.translate(name), fnmatch.translate(f"{name}.*")], True
        else:
            name = plain_name(pattern)
            (self._names if name.startswith(("layers.", "mtp.")) else self._fragments).add(name)
            return
        layer = _LAYER.search(pattern)
        bucket = self._expressions.setdefault(layer.group(1) if layer else None, [])
        bucket += [(expression, normal) for expression in expressions]

    def match(self, module: str) -> bool:
        """Whether any pattern names a module (as ``plain_name`` gives it) or what contains it."""
        words = module.split(".")
        if any(".".join(words[: end + 1]) in self._names for end in range(len(words))):
            return True
        if any(f".{fragment}." in f".{module}." for fragment in self._fragments):
            return True
        layer = words[words.index("layers") + 1] if "layers" in words[:-1] else None
        patterns = self._expressions.get(None, []) + (self._expressions.get(layer, []) if layer else [])
        return any(
            _compiled(expression).match(name) for expression, normal in patterns
            for name in ((module, f"model.{module}") if normal else _spellings(module))
        )  # fmt: skip
