"""Layers with channels of their own, against shared ones: `python -m benchmarks.readers` (see __main__.py)."""
