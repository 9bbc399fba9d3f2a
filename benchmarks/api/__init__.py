"""What it costs to run the service: `python -m benchmarks.api`."""
