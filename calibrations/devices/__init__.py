"""Kernel efficiencies and fixed costs per op kind and dtype."""
