"""What a benchmark says while it runs, apart from what it prints."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)
