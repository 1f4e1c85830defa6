"""One YAML file per device: what the vendor prints, every number with its source."""
