"""YAML as we allow it: safe, no duplicate keys, no numbers that load as text."""

import re
from functools import lru_cache
from pathlib import Path

from calc.specs.errors import SpecError, short

_DEEPEST = 50  # levels of nesting
_NUMBER_AS_TEXT = re.compile(r"^[-+]?[0-9][0-9_.,]*[eE][-+]?[0-9]+$")


@lru_cache(maxsize=1)
def _loader():
    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class StrictLoader(base):
        """Safe loader that refuses duplicate keys and numbers written like 4.8e12."""

    def mapping(loader, node, deep=False):
        loader.flatten_mapping(node)
        seen = {}
        for key_node, value_node in node.value:
            scalar = isinstance(key_node, yaml.ScalarNode)
            key = loader.construct_object(key_node, deep=deep) if scalar else None
            if not scalar or not isinstance(key, str | int | float | None):
                line = key_node.start_mark.line + 1
                raise SpecError(f"line {line}: a key must be a word, found a {key_node.id} {key_node.tag}")
            if key in seen:
                raise SpecError(f"line {key_node.start_mark.line + 1}: key {short(repr(key))} appears twice")
            seen[key] = loader.construct_object(value_node, deep=True)
        return seen

    def text(loader, node):
        value = loader.construct_scalar(node)
        if not node.style and _NUMBER_AS_TEXT.match(value):
            raise SpecError(
                f"line {node.start_mark.line + 1}: {short(value)!r} would load as text; "
                "write a smaller number with a unit prefix, e.g. 4.8 and TB/s"
            )
        return value

    StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    StrictLoader.add_constructor("tag:yaml.org,2002:str", text)
    # dates stay text: "2026-11-22" is a label here, not arithmetic
    StrictLoader.add_constructor(
        "tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node)
    )
    return yaml, StrictLoader


def _brackets(text: str) -> int:
    return sum(text.count(opening) for opening in ("[", "{", "- -"))


def _check_shape(yaml, loader, text: str) -> None:
    """Refuse aliases, which can blow up a short file, and nesting without end."""
    depth, problem = 0, ""
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            problem = f"write the value out instead of *{event.anchor}"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            problem = f"nested too deep; allowed are {_DEEPEST} levels"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def read_yaml(path: Path) -> dict:
    """Return the mapping in a YAML file.

    Raises
    ------
    SpecError
        If the file cannot be read, is not a mapping, has a duplicate key or a number
        written as ``4.8e12`` (which YAML would load as text).
    """
    yaml, loader = _loader()
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
        if len(text) > 20_000 or "*" in text or _brackets(text) > _DEEPEST:
            _check_shape(yaml, loader, text)
        data = yaml.load(text, Loader=loader)  # a subclass of the safe loader
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f", line {line + 1}" if line is not None else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise SpecError(f"{path}{at}: not valid YAML ({problem})") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected a mapping of keys at the top, found {type(data).__name__}")
    return data
