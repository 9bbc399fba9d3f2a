"""How good answers are, with intervals: of rows that may count more than once. No torch."""
