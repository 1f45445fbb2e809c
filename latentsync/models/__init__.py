"""Weights: where they lie, how they load, where they come from."""
