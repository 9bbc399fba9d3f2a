"""Pictures: does transfer help where few are labelled, and what is a structure worth?

`python -m benchmarks.images` (see __main__.py).
"""
