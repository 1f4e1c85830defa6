"""Reading config files from the Hugging Face hub, with the ``hub`` extra installed."""

import re
from importlib import import_module
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def hub_files(name: str) -> tuple[Path | None, Path | None, str]:
    """Return where config.json and hf_quant_config.json of a model lie, and why not.

    Parameters
    ----------
    name : str
        ``"organisation/name"``; others are not asked for.

    Returns
    -------
    (Path or None, Path or None, str)
        The two files, None where there is none, and the reason for a missing config.json.

    Examples
    --------
    >>> hub_files("llama")
    (None, None, '')
    """
    if not _NAME.fullmatch(name):
        return None, None, ""
    try:
        hub = import_module("huggingface_hub")
    except ImportError:
        return None, None, "with pip install 'ullage[hub]' its config.json would be read from huggingface.co"
    try:
        config = hub.hf_hub_download(name, "config.json", etag_timeout=10)
    except Exception as error:  # whatever the library, the network or the site raises
        return None, None, f"huggingface.co gave no config.json ({type(error).__name__})"
    try:
        quantization = Path(hub.hf_hub_download(name, "hf_quant_config.json", etag_timeout=10))
    except Exception:  # most models have none
        quantization = None
    return Path(config), quantization, ""
