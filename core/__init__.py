"""The product without its web face: what is asked (spec), what is known (ledger), how it is done (pruning)."""
