"""How many examples a property is tried on, and whether they are the same each time.

`make test` draws the same examples on every machine; `make fresh` ten times as many, from a seed that it prints.
"""

from __future__ import annotations

from typing import Any

import hypothesis

hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis.settings.register_profile("fresh", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci")  # the default; pytest loads another if it is asked to


def draws(examples: int = 100, **more: Any) -> hypothesis.settings:
    """Settings for a property: so many examples, or ten times as many of fresh ones."""
    fresh = hypothesis.settings.get_current_profile_name() == "fresh"
    return hypothesis.settings(max_examples=examples * (10 if fresh else 1), **more)
