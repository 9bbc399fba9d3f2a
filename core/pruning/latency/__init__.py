"""Milliseconds: runtimes, the stopwatch, prices of units, budgets in time."""
