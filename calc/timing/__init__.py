"""How long: one operation, one collective, one step."""
