"""For how much: prices and cost."""
