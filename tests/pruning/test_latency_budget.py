"""A budget in time: prices from a table, the correction by what was measured, and what is measured only once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given

from core.domains.fit import Scores
from core.domains.structure import Structure
from core.domains.transformer.load import load_network
from core.pruning.latency import quiet, stopwatch
from core.pruning.latency.budget import AIM, FLOOR, ROUNDS, LatencyBudget
from core.pruning.latency.prices import ByUnits, key_of, learn, levels, prices, smallest
from core.pruning.latency.runtimes import Conditions, conditions
from core.pruning.latency.stopwatch import Reading, Stopwatch, in_turn
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.modality import Blank
from core.rows.text.processor import Text
from core.spec.budget import Budget
from core.spec.errors import SpecError
from tests.builders import MINILM, cost_of, scores_of
from tests.draws import draws
from tests.tiny import save_tiny_model

HERE = Conditions("torch", "cpu", "a CPU", 1, 1, 128)
DENSE_MS = 20.0
TRUTH = cost_of(MINILM, 5_100, 9_000, 60, 7_000, layer=4_000, outside=6_000)  # in some unit of time


class Clock:
    """A machine whose latencies are known: those of TRUTH, bent by `bend`."""

    def __init__(self, bend: Callable[[float], float] = lambda ratio: ratio) -> None:
        self.bend, self.seen = bend, list[Structure]()

    def __call__(self, structure: Structure) -> Reading:
        self.seen.append(structure)
        ms = DENSE_MS * self.bend(TRUTH.model(structure) / TRUTH.model(Structure.dense(MINILM.anatomy)))
        return Reading(ms, DENSE_MS, ms, 0.0, 10)


def drawn(seed: int, head_bias: float = 0.0) -> Scores:
    rng = np.random.default_rng(seed)
    return scores_of(rng.normal(size=(6, 12)) + head_bias, rng.normal(size=(6, 1536)))


def budget_of(tmp_path: Path, measure: Callable[[Structure], Reading], cache: Path | None = None, **asked: Any) -> Any:
    return LatencyBudget(Budget(**asked), ByUnits(MINILM), HERE, measure, tmp_path / "latency.json", cache)


@draws(40)
@given(numbers=st.tuples(*[st.integers(0, 10**6)] * 5), seed=st.integers(0, 99))
def test_prices_are_found_again(numbers: tuple[int, ...], seed: int) -> None:
    """A machine that is as the cost model says, some units for nothing, is predicted everywhere."""
    head, attention, neuron, ffn, fixed = numbers
    truth = cost_of(MINILM, head, attention, neuron, ffn, outside=fixed + 1)
    dense = truth.model(Structure.dense(MINILM.anatomy))
    first, *others = (truth.model(structure) / dense for structure in [smallest(MINILM), *levels(MINILM)])
    readings = iter(others)
    table = learn(lambda _: Reading(next(readings), 1, 1, 0, 1), MINILM, Reading(first, 1, 1, 0, 1))
    found = prices(MINILM, table)
    rng = np.random.default_rng(seed)
    some = Structure.of([range(rng.integers(13)) for _ in range(6)], [range(rng.integers(1537)) for _ in range(6)])
    predicted = found.model(some) / found.model(Structure.dense(MINILM.anatomy))
    assert predicted == pytest.approx(truth.model(some) / dense, rel=1e-3, abs=1e-4)
    assert min(found.unit) >= 1 and min(*found.block, found.outside) >= 0


@draws(12)
@given(
    speedup=st.floats(1.05, 8),
    power=st.floats(0.9, 1.1),  # how far from the table whole models are
    seed=st.integers(0, 99),
    head_bias=st.floats(-2, 2),
)
def test_the_limit_is_kept_and_nearly_reached(
    speedup: float, power: float, seed: int, head_bias: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock(lambda ratio: ratio**power)
    budget = budget_of(tmp_path_factory.mktemp("state"), clock, speedup=speedup)
    clock.seen.clear()
    structure = budget.fit(drawn(seed, head_bias))
    assert 1 <= len(clock.seen) <= ROUNDS
    report = budget.report(structure, budget.fits)
    assert report.met <= report.limit == pytest.approx(DENSE_MS / speedup)
    assert report.met >= 0.9 * report.limit  # a few heads are much of a small limit, and the rounds are few
    assert report.met == pytest.approx(DENSE_MS * report.fraction)
    assert [one.kept for one in report.measured.fits].count(True) == 1


def test_a_full_disk_costs_what_was_measured_and_not_the_job(tmp_path: Path) -> None:
    budget = budget_of(tmp_path / "no folder", Clock(), speedup=2)
    structure = budget.fit(drawn(0))
    assert budget.report(structure, budget.fits).met <= DENSE_MS / 2


@pytest.mark.parametrize("speedup", [1.3, 2.5, 5])
def test_a_regular_layout_is_fitted_by_the_clock_too(speedup: float, tmp_path: Path) -> None:
    """A dropped layer takes its LayerNorms' time along, which no price of the table says: that is measured."""
    clock = Clock()
    budget = LatencyBudget(Budget(speedup=speedup), ByUnits(MINILM, "regular"), HERE, clock, tmp_path / "latency.json")
    structure = budget.fit(drawn(0))
    kept = structure.remaining()
    assert {*map(len, kept.heads)} == {12} and len({*map(len, kept.neurons)}) == 1
    report = budget.report(structure, budget.fits)
    assert 0.9 * report.limit <= report.met <= report.limit
    with pytest.raises(SpecError, match=r"at most 12\.0 times as fast"):
        LatencyBudget(Budget(speedup=13), ByUnits(MINILM, "regular"), HERE, clock, tmp_path / "latency.json")


def test_no_budget_in_time_takes_the_last_head(tmp_path: Path) -> None:
    clock = Clock()
    budget = LatencyBudget(Budget(speedup=10), ByUnits(MINILM), HERE, clock, tmp_path / "latency.json")
    structure = budget.fit(drawn(0, -99))
    assert sum(map(len, structure.heads)) == 1
    assert budget.report(structure, budget.fits).met <= DENSE_MS / 10
    with pytest.raises(SpecError, match="out of reach"):
        LatencyBudget(Budget(speedup=1000), ByUnits(MINILM), HERE, clock, tmp_path / "latency.json")


def test_a_pruned_model_is_timed_too(tmp_path: Path) -> None:
    """Blocks of all sizes, some gone: there is a table of them, too, and it is not the whole model's."""
    shape = {"heads": [[0, 1], [], [5], [*range(12)], [], [3]], "neurons": [700, 0, 90, 1536, 1, 40]}
    left = MINILM.left(shape)
    truth = cost_of(left, 5_100, 9_000, 60, 7_000, outside=6_000)

    def measure(structure: Structure) -> Reading:
        ms = DENSE_MS * truth.model(structure) / truth.model(Structure.dense(left.anatomy))
        return Reading(ms, DENSE_MS, ms, 0.0, 10)

    budget = LatencyBudget(Budget(speedup=1.5), ByUnits(left), HERE, measure, tmp_path / "latency.json")
    structure = budget.fit(Scores(np.random.default_rng(0).normal(size=left.anatomy.size)))
    report = budget.report(structure, budget.fits)
    assert 0.9 * report.limit <= report.met <= report.limit
    assert key_of(left, HERE) != key_of(MINILM, HERE) and json.loads(json.dumps(key_of(left, HERE))) == key_of(
        left, HERE
    )
    for gone in ({"heads": [[0]] * 6, "neurons": [0] * 6}, {"heads": [[]] * 6, "neurons": [0, 9, 0, 0, 0, 0]}):
        few = MINILM.left(gone)
        assert sum(map(len, smallest(few).kept)) == 1
        assert all(len(row) <= block.size for row, block in zip(smallest(few).kept, few.anatomy.blocks, strict=True))


def test_too_slow_is_fitted_again_with_what_was_measured(tmp_path: Path) -> None:
    """The table is right about the levels; what is fitted takes a fifth longer than it says."""
    known = {smallest(MINILM), *levels(MINILM)}
    clock = Clock()
    honest = clock.__call__

    def measure(structure: Structure) -> Reading:
        reading = honest(structure)
        return reading if structure in known else replace(reading, ms=1.2 * reading.ms)

    budget = budget_of(tmp_path, measure, latency_ms=5)
    structure = budget.fit(drawn(0))
    slow, kept = budget.fits
    assert slow["of_dense"] == pytest.approx(1.2 * AIM * 5 / DENSE_MS, rel=0.01) and not slow["kept"]
    assert kept["kept"] and FLOOR * 5 <= kept["ms"] <= 5
    assert honest(structure).ms == pytest.approx(AIM * 5 / 1.2, rel=0.01)


def test_nothing_over_the_limit_is_ever_kept(tmp_path: Path) -> None:
    """A machine so noisy that no reading holds: the job fails, with what can be reached."""
    rng = np.random.default_rng(0)
    budget = budget_of(tmp_path, Clock(), latency_ms=5)
    budget.measure = lambda _structure: Reading(5 + rng.random(), DENSE_MS, 9.0, 1.0, 10)
    with pytest.raises(
        SpecError, match=r"not met: this model takes [\d.]+ to 20 ms .*; what was fitted .* took 5"
    ) as e:
        budget.fit(drawn(0))
    assert e.value.field == "/budget/latency_ms" and len(budget.fits) == ROUNDS


@pytest.mark.parametrize(("asked", "field"), [({"latency_ms": 0.01}, "latency_ms"), ({"speedup": 500}, "speedup")])
def test_out_of_reach_names_the_measured_range(asked: dict[str, float], field: str, tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"out of reach: .* to 20 ms .* a batch of 1 with 128 tokens, by torch on a CPU"
    ):
        budget_of(tmp_path, Clock(), **asked)
    with pytest.raises(SpecError) as caught:
        budget_of(tmp_path, Clock(), **asked)
    assert caught.value.field == f"/budget/{field}"


def test_more_time_than_dense_takes_keeps_everything(tmp_path: Path) -> None:
    clock = Clock()
    budget = budget_of(tmp_path, clock, latency_ms=3 * DENSE_MS)
    clock.seen.clear()
    assert budget.fit(drawn(0)) == Structure.dense(MINILM.anatomy)
    assert len(clock.seen) == 1


@pytest.mark.parametrize("asked", [3.6e6, 1e308])
def test_however_much_time_there_is_everything_is_kept(asked: float, tmp_path: Path) -> None:
    budget = Budget.model_construct(latency_ms=asked)  # as an earlier version took it
    latency = LatencyBudget(budget, ByUnits(MINILM), HERE, Clock(), tmp_path / "latency.json")
    assert latency.fit(drawn(0)) == Structure.dense(MINILM.anatomy)


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    """Not by the next attempt; and the table not by the next job on this machine."""
    clock = Clock()
    whole = budget_of(tmp_path, clock, tmp_path / "cache", speedup=3)
    assert clock.seen == [smallest(MINILM), *levels(MINILM)]

    def never(_structure: Structure) -> Reading:
        raise AssertionError("measured again")

    again = budget_of(tmp_path, never, speedup=3)
    assert (again.cost, again.limit, again.share) == (whole.cost, whole.limit, whole.share)

    other = Clock()
    (tmp_path / "latency.json").unlink()
    assert budget_of(tmp_path, other, tmp_path / "cache", speedup=3).cost == whole.cost
    assert other.seen == [smallest(MINILM)]  # what the machine is like at the moment

    (tmp_path / "latency.json").unlink()
    (table,) = (tmp_path / "cache").iterdir()
    table.write_text("{")
    broken = Clock()
    assert budget_of(tmp_path, broken, tmp_path / "cache", speedup=3).cost == whole.cost
    assert len(broken.seen) == 1 + len(levels(MINILM))


def test_another_machine_measures_for_itself(tmp_path: Path) -> None:
    budget_of(tmp_path, Clock(), tmp_path / "cache", speedup=3)
    clock = Clock()
    elsewhere = replace(HERE, device_name="another CPU")
    LatencyBudget(Budget(speedup=3), ByUnits(MINILM), elsewhere, clock, tmp_path / "latency.json", tmp_path / "cache")
    assert len(clock.seen) == 1 + len(levels(MINILM))


def test_what_was_decided_on_stays_that_machines(tmp_path: Path) -> None:
    """A job that goes on elsewhere says what it was measured on, and decides alike if it has to decide again."""
    budget = budget_of(tmp_path, Clock(), latency_ms=5)
    structure = budget.fit(drawn(0))

    def never(_structure: Structure) -> Reading:
        raise AssertionError("measured elsewhere")

    elsewhere = replace(HERE, device_name="another CPU")
    later = LatencyBudget(Budget(latency_ms=5), ByUnits(MINILM), elsewhere, never, tmp_path / "latency.json")
    report = later.report(structure, later.fits)
    assert report.measured.device_name == "a CPU" and report.measured.again is None
    assert report.met <= report.limit == 5 and [one.model_dump() for one in report.measured.fits] == budget.fits
    assert later.fit(drawn(0)) == structure


def test_a_table_that_was_half_measured_is_gone_on_with(tmp_path: Path) -> None:
    clock, seen = Clock(), list[Structure]()

    def dies(structure: Structure) -> Reading:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(structure)
        return clock(structure)

    with pytest.raises(KeyboardInterrupt):
        budget_of(tmp_path, dies, speedup=3)
    clock.seen.clear()
    budget_of(tmp_path, clock, speedup=3)
    assert [*seen, *clock.seen] == [smallest(MINILM), *levels(MINILM)]


def test_a_failed_decision_is_measured_anew(tmp_path: Path) -> None:
    budget = budget_of(tmp_path, Clock(), latency_ms=5)
    budget.measure = lambda _structure: Reading(6, DENSE_MS, 9.0, 1.0, 10)
    with pytest.raises(SpecError, match="not met"):
        budget.fit(drawn(0))
    budget_of(tmp_path, Clock(), latency_ms=5).fit(drawn(0))


class Shared:
    """A machine on which other work makes structures that are not in the table slow, until its end is waited for."""

    def __init__(self, slow: Callable[[Structure], bool], waited: float, others: bool) -> None:
        self.clock, self.slow, self.waited, self.others, self.settled = Clock(), slow, waited, others, 0

    def __call__(self, structure: Structure) -> Reading:
        reading = self.clock(structure)
        return reading if self.settled or not self.slow(structure) else replace(reading, ms=15, waited=self.waited)

    def settle(self) -> bool:
        self.settled += 1
        return self.others

    def budget(self, tmp_path: Path) -> LatencyBudget:
        asked = Budget(latency_ms=5)
        return LatencyBudget(asked, ByUnits(MINILM), HERE, self, tmp_path / "latency.json", settle=self.settle)


@pytest.mark.parametrize(("waited", "others"), [(0.4, False), (0.0, True)], ids=["passes waited", "others work"])
def test_what_was_read_beside_other_work_is_read_again_before_a_limit_is_refused(
    waited: float, others: bool, tmp_path: Path
) -> None:
    shared = Shared(lambda structure: structure == smallest(MINILM), waited, others)
    budget = shared.budget(tmp_path)
    assert shared.settled == 1 and shared.clock.seen.count(smallest(MINILM)) == 2
    assert budget.latency.lowest_ms < 2  # as it is on a quiet machine
    (tmp_path / "latency.json").unlink()
    shared = Shared(lambda structure: structure not in (smallest(MINILM), *levels(MINILM)), waited, others)
    budget = shared.budget(tmp_path)
    assert shared.settled == 0
    assert budget.report(budget.fit(drawn(0)), budget.fits).met <= 5 and shared.settled == 1


def test_a_quiet_machine_is_believed_at_once_and_a_busy_one_the_second_time(tmp_path: Path) -> None:
    for waited, times in ((0.0, 1), (0.4, 2)):
        shared = Shared(lambda structure: structure == smallest(MINILM), waited, others=False)
        shared.clock.bend = lambda _ratio: 0.9
        with pytest.raises(SpecError, match="out of reach"):
            shared.budget(tmp_path)
        assert (shared.settled, shared.clock.seen.count(smallest(MINILM))) == (1, times)
        (tmp_path / "latency.json").unlink()


def test_the_end_of_other_work_is_waited_for_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two cores, in ticks: one is taken for three looks."""
    looks, said, lived = [0], list[str](), list[int]()

    def sleep(_seconds: float) -> None:
        looks[0] += 1
        show()

    def show() -> None:
        busy = 100 * min(looks[0], 3)
        (tmp_path / "stat").write_text(f"cpu  {busy} 0 0 {200 * looks[0] - busy} 0 0 0 0 0 0\ncpu0 1 2\n")

    show()
    monkeypatch.setattr(quiet, "STAT", tmp_path / "stat")
    monkeypatch.setattr(quiet.time, "sleep", sleep)
    assert quiet.quieten(said.append, lambda: lived.append(1)) is True
    assert looks == [4] and len(lived) == 3 and len(said) == 1 and "50%" in said[0] and "120 s at most" in said[0]
    assert quiet.quieten(said.append, lambda: None) is False and len(said) == 1
    looks[0] = 0
    show()
    assert quiet.quieten(said.append, lambda: lived.append(1), limit_s=0) is True and len(lived) == 3
    monkeypatch.setattr(quiet, "STAT", tmp_path / "none")
    assert quiet.others() == 0.0


def test_what_is_fitted_again_and_was_too_slow_gives_way_to_less(tmp_path: Path) -> None:
    """A fit that takes coarse steps, as a regular layout's, may come to the same structure with a smaller aim."""
    steps = [Structure.of([range(12)] * 6, [range(n)] * 6) for n in (1200, 800, 400)]
    budget = budget_of(tmp_path, Clock(), latency_ms=DENSE_MS)
    budget.find = lambda _scores, cost, limit: next(s for s in steps if cost.of(s) <= limit)
    budget.share = budget.cost.model(steps[1]) / budget.cost.model(Structure.dense(MINILM.anatomy)) / AIM * 1.1
    honest = budget.measure
    budget.measure = lambda s: replace(honest(s), ms=1.01 * budget.share * DENSE_MS) if s == steps[1] else honest(s)
    assert budget.fit(drawn(0)) == steps[2]


# --- the real stopwatch -----------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few passes as there can be."""
    monkeypatch.setattr(stopwatch, "SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_a_wait_that_the_kernel_books_late_takes_no_work_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(stopwatch, "_waited_s", lambda: float(next(clock)))  # a second more at each look
    took, waited = stopwatch.timed(lambda: sum(range(200_000)))
    assert 0 <= waited < took


def test_passes_take_turns() -> None:
    said: list[str] = []
    times, waited = in_turn({name: lambda name=name: said.append(name) for name in "ab"})  # type: ignore[misc]
    turns = [name for i, name in enumerate(said) if i == 0 or said[i - 1] != name]
    assert turns == ["a", "b"] * (len(turns) // 2) and len(turns) >= 2 * stopwatch.ROUNDS[0]
    assert len(times["a"]) == len(times["b"]) and all(0 <= w <= t for w, t in zip(waited["a"], times["a"], strict=True))


def blank_of(model: Path) -> Blank:
    """Batches of what a BERT reads."""
    return Blank(Text(load_tokenizer(model), 128), ("input_ids", "token_type_ids", "attention_mask"))


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("runtime", ["torch", "torch.compile", "onnx", "onnx-int8"])
def test_every_runtime_runs_what_can_be_left(runtime: str, tmp_path: Path) -> None:
    small = save_tiny_model(tmp_path / "small", layers=2, hidden=32, neurons=16)
    network = load_network(small, ["neg", "pos"], seed=0).eval()
    under = conditions(Budget.model_validate({"speedup": 2, "runtime": runtime, "batch_size": 3}), length=9)
    assert (under.batch_size, under.length, under.device) == (3, 9, "cpu")
    watch = Stopwatch(network, blank_of(small), under)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    reading = watch.measure(Structure.of([[1, 3], []], [[], range(7)]))
    assert reading.ms > 0 and reading.dense_ms > 0 and reading.passes >= stopwatch.ROUNDS[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_threads_of_onnx_runtime_stop_with_the_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = save_tiny_model(tmp_path / "small")
    network = load_network(small, ["neg", "pos"], seed=0).eval()
    made, real = [], onnxruntime.InferenceSession

    def session(*given: Any, **named: Any) -> Any:
        made.append(real(*given, **named))
        return made[-1]

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    under = conditions(Budget.model_validate({"speedup": 2, "runtime": "onnx"}), length=9)
    watch = Stopwatch(network, blank_of(small), under)
    watch.ready(Structure.dense(network.architecture.anatomy))()
    (options,) = (one.get_session_options() for one in made)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_what_the_worker_has_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match="has no GPU") as caught:
            conditions(Budget(speedup=2, device="cuda"), 128)
        assert caught.value.field == "/budget/device"

    def broken(_function: object) -> object:
        raise RuntimeError("no g++")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(SpecError, match=r"C\+\+ compiler") as caught:
        conditions(Budget(speedup=2, runtime="torch.compile"), 128)
    assert caught.value.field == "/budget/runtime"
