"""Which one: searches and launch commands."""
