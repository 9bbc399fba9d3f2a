"""The HTTP face: routes, problems, downloads. Knows the specification and the ledger; never imports torch."""
