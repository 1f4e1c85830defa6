"""One YAML file per provider: dated price rows with source."""
