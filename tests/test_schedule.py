"""What a job takes, by arithmetic: it grows with what it computes, and finished jobs are predicted as they were."""

from __future__ import annotations

from typing import Any

import pytest

from core.domains.transformer.costs import Costs
from core.domains.transformer.families import FAMILIES, Architecture
from core.rows.example import Example
from core.rows.text.tokens import tokens_of
from core.schedule import (
    IMAGE_SECONDS,
    SPREAD,
    START_S,
    Seen,
    Sized,
    Work,
    image_seconds_per_mac,
    memory_bytes,
    part_left,
    prices,
    seconds,
    sized,
    training_steps,
    work,
)
from core.spec.job import JobSpec
from tests.builders import MINILM, bert_costs, cost_of

DATASET = {"dataset": "ds_" + 32 * "0"}
BERT = Architecture(FAMILIES["bert"], layers=6, heads=12, head_size=32, hidden=384, neurons=1536)


def spec_of(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"model": "tiny", "task": {"data": DATASET}, "budget": {"params": 0.1}} | changes)


def test_steps_follow_from_the_rows_unless_they_are_given() -> None:
    assert training_steps(spec_of(), 100, 0.1) == {"teach": 200, "prune": 0, "recover": 900}
    assert training_steps(spec_of(), 100, 0.4)["recover"] == 300  # as good as 900 there
    timed = spec_of(budget={"speedup": 2})
    assert training_steps(timed, 100, 0.5)["recover"] == 900  # what it leaves is not known yet
    assert training_steps(spec_of(method={"name": "l0"}), 100, 0.4) == {"teach": 200, "prune": 300, "recover": 600}
    assert training_steps(spec_of(), 32_000, 0.1) == {"teach": 3000, "prune": 0, "recover": 12_000}
    assert training_steps(spec_of(train={"steps": {"teach": 5, "recover": 0}}), 100, 0.4)["recover"] == 0
    assert training_steps(spec_of(budget={"params": 1.0}), 100, 1.0)["recover"] == 0  # nothing goes
    for unknown in ({"latency_ms": 5}, {"sparsity": 0.5, "pattern": "2:4"}):  # of which 1.0 is no part that stays
        spec = spec_of(budget=unknown, method={"name": "magnitude"})
        assert training_steps(spec, 100, 1.0)["recover"] == 900


def test_tokens_are_guessed_from_characters_up_to_the_length() -> None:
    rows = [Example(("x" * 39,), None), Example(("x" * 399,), None)]
    assert tokens_of(rows, 512) == (12 + 102) / 2
    assert tokens_of(rows, 32) == (12 + 32) / 2
    assert tokens_of([Example(("ab", "cd", "e"), None)], 32) == 4  # words, each with its space
    pair = [Example(("x" * 39, "x" * 99), None)]
    assert tokens_of(pair, 512) == 37 and tokens_of(pair, 512, apart=True) == 27  # the other is padded


def test_work_counts_what_is_computed() -> None:
    steps = {"teach": 10, "prune": 0, "recover": 100}
    small = Sized(steps, 0.1)
    once = work(spec_of(), [small], 1e6, 50)
    assert once == Work(train=3 * 32 * 1e6 * (10 + 0.2 * 100), measure=2 * 50 * 1e6)
    source = {"data": DATASET | {"dataset": "ds_" + 32 * "1"}, "label": "label"}
    assert work(spec_of(sources=[source]), [small], 1e6, 50).train == 2 * once.train  # `auto` tries first
    both = work(spec_of(sources=[source], transfer={"coupling": "joint"}, control=True), [small], 1e6, 50)
    assert both == Work(2 * once.train, 2 * once.measure)
    family = work(spec_of(), [Sized(steps, 0.4), small], 1e6, 50)  # taught once
    assert family == Work(once.train + 3 * 32 * 1e6 * 0.4 * 100, measure=3 * 50 * 1e6)


def test_a_size_that_is_cut_out_of_a_larger_one_recovers_in_half_the_steps() -> None:
    def steps(budgets: list[dict[str, Any]], left: list[float], **changes: Any) -> dict[str, tuple[int, bool]]:
        found = sized(spec_of(budget=None, budgets=budgets, **changes), left, 100)
        return {name: (size.steps["recover"], size.nested) for name, size in found.items()}

    small, large = {"params": 0.05}, {"params": 0.1}
    assert steps([small, large], [0.05, 0.1]) == {"params-0.1": (900, False), "params-0.05": (450, True)}
    apart = {"macs-0.1": (900, False), "params-0.05": (900, False)}  # which is smaller, nobody knows yet
    assert steps([small, {"macs": 0.1}], [0.05, 0.1]) == apart
    for changes in ({"method": {"name": "l0"}}, {"export": {"layout": "regular"}}, {"hidden_size": "trim"}):
        assert not any(nested for _, nested in steps([small, large], [0.05, 0.1], **changes).values())


def test_more_time_and_fewer_zeros_make_the_larger_size() -> None:
    def order(budgets: list[dict[str, Any]], left: list[float]) -> list[str]:
        return [*sized(spec_of(budget=None, budgets=budgets), left, 100)]

    times = [{"latency_ms": 2}, {"latency_ms": 8}, {"latency_ms": 4}]
    assert order(times, [1.0] * 3) == ["latency_ms-8", "latency_ms-4", "latency_ms-2"]
    with_count = ["latency_ms-8", "latency_ms-2", "params-0.1"]
    assert order([{"params": 0.1}, *times[:2]], [0.1, 1.0, 1.0]) == with_count
    zeros = [{"sparsity": 0.9}, {"sparsity": 0.5}]
    spec = spec_of(budget=None, budgets=zeros, method={"name": "magnitude"})
    assert [*sized(spec, [1.0, 1.0], 100)] == ["sparsity-0.5", "sparsity-0.9"]


def test_a_milder_cut_makes_steps_dearer() -> None:
    cost = cost_of(BERT, head=100, attention=0, neuron=10, ffn=0, outside=9)
    costs = Costs(BERT, cost, cost, cost, length=128)

    def left(**budget: Any) -> float:
        return part_left(spec_of(budget=budget, method={"name": "pdp" if "sparsity" in budget else "fisher"}), costs)

    assert left(params=0.1) == pytest.approx(0.1)
    assert left(sparsity=0.9) == 1.0  # zeros are computed with
    assert left(speedup=4) == 0.25
    assert left(latency_ms=4) == 1.0  # of who knows what
    assert left(params=0.0001) == 0.0  # out of reach
    assert [prices(left)["recover"] for left in (-0.1, 0.05, 0.4, 1.0)] == [0.2, 0.2, 0.4, 1.0]


def test_a_smaller_hidden_size_spares_embeddings_and_leaves_more_of_the_encoder() -> None:
    costs = bert_costs(MINILM)
    for share in (0.6, 0.4):
        spec = spec_of(budget={"params": share, "of": "model"}, hidden_size="trim")
        assert part_left(spec, costs) == pytest.approx(share, abs=0.01)


def test_a_job_like_one_seen_takes_as_long_and_one_of_twice_the_work_longer() -> None:
    seen = Seen(Work(train=1e12, measure=1e11), train_s=60.0, total_s=90.0)
    assert seen.predict(seen.work) == pytest.approx(90)
    assert seen.predict(Work(2e12, 1e11)) == pytest.approx(150)
    slower = Seen(Work(train=1e12, measure=1e11), train_s=120.0, total_s=150.0)
    low, high = seconds(seen.work, [seen, slower], cpus=2)
    assert (low, high) == pytest.approx((90 / SPREAD, 150 * SPREAD))
    untrained = Seen(Work(0.0, 1e11), train_s=0.0, total_s=5.0)  # nothing can be learned from it
    assert seconds(seen.work, [untrained], cpus=2) == seconds(seen.work, [], cpus=2)


def test_without_jobs_more_cores_may_be_quicker() -> None:
    one, many = (seconds(Work(1e13, 1e11), [], cpus) for cpus in (1, 16))
    assert many[0] < one[0] < one[1] == many[1]


def test_an_image_model_takes_longer_the_more_numbers_its_layers_give() -> None:
    """MobileNetV2 and ResNet-50 at 96 pixels, of which `benchmarks.pace` has what they took."""
    mobilenet, resnet = image_seconds_per_mac(55_037_952, 1_226_500), image_seconds_per_mac(750_000_000, 2_040_000)
    assert mobilenet > 3 * resnet > 3 * IMAGE_SECONDS["mac"]
    asked = Work(1e13, 1e11)
    assert seconds(asked, [], 1, mobilenet)[1] - START_S[1] == pytest.approx(2 * mobilenet * 1.01e13)
    seen = Seen(asked, train_s=60.0, total_s=90.0)
    assert seconds(asked, [seen], 1, mobilenet) == seconds(asked, [seen], 1, resnet)  # a job that was seen says it all


def test_texts_that_are_encoded_apart_cost_as_many_rows() -> None:
    task = {"data": {"dataset": "ds_" + "1" * 32}, "type": "sentence-similarity", "text": ["a", "b", "c"]}
    small = [Sized({"teach": 10, "prune": 0, "recover": 100}, 0.1)]
    once, apart = work(spec_of(), small, 1e6, 50), work(spec_of(task=task), small, 1e6, 50)
    assert (apart.train, apart.measure) == (3 * once.train, 3 * once.measure)


def test_memory_grows_with_batch_and_length() -> None:
    sizes = [
        memory_bytes(BERT, 10_646_784, 22_713_986, batch, length) for batch, length in ((8, 64), (32, 64), (32, 256))
    ]
    assert 4 * (3 * 22_713_986 + 4 * 10_646_784) < sizes[0] < sizes[1] < sizes[2]
    assert sizes[2] - sizes[1] > 4 * (sizes[1] - sizes[0])  # attention meets every pair of tokens
