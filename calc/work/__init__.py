"""How much work: weights, caches and operations."""
