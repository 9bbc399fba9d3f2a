"""What is said of a job while it runs, by a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from core.pruning.job.progress import Prices, Teller, share
from core.spec.messages import Alive, Message, Note, Saved, StageBegun, StageProgress

PRICES: Prices = {(None, "teach"): 100.0, (None, "prune"): 0.0, (None, "recover"): 300.0}


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def at(stage: str, step: int, steps: int) -> StageProgress:
    return StageProgress(stage=stage, step=step, steps=steps)


def told(said: list[Message]) -> list[tuple[float | None, float | None]]:
    return [(one.overall, one.eta_s) for one in said if isinstance(one, StageProgress)]


@pytest.mark.parametrize(
    ("progress", "found"),
    [
        (at("teach", 0, 50), 0.0),
        (at("teach", 25, 50), 0.125),
        (at("prune", 40, 40), 0.25),
        (at("recover", 1, 2), 0.625),
        (at("recover", 2, 2), 1.0),
    ],
)
def test_a_share_goes_by_what_the_stages_cost(progress: StageProgress, found: float) -> None:
    assert share(PRICES, progress) == pytest.approx(found)


def test_a_job_that_trains_nothing_has_a_share() -> None:
    assert share(dict.fromkeys(PRICES, 0.0), at("prune", 40, 40)) == 0.0


def test_the_time_left_follows_from_the_pace_of_this_attempt() -> None:
    said: list[Message] = []
    clock = Clock(1000.0)
    hears = Teller(said.append, clock=clock).weighing(PRICES)
    hears(at("recover", 1, 2))  # gone on from there
    clock.now += 60
    hears(at("recover", 2, 3))
    assert told(said) == [(0.594, None), (0.712, pytest.approx(145.3))]


def test_the_control_is_the_second_half_and_says_so() -> None:
    said: list[Message] = []
    own = Teller(said.append, width=0.5)
    control = Teller(said.append, control=True, start=0.5, width=0.5)
    for teller in (own, control):
        with teller.stage("teach"):
            hears = teller.weighing(PRICES)
            hears(at("teach", 50, 50))
            hears(Alive())
    assert [one.control for one in said if isinstance(one, StageBegun | StageProgress)] == [False, False, True, True]
    assert [overall for overall, _ in told(said)] == [0.119, 0.619]
    assert said.count(Alive()) == 2


def test_stages_are_timed_and_those_of_an_earlier_attempt_count() -> None:
    said: list[Message] = []
    clock = Clock()
    teller = Teller(said.append, clock=clock)
    with teller.stage("teach"):
        clock.now += 5
        assert teller.elapsed() == 5
    with teller.stage("prune"):
        teller.took("prune", 40.0)
        clock.now += 1
    teller.saved("prune")
    teller.saved()
    teller.note("hello")
    assert teller.timings == {"teach": 5, "prune": 41}
    begun = [StageBegun(stage="teach"), StageBegun(stage="prune")]
    assert said == [*begun, Saved(stage="prune"), Saved(stage="part"), Note(message="hello")]


def test_each_size_has_its_share_and_its_time_and_all_have_what_is_common() -> None:
    said: list[Message] = []
    clock = Clock()
    teller = Teller(said.append, clock=clock)
    with teller.stage("teach"):
        clock.now += 5
    large, small = teller.of("params-0.4"), teller.of("params-0.1")
    prices = {(None, "teach"): 10.0, ("params-0.4", "recover"): 20.0, ("params-0.1", "recover"): 10.0}
    hears = teller.weighing(prices)
    for size in (large, small):
        with size.stage("recover"):
            size.sized(hears)(at("recover", 1, 2))
            clock.now += 7
    assert [one.size for one in said if isinstance(one, StageBegun | StageProgress)] == [
        None,
        *["params-0.4"] * 2,
        *["params-0.1"] * 2,
    ]
    assert [overall for overall, _ in told(said)] == [pytest.approx(0.95 * part, abs=1e-3) for part in (0.5, 0.875)]
    assert dict(small.timings) == {"teach": 5, "recover": 7} and dict(teller.timings) == {"teach": 5}


def test_signs_of_life_come_once_a_second() -> None:
    said: list[Message] = []
    clock = Clock(100.0)
    teller = Teller(said.append, clock=clock)
    for _ in range(30):
        teller.alive()
        clock.now += 0.1
    assert len(said) == 3


def test_all_that_a_pass_took_is_what_its_sizes_took_too() -> None:
    clock = Clock()
    teller = Teller(lambda _message: None, clock=clock)
    for who, stage, seconds in ((teller, "teach", 10), (teller.of("a"), "prune", 3), (teller.of("b"), "recover", 4)):
        with who.stage(stage):
            clock.now += seconds
    assert teller.seconds == 17 and teller.timings == {"teach": 10}
