"""Per-step overheads and memory defaults of serving engines."""
