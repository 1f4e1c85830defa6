"""Loading models: by id, by Hugging Face name, or from a config.json of your own."""

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path

from calc.specs.errors import SpecError, unknown_name
from calc.specs.facts import fact_from, sources_from, spec_files
from calc.specs.hf_config import model_from_config
from calc.specs.model import Model
from calc.specs.strict_yaml import read_yaml


def load_model(name: str | Model) -> Model:
    """Return a model by id, Hugging Face name or path.

    Parameters
    ----------
    name : str
        ``"llama-3.1-70b"``, ``"meta-llama/Llama-3.1-70B"``, or the path of a model spec
        (``.yaml``), a ``config.json`` or a folder that holds one.

    Raises
    ------
    SpecError
        If the name is not known (with the nearest one) or the file is not valid.

    Examples
    --------
    >>> load_model("meta-llama/Meta-Llama-3.1-70B").n_layers
    80
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
    if key is None:
        raise unknown_name("model", text, [*files, *_alias_names(files)], hint="or the path of a config.json")
    return _shipped_model(files[key])


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


def _alias_names(files: Mapping[str, Path]) -> list[str]:
    return [alias for path in files.values() for alias in read_yaml(path).get("aliases", ())]


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
        config_sources=tuple(sources[key] for key in ([named] if isinstance(named, str) else named)),
        note=data.get("note", ""),
        path=str(path),
    )


def _model_from_json(path: Path) -> Model:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(config, dict):
        raise SpecError(f"{path}: expected a mapping of fields, found {type(config).__name__}")
    name = path.parent.name if path.stem == "config" else path.stem
    return model_from_config(config, where=str(path), id=name.lower(), name=name, path=str(path))
