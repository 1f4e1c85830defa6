"""YAML as we allow it: safe, no duplicate keys, no numbers that load as text."""

import re
from functools import lru_cache
from pathlib import Path

from calc.specs.errors import SpecError

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
            key = loader.construct_object(key_node, deep=deep)
            if isinstance(key, dict | list):
                raise SpecError(f"line {key_node.start_mark.line + 1}: a key must be a word, found {key!r}")
            if key in seen:
                raise SpecError(f"line {key_node.start_mark.line + 1}: key {key!r} appears twice")
            seen[key] = loader.construct_object(value_node, deep=True)
        return seen

    def text(loader, node):
        value = loader.construct_scalar(node)
        if not node.style and _NUMBER_AS_TEXT.match(value):
            raise SpecError(
                f"line {node.start_mark.line + 1}: {value!r} would load as text; "
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
            data = yaml.load(stream, Loader=loader)  # a subclass of the safe loader
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        at = f", line {line + 1}" if line is not None else ""
        raise SpecError(f"{path}{at}: not valid YAML ({getattr(error, 'problem', None) or error})") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected a mapping of keys at the top, found {type(data).__name__}")
    return data
