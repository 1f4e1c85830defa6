"""One YAML file per model: architecture facts, names and source."""
