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
    size = {"family": 0.81, "alone": 0.80, "change": change, "on_dev": change, "seconds_alone": 100.0}
    line: dict[str, Any] = {"pair": "a->b", "dense": 0.85, "sizes": {"0.1": size}, "ratio": 1.4, "knee": None}
    page = table([line | {"seed": seed, "recommended": "params-0.1" if seed else None} for seed in (0, 1)])
    assert "| a->b, 10% | 2 | 85.0 | 81.0 | 80.0 | +1.0 ± 0.0 |" in page
    assert "| a->b, 0 | 1.40 | none |  |  |" in page and "| a->b, 1 | 1.40 | params-0.1 | -2.1 |  |" in page
