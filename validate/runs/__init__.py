"""Measured end-to-end runs: reading them, answering them, fitting engines' overheads on them."""
