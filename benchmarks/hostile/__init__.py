"""What hostile input costs: `python -m benchmarks.hostile`."""
