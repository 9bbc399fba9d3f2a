"""Which pruning method, at what price: `python -m benchmarks.methods` (resumable; see `--help`).

Cells, runs and bookkeeping are those of benchmarks/transfer; here are peers for zeros, and the table.
"""
