"""Requests that arrive at a rate, without simulation: a chain from step to step, and a queue for places."""
