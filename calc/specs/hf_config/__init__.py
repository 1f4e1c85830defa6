"""From a Hugging Face config.json to a Model: one small builder per family."""

from calc.specs.hf_config.families import model_from_config

__all__ = ["model_from_config"]
