"""Tests of the benchmarks: their arithmetic and their bookkeeping, on small things."""
