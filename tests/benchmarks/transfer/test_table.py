"""What the table says of lines."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.transfer import table
from benchmarks.transfer.cells import (
    STEPS,
    Cell,
    Choice,
    plan,
)
from tests.benchmarks.transfer.helpers import FEW, line


def test_intervals_are_students() -> None:
    assert table.interval([1.0]) == (1.0, None)
    centre, half = table.interval([80.0, 82.0, 84.0])
    assert centre == 82.0
    assert half == pytest.approx(4.303 * 2 / 3**0.5)
    assert table.paired({0: 3.0, 1: 5.0, 2: 1.0}, {0: 1.0, 2: 4.0}) == [2.0, -3.0]
    assert table.way_closed({0: 84.0, 1: 88.0}, {0: 80.0, 1: 80.0}, {0: 90.0, 1: 90.0}) == pytest.approx(0.6)
    assert table.way_closed({0: 84.0}, {0: 80.0}, {0: 80.1}) is None


def runs() -> list[dict[str, Any]]:
    """Three seeds of none and teacher, one of auto under a harmful source; a run of other steps."""
    lines = []
    for seed in range(3):
        lines.append(line(Cell("movies->yelp", 100, 0.05, "none", seed), 0.80 + seed / 100, dense=0.86))
        lines.append(line(Cell("movies->yelp", 100, 0.05, "teacher", seed), 0.84 + seed / 100, dense=0.90 + seed / 100))
    off = {"transfer": {"auto": {"trials": [], "related": [0.01]}}}
    lines.append(line(Cell("shuffled->yelp", 100, 0.05, "auto", 0), 0.79) | off)
    lines.append(line(Cell("movies->yelp", 100, 0.05, "joint", 0), 0.1, steps=FEW))
    return lines


def test_the_table_pairs_by_seed_and_says_what_was_not_run() -> None:
    text = table.markdown(runs(), plan(Choice()), {"auto": "not built"}, STEPS)
    assert "| `teacher` | 3 | 85.0 ± 2.5 | +4.0 ± 0.0 |  | 40% |" in text
    assert "| `none` | 3 | 81.0 ± 2.5 |  | +4.0 ± 0.0 |  |" in text
    assert "| `dense` | 3 | 86.0 ± 0.0 | +5.0 ± 2.5 | -1.0 ± 2.5 |  |" in text
    assert "| `dense-transfer` | 3 | 91.0 ± 2.5 | +10.0 ± 0.0 | -6.0 ± 0.0 |  |" in text
    harmful = text[text.index("## shuffled->yelp") :]
    assert "| `auto` | 1 | 79.0 (one seed) | -1.0 (one seed) |" in harmful  # against the none of the same target
    assert "`joint`" in next(row for row in text.splitlines() if row.startswith("Not run"))
    assert "- mail->sms, 100 rows, 0.05 kept" in text
    assert "- `auto` anywhere: not built" in text


def test_the_table_says_what_the_mean_of_the_tokens_gives() -> None:
    """Of the seeds that were run both ways."""
    cells = {("own", 0): 0.80, ("own", 1): 0.82, ("own", 2): 0.5, ("own-mean", 0): 0.81, ("own-mean", 1): 0.83}
    lines = [line(Cell("mail->sms", 100, 0.05, arm, seed), value) for (arm, seed), value in cells.items()]
    text = table.markdown(lines, [], {}, STEPS)
    assert "| mail->sms, 100 rows, 0.05 kept | `own` | 2 | 81.0 ± 12.7 | 82.0 ± 12.7 | +1.0 ± 0.0 |" in text
    assert "## Where the answer is read" not in table.markdown(lines[:3], [], {}, STEPS)


def test_the_table_says_how_far_trials_are_from_jobs() -> None:
    lines = runs()[:6]  # seeds 0, 1, 2, each ahead by 4 points
    for seed, seen in enumerate((0.04, 0.06, 0.00)):
        trial = {"choice": "teacher in teach, prune, recover", "seen": seen, "error": 0.03}
        none = {"choice": "none", "seen": 0.0, "error": 0.0}
        found = line(Cell("movies->yelp", 100, 0.05, "auto", seed), 0.84)
        lines.append(found | {"transfer": {"auto": {"trials": [none, trial], "related": [0.5 + seed / 10]}}})
    lines[1]["pruned"]["accuracy"]["value"] = 0.85
    text = table.markdown(lines, plan(Choice()), {}, STEPS)
    said = text[text.index("## What `auto` saw") :]
    assert "| movies->yelp | 100 | 0.05 | 0.50, 0.60, 0.70 |" in said
    # Off by -1, 2 and -4: the square root of 7. Jobs were ahead by 5, 4 and 4.
    assert "3 trials are also arms above." in said and "by 2.6 points (root mean square; expected: 3.0)" in said
    assert "correlate by +0.19" in said


def test_the_table_of_no_runs_says_so() -> None:
    text = table.markdown([], plan(Choice()), {}, STEPS)
    assert "0 runs" in text
    assert "- movies->yelp, 100 rows, 0.05 kept" in text
