"""Loading models: by id, by Hugging Face name, or from a config.json of your own."""

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from calc.specs.checkpoint_names import derived_name, quantization_for
from calc.specs.errors import SpecError, short, unknown_name
from calc.specs.facts import Source, fact_from, sources_from, spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.hub import hub_files
from calc.specs.model import Model
from calc.specs.strict_yaml import read_yaml


def load_model(name: str | Model) -> Model:
    """Return a model by id, Hugging Face name or path.

    Parameters
    ----------
    name : str
        ``"llama-3.1-70b"``, ``"meta-llama/Llama-3.1-70B"``, a quantised copy or fine-tune
        that carries its base in the name, the path of a model spec (``.yaml``), of a
        ``config.json`` or of a folder that holds one; any other ``"organisation/name"`` is
        looked up on the Hugging Face hub where the ``hub`` extra is installed.

    Raises
    ------
    SpecError
        If the name is not known (with the nearest one) or the file is not valid.

    Examples
    --------
    >>> load_model("meta-llama/Meta-Llama-3.1-70B").n_layers
    80
    >>> model = load_model("casperhansen/llama-3.1-70b-instruct-awq")
    >>> model.checkpoint.weight_dtype, model.note
    ('int4-awq', 'shape of Llama 3.1 70B, from the name')
    """
    if isinstance(name, Model):
        return name
    text = str(name)
    path = Path(text)
    if text.endswith((".yaml", ".yml")):
        return _model_from_spec(path, own=True)
    if text.endswith(".json") or (path / "config.json").is_file():
        return _model_from_json(path if text.endswith(".json") else path / "config.json")
    files = spec_files("model_specs")
    key = text.lower()
    if key not in files:
        key = _id_of_alias(key, files)
    return _shipped_model(files[key]) if key else _derived_model(text) or _hub_model(text)


def model_ids() -> list[str]:
    """Ids of all shipped models.

    Examples
    --------
    >>> "llama-3.1-70b" in model_ids()
    True
    """
    return list(spec_files("model_specs"))


def _id_of_alias(alias: str, files: Mapping[str, Path]) -> str | None:
    """Return the model an alias names; only files that mention it are parsed."""
    for model_id in (name for name, text in _texts().items() if alias in text):
        aliases = read_yaml(files[model_id]).get("aliases", ())
        if alias in (name.lower() for name in aliases):
            return model_id
    return None


@lru_cache(maxsize=1)
def _texts() -> dict[str, str]:
    """Text of every shipped spec in lower case."""
    files = spec_files("model_specs")
    return {name: path.read_text(encoding="utf-8").lower() for name, path in files.items()}


@lru_cache(maxsize=1)
def _known_names() -> dict[str, str]:
    """Every name of a shipped model -> its id; read as text, which is quicker than parsing."""
    names = {}
    for model_id, path in spec_files("model_specs").items():
        names[model_id] = model_id
        text = path.read_text(encoding="utf-8")
        aliases = re.search(r"^aliases: *\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
        for alias in aliases.group(1).replace("\n", " ").split(",") if aliases else ():
            if alias.strip():
                names[alias.strip().strip("\"'")] = model_id
    return names


@lru_cache(maxsize=256)
def _derived_model(name: str) -> Model | None:
    """Return the model that a name is derived from, under that name and in its format."""
    derived = derived_name(name, _known_names())
    if derived is None:
        return None
    path = spec_files("model_specs")[derived.base]
    base, config, owner = _shipped_model(path), dict(read_yaml(path)["config"]), name.rpartition("/")[0]
    quantization = quantization_for(derived, owner, config.get("model_type", ""))
    if quantization is not None:
        config = _requantised(config, quantization)
    return model_from_config(
        config,
        where=f"{path}: config",
        id=name.rpartition("/")[2].lower(),
        name=name.rpartition("/")[2],
        aliases=(name,),
        config_kind="derived",
        config_sources=base.config_sources,
        note=f"shape of {base.name}, from the name",
        path=str(path),
    )


def _requantised(config: Mapping, quantization: Mapping) -> dict:
    """Return a config with another ``quantization_config``, none where that is empty."""
    config = {
        key: value for key, value in config.items() if key not in ("quantization_config", "expert_dtype")
    }
    if isinstance(config.get("text_config"), Mapping):
        config["text_config"] = {
            key: value for key, value in config["text_config"].items() if key != "quantization_config"
        }
    return {**config, **({"quantization_config": dict(quantization)} if quantization else {})}


def _hub_model(name: str) -> Model:
    """Return a model whose config.json the hub has.

    Raises
    ------
    SpecError
        If it has none or cannot be asked, with the nearest known name.
    """
    config, quantization, reason = hub_files(name)
    if config is None:
        hint = f"or the path of a config.json{'; ' + reason if reason else ''}"
        raise unknown_name("model", name, _known_names(), hint=hint)
    source = Source("hub", f"config.json of {name}", f"https://huggingface.co/{name}")
    identity = {"aliases": (name,), "config_kind": "published", "config_sources": (source,)}
    return _model_from_json(config, quantization, name, **identity)


@cache
def _shipped_model(path: Path) -> Model:
    return _model_from_spec(path)


def _model_from_spec(path: Path, own: bool = False) -> Model:
    from calc.specs.schema import check_file

    data = read_yaml(path)
    check_file("model", data, path)
    if not own and data["id"] != path.stem:
        raise SpecError(f"{path}: id {data['id']!r} must equal the file's name")
    sources = sources_from(data["sources"])
    named = data["config_source"]
    named = [named] if isinstance(named, str) else named
    for key in named:
        if key not in sources:
            raise SpecError(f"{path}: config_source {short(key)!r} is not in the file's list of sources")
    return model_from_config(
        data["config"],
        where=f"{path}: config",
        id=data["id"],
        name=data["name"],
        aliases=tuple(data.get("aliases", ())),
        published={
            key: fact_from(row, sources, f"{path}: published.{key}")
            for key, row in (data.get("published") or {}).items()
        },
        config_kind=data["config_kind"],
        config_sources=tuple(sources[key] for key in named),
        note=data.get("note", ""),
        path=str(path),
    )


def _model_from_json(path: Path, quantization: Path | None = None, name: str = "", **identity) -> Model:
    """Return the model of a config.json; hf_quant_config.json beside it says how it is quantised."""
    config = _mapping_from(path)
    beside = quantization or path.parent / "hf_quant_config.json"
    if "quantization_config" not in config and path.name == "config.json" and beside.is_file():
        quantised = _mapping_from(beside).get("quantization")
        if not isinstance(quantised, dict):
            raise SpecError(f"{beside}: quantization is missing")
        if quantised.get("quant_algo"):
            config = {**config, "quantization_config": {**quantised, "quant_method": "modelopt"}}
    if not name:
        name = path.parent.name if path.stem == "config" else path.stem
        identity["path"] = str(path)
    last = name.rpartition("/")[2]
    return model_from_config(config, where=str(path), id=last.lower(), name=last, **identity)


def _mapping_from(path: Path) -> dict:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected a mapping of fields, found {type(data).__name__}")
    return data
