"""Masks that are trained: on units, and on single weights."""
