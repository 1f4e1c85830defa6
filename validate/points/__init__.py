"""Measured points as operations: each row's work comes from the predictor's own functions."""
