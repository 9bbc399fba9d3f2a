"""The measured claims: one runnable file a claim, results as committed JSON and Markdown in `results/`."""
