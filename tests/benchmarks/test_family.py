"""What benchmarks/family asks for, and the page that it makes."""

from __future__ import annotations

from typing import Any

from benchmarks.family import SIZES, TASKS, spec_of, table


def test_the_one_job_asks_for_what_the_jobs_alone_do() -> None:
    for pair in TASKS:
        family, alone = spec_of(pair, 0, SIZES), [spec_of(pair, 0, [size]) for size in SIZES]
        assert [*family.sizes] == alone


def test_the_page_has_a_row_a_size_and_a_row_a_job() -> None:
    change = {"value": -0.021, "low": -0.03, "high": -0.01}
    lines: list[dict[str, Any]] = []
    for seed in (0, 1):
        one = {"pair": "a->b", "seed": seed, "dense": 0.85, "change": [change] * 4, "knee": None}
        one |= {"recommended": "params-0.1" if seed else None, "seconds": {"teach": 100.0, "recover": 180.0}}
        lines.append(one | {"sizes": [*SIZES], "quality": [0.84, 0.83, 0.81, 0.78]})
        each = {"pair": "a->b", "seed": seed, "seconds": {"teach": 1.0, "recover": 100.0}, "quality": [0.80]}
        lines += [each | {"sizes": [size]} for size in SIZES]
    page = table(lines)
    assert "| a->b, 10% | 2 | 85.0 | 81.0 | 80.0 | +1.0 ± 0.0 |" in page
    assert "| a->b, 0 | 1.40 | none | +0.0 |  |" in page and "| a->b, 1 | 1.40 | params-0.1 | -2.1 |  |" in page
    assert "a->b" not in table(lines[:1])  # until all of its jobs have been run
