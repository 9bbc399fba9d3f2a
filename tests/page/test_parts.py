"""What pages are made of: geometry, budgets as people type them, what happened when, pairs of rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.datastructures import FormData

from api.http import session
from api.http.problems import Problem
from api.page import charts, loading, paired, timeline, view, words
from api.page.form import Fields, place
from api.page.shared import MOST, Shared
from api.page.spec import copies, short
from api.schemas import Fault
from core.ledger.files.stores import open_storage
from core.ledger.settings import Settings
from core.ledger.tables import Attempt, Event, File
from core.measures.classes import of_classes
from core.measures.intervals import lead
from core.spec.job import JobSpec
from core.spec.report import TaskSaid, stored
from tests.reports import report

SPEC: dict[str, Any] = {"model": "tiny", "task": {"data": {"dataset": "ds_" + 32 * "0"}}, "budget": {"params": 0.1}}


@pytest.mark.parametrize(
    ("kind", "said", "asked"),
    [
        ("encoder", "10%", {"params": 0.1}),
        ("encoder", "0.1", {"params": 0.1}),
        ("params", "1,000,000", {"params": 1_000_000, "of": "model"}),
        ("bytes", "20 MB", {"bytes": 20_000_000}),
        ("bytes", "25 %", {"bytes": 0.25}),
        ("latency_ms", "3 ms", {"latency_ms": 3}),
        ("latency_ms", "2.5", {"latency_ms": 2.5}),
        ("speedup", "4x", {"speedup": 4}),
        ("sparsity", "90%", {"sparsity": 0.9}),
    ],
)
def test_a_budget_is_taken_as_people_type_it(kind: str, said: str, asked: dict[str, Any]) -> None:
    spec = Fields(model="tiny", data="ds_" + 32 * "0", kind=kind, budget=said).spec()
    assert spec["budget"] == asked and JobSpec.model_validate(spec)
    again = Fields.of(spec)
    assert again.spec()["budget"] == asked, again.budget


@pytest.mark.parametrize(
    ("kind", "said", "asked", "shown"),
    [
        ("encoder", "20 MB", {"bytes": 20_000_000}, "bytes"),
        ("encoder", "4x", {"speedup": 4}, "speedup"),
        ("encoder", "3 ms", {"latency_ms": 3}, "latency_ms"),
        ("bytes", "4x", {"speedup": 4}, "speedup"),
        ("speedup", "20 MB", {"bytes": 20_000_000}, "bytes"),
        ("macs", "50%", {"macs": 0.5}, "macs"),
    ],
)
def test_the_unit_of_a_budget_says_what_is_limited(kind: str, said: str, asked: dict[str, Any], shown: str) -> None:
    fields = Fields.given(FormData({"kind": kind, "budget": said}))
    assert (fields.spec()["budget"], fields.kind) == (asked, shown)


@pytest.mark.parametrize(("kind", "example"), [("latency_ms", "3 ms"), ("speedup", "4x")])
def test_a_share_is_no_time(kind: str, example: str) -> None:
    with pytest.raises(Problem) as told:
        Fields(kind=kind, budget="50%").spec()
    [fault] = told.value.faults
    assert fault.pointer == "/budget" and f"give '{example}', say" in fault.detail


def test_several_budgets_are_several_sizes() -> None:
    spec = Fields(model="tiny", data="ds_" + 32 * "0", budget="40%, 20%,10%").spec()
    assert [one["params"] for one in spec["budgets"]] == [0.4, 0.2, 0.1] and "budget" not in spec
    mixed = Fields.given(FormData({"kind": "encoder", "budget": "40%, 3 ms"}))
    assert mixed.kind == "encoder"
    assert mixed.spec()["budgets"] == [{"params": 0.4}, {"latency_ms": 3}]


@pytest.mark.parametrize(
    ("kind", "said", "asked"),
    [
        ("encoder", "50%,100%", [0.5, 1]),
        ("encoder", "50,100%", [50, 1]),
        ("params", "2,000,000, 1,000,000", [2_000_000, 1_000_000]),
        ("latency_ms", "400,200", [400, 200]),
        ("latency_ms", "400 ms,200 ms", [400, 200]),
        ("encoder", "400 ms,200 ms", [400, 200]),
        ("speedup", "2,100", [2, 100]),
        ("bytes", "20,000 KB,300 MB", [20_000_000, 300_000_000]),
        ("speedup", "20,000 KB", [20_000_000]),
    ],
)
def test_a_comma_is_within_what_is_counted_alone(kind: str, said: str, asked: list[float]) -> None:
    spec = Fields.given(FormData({"kind": kind, "budget": said})).spec()
    assert [next(iter(one.values())) for one in spec.get("budgets", [spec.get("budget")])] == asked


DATA = ["ds_" + 32 * digit for digit in "0123"]
SETS = {"data": {name: {"dataset": i} for name, i in zip(("train", "dev", "test"), DATA, strict=False)}}
UNLABELLED = {"data": {"dataset": DATA[3]}, "text": ["body"]}
ANEW = {"data": {"dataset": DATA[2]}}
TIMED = {"latency_ms": 3, "runtime": "onnx", "batch_size": 8, "sequence_length": 64}


@pytest.mark.parametrize(
    ("task", "typed", "asked"),
    [
        ({"split": {"train": 0.5, "dev": 0.1, "test": 100}}, {}, {}),
        ({"split": {"train": 0.5, "test": 100}}, {"train": "", "dev": "9"}, {"split": {"dev": 9, "test": 100}}),
        (SETS, {"dev": "9"}, {"split": {"dev": 9}}),
        (SETS, {"data": DATA[2]}, ANEW),
        ({"data": {"dataset": DATA[0], "hub": "a/b@c"}}, {"title": "again"}, {}),
        ({"label": ["toxic"]}, {"title": "again"}, {}),
        ({"label": ["toxic"]}, {"label": "rude"}, {"label": "rude"}),
        ({"problem_type": "regression"}, {"train": ""}, {}),
        ({"problem_type": "regression"}, {"told": ""}, {"problem_type": None}),
        ({}, {"told": "multi_label_classification"}, {"problem_type": "multi_label_classification"}),
        ({"unlabelled": UNLABELLED}, {"train": ""}, {}),
        ({"unlabelled": UNLABELLED}, {"unlabelled": DATA[2]}, {"unlabelled": {**UNLABELLED, **ANEW}}),
        ({"unlabelled": UNLABELLED}, {"unlabelled": ""}, {"unlabelled": None}),
    ],
)  # fmt: skip
def test_a_clone_keeps_what_was_not_typed_anew(
    task: dict[str, Any], typed: dict[str, Any], asked: dict[str, Any]
) -> None:
    like = SPEC | {"task": SPEC["task"] | task}
    found = replace(Fields.of(like), **typed).spec()
    expected = {name: value for name, value in (like["task"] | asked).items() if value is not None}
    assert found["task"] == expected and JobSpec.model_validate(found)


@pytest.mark.parametrize(
    ("label", "asked"), [("stars", {}), ("kind", {"label": "kind"}), ("", {"label": None})]
)  # fmt: skip
def test_a_source_keeps_what_was_not_typed_anew(label: str, asked: dict[str, Any]) -> None:
    source = {
        "data": {"dataset": DATA[1]},
        "text": ["body"],
        "weight": 0.5,
        "label": "stars",
        "label_map": {"5": "good"},
    }
    like = SPEC | {"sources": [source]}
    [found] = replace(Fields.of(like), source_label=label).spec()["sources"]
    kept = source | ({"label_map": None} if asked else {}) | asked
    assert found == {name: value for name, value in kept.items() if value is not None}


def test_texts_without_labels_follow_the_columns_of_the_task() -> None:
    task = SPEC["task"] | {"unlabelled": {"data": {"dataset": DATA[3]}}}
    like = short(JobSpec.model_validate(SPEC | {"task": task}).model_dump(mode="json"))
    spec = JobSpec.model_validate(replace(Fields.of(like), text="body").spec())
    assert spec.task.unlabelled is not None and spec.task.unlabelled.text == ["body"]


@pytest.mark.parametrize(
    ("said", "names", "again"),
    [
        ('"Review, full"', ["Review, full"], '"Review, full"'),
        ("a, b", ["a", "b"], "a, b"),
        ('title, "Review, full"', ["title", "Review, full"], 'title, "Review, full"'),
        ('a "b", c', ['a "b"', "c"], '"a ""b""", c'),
        ("a,,b,", ["a", "b"], "a, b"),
        ('"a', ["a"], "a"),
    ],
)
def test_names_that_hold_commas_stand_in_quotes(said: str, names: list[str], again: str) -> None:
    task = Fields(data=DATA[0], text=said, label=said).spec()["task"]
    assert (task["text"], task["label"]) == (names, names if names[1:] else names[0])
    fields = Fields.of({"task": task})
    assert (fields.text, fields.label) == (again, again) and fields.spec()["task"] == task
    assert Fields.of({"task": {"image": names[0]}}).text == Fields.of({"task": {"label": names[0]}}).label


@pytest.mark.parametrize("said", ["a\rb", "x" * 200_000])
def test_what_is_no_list_of_names_is_one(said: str) -> None:
    assert Fields(data=DATA[0], label=said).spec()["task"]["label"] == said


@pytest.mark.parametrize(
    ("budget", "typed", "asked"),
    [
        (TIMED, {"budget": "2 ms"}, {"latency_ms": 2}),
        ({"sparsity": 0.5, "pattern": "channel"}, {"budget": "75%"}, {"sparsity": 0.75}),
        ({"params": 0.5, "of": "model"}, {"budget": "40%"}, {"params": 0.4}),
    ],
)
def test_a_clone_keeps_how_its_budget_is_measured(
    budget: dict[str, Any], typed: dict[str, str], asked: dict[str, Any]
) -> None:
    before = Fields.of(SPEC | {"budget": budget})
    assert replace(before, **typed).spec()["budget"] == budget | asked
    assert replace(before, kind="bytes", budget="20%").spec()["budget"] == {"bytes": 0.2}
    assert len(replace(before, budget="60%, 30%", kind="encoder").spec()["budgets"]) == 2


INT8 = {"runtime": "onnx-int8", "batch_size": 32}
BATCH, LENGTH = {"batch_size": 8}, {"sequence_length": 64}


@pytest.mark.parametrize(
    ("budgets", "typed", "asked"),
    [
        ([{"latency_ms": 3} | INT8], "3, 2", [{"latency_ms": 3} | INT8, {"latency_ms": 2} | INT8]),
        ([{"macs": 0.2} | LENGTH], "10%, 5%", [{"macs": 0.1} | LENGTH, {"macs": 0.05} | LENGTH]),
        ([{"speedup": part} | INT8 for part in (2, 4)], "3, 2, 4", [{"speedup": part} | INT8 for part in (3, 2, 4)]),
        ([{"speedup": part} | INT8 for part in (2, 4)], "3", [{"speedup": 3} | INT8]),
        ([{"speedup": 2} | INT8, {"speedup": 4} | BATCH], "3, 2", [{"speedup": 3}, {"speedup": 2}]),
        ([{"bytes": 0.2}, {"speedup": 4} | BATCH], "3 MB, 2x", [{"bytes": 3_000_000}, {"speedup": 2} | BATCH]),
        ([{"params": 0.2}, {"params": 0.1}], "40%, 20%", [{"params": 0.4}, {"params": 0.2}]),
        ([{"params": 0.2, "of": "encoder"}], "40%", [{"params": 0.4, "of": "encoder"}]),
        ([{"speedup": 4} | BATCH], "20 MB, 10 MB", [{"bytes": 20_000_000}, {"bytes": 10_000_000}]),
    ],
)  # fmt: skip
def test_a_clone_keeps_how_each_of_its_sizes_is_measured(
    budgets: list[dict[str, Any]], typed: str, asked: list[dict[str, Any]]
) -> None:
    like = SPEC | {"budget": budgets[0]} if len(budgets) == 1 else {"budgets": budgets}
    found = replace(Fields.of(like), budget=typed).spec()
    assert found.get("budgets", [found.get("budget")]) == asked and ("budget" in found) == (len(asked) == 1)


@pytest.mark.parametrize("said", ["", "much", "10 %%", "-3", "3 apples", "NaN", "1e", ","])
def test_what_is_no_amount_is_told_with_an_example(said: str) -> None:
    with pytest.raises(Problem) as told:
        Fields(budget=said).spec()
    [fault] = told.value.faults
    assert fault.pointer == "/budget" and "give '10%', say" in fault.detail


def test_a_fault_is_beside_the_field_that_its_pointer_names() -> None:
    pointers = ("/task/label/0", "/task/data/dataset", "/budgets/1/params", "/sources/0/label", "/task", "/method/name")
    beside, rest = place([Fault(pointer=pointer, detail=pointer) for pointer in pointers])
    assert beside == {
        "label": ["/task/label/0"],
        "data": ["/task/data/dataset"],
        "budget": ["/budgets/1/params"],
        "source": ["/sources/0/label"],
        "type": ["/task"],
    }
    assert [one.pointer for one in rest] == ["/method/name"]


def test_lines_lie_within_their_axes() -> None:
    for points in ([(0, 0.5)], [(10, 0.5), (20, 0.5)], [(0, -1.0), (7, 3.0)], [(0, 1e-9), (1, 2e-9)]):
        drawn = charts.lines("x", {"a": points}, "{:.3g}".format)
        dots = drawn.lines[0].dots
        assert len(dots) == len(points) and drawn.y_ticks and drawn.x_ticks
        for dot in dots:
            assert charts.LEFT <= dot.x <= charts.WIDTH - charts.RIGHT + 0.1
            assert charts.TOP - 0.1 <= dot.y <= charts.HEIGHT - charts.BOTTOM + 0.1


def test_costs_are_on_a_logarithmic_axis() -> None:
    series = {name: [(cost, 0.8, 0.7, 0.9)] for name, cost in (("a", 1.0), ("b", 10.0), ("c", 100.0))}
    drawn = charts.against("x", series, "{:.3g}".format, "{:g}".format, "bytes")
    a, b, c = (line.dots[0] for line in drawn.lines)
    assert b.x - a.x == pytest.approx(c.x - b.x, abs=0.2) and a.low is not None and a.low > a.y > (a.high or 0)
    same = charts.against("x", {"a": [(5.0, 0.8, 0.7, 0.9)]}, "{:.3g}".format, "{:g}".format, "bytes")
    assert charts.LEFT < same.lines[0].dots[0].x < charts.WIDTH


def test_looks_are_told_in_the_order_of_the_stages_whatever_the_database_keeps() -> None:
    points = {"prune": 0.5, "teach": 0.9, "recover": 0.8}
    curves = {stage: {"points": [{"accuracy": value}]} for stage, value in points.items()}
    assert view.looks(stored(report(curves=curves)), [], "accuracy") == [0.9, 0.5, 0.8]


def test_a_spark_has_few_points() -> None:
    assert charts.spark([]) is None and charts.spark([1.0]) is None
    long = charts.spark([float(i) for i in range(1000)])
    assert long is not None and len(long.path.split()) <= 2 * charts.SPARK_POINTS and "to 999" in long.says


def event(kind: str, at: int, **data: Any) -> Event:
    return Event(seq=at, job_id="job", type=kind, data=data, at=at)


def test_what_happened_is_told_by_attempt() -> None:
    rows = [
        Attempt(job_id="job", number=1, worker="a", started_at=1, finished_at=50, outcome="lost", reason="silent"),
        Attempt(job_id="job", number=2, worker="b", started_at=60),
    ]
    events = [
        event("status", 1, status="running", attempt=1),
        event("stage", 2, stage="data"),
        event("stage", 1002, stage="teach"),
        event("status", 2000, status="queued", reason="silent"),
        event("status", 3000, status="running", attempt=2),
        event("stage", 3001, stage="teach"),
        event("progress", 3002, stage="teach", step=3, steps=9),
        event("progress", 3003, stage="prune", step=1, steps=9),  # of another stage
        event("note", 3004, message="x"),
        event("stage", 3005, stage="prune", control=True, size="params-0.1"),
    ]
    first, second = timeline.attempts(rows, events, "running", ["params-0.1"])
    assert [(step.stage, step.state, step.took_s) for step in first.steps] == [
        ("data", "done", 1.0),
        ("teach", "broken", 0.998),
    ]
    assert [(step.stage, step.state) for step in second.steps] == [
        *(("teach", "done"), ("prune", "now")),
        *((stage, "to") for stage in ("recover", "measure", "export")),
    ]
    assert second.steps[0].step == 3 and second.steps[1].control and second.steps[1].size == "params-0.1"
    [running] = timeline.attempts(rows[1:], events[4:6], "running", ["params-0.4", "params-0.1"])
    assert [(step.stage, step.size) for step in running.steps] == [
        ("teach", None),
        *((stage, size) for size in ("params-0.4", "params-0.1") for stage in ("prune", "recover")),
        *(("measure", None), ("export", None)),
    ]
    assert timeline.controlled(events) and not timeline.controlled(events[:-1])


def said(problem: str, labels: Sequence[str] = ("a", "b")) -> TaskSaid:
    return TaskSaid.model_validate({"type": "x", "problem": problem, "metric": "x", "labels": labels})


SINGLE = said("single_label_classification")


def rows_of(folder: Path, settings: Settings, labels: Sequence[Any], answers: Sequence[Any]) -> File:
    """A file `test.jsonl`."""
    file = folder / "rows"
    pairs = enumerate(zip(labels, answers, strict=True))
    file.write_text("\n".join(json.dumps({"text": [str(i)], "label": a, "predicted": b}) for i, (a, b) in pairs))
    sha256, size = open_storage(settings).put(file)
    return File(job_id="job", kind="output", path="test.jsonl", sha256=sha256, size_bytes=size)


LABELS = "abaabbabaa" * 20


@pytest.mark.parametrize(
    ("problem", "labels", "first", "second"),
    [
        (SINGLE, LABELS, "abaaaababb" * 20, "abaabaabaa" * 20),
        (said("regression"), range(200), [i + 5 * (i % 3) for i in range(200)], [i + i % 2 for i in range(200)]),
        (
            said("multi_label_classification"),
            *([[*one] for one in part] for part in (["ab", "b", ""] * 50, ["a", "b", "a"] * 50, ["ab", "b", "b"] * 50)),
        ),
        (
            said("token_classification", ["O", "B-X"]),
            [["B-X", "O", "O"]] * 90,
            [["O", "O", None]] * 90,
            [["B-X", "O", None]] * 45 + [["O", "O", None]] * 45,
        ),
    ],
    ids=lambda value: getattr(value, "problem", ""),
)
def test_pairs_of_rows_tell_models_apart_as_the_report_does(
    problem: TaskSaid, labels: Sequence[Any], first: Sequence[Any], second: Sequence[Any], tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path)
    worse, better = (rows_of(tmp_path, settings, [*labels], [*answers]) for answers in (first, second))
    found = paired.change(open_storage(settings), problem, worse, better)
    same = paired.change(open_storage(settings), problem, worse, worse)
    assert found.keys() == same.keys() and all((one.value, one.low, one.high) == (0, 0, 0) for one in same.values())
    for name, one in found.items():
        assert one.low < one.value < one.high and (name == "rmse") == (one.high < 0), name


def test_the_interval_of_pairs_is_that_of_the_report(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    truth, worse, better = (np.array([*part]) == "b" for part in (LABELS, "abaaaababb" * 20, "abaabaabaa" * 20))
    one, other = (of_classes(answers.astype(int), truth.astype(int), 2) for answers in (better, worse))
    files = [rows_of(tmp_path, settings, [*LABELS], [*part]) for part in ("abaaaababb" * 20, "abaabaabaa" * 20)]
    pooled = paired.change(open_storage(settings), SINGLE, *files)
    for name, row_by_row in lead(one, other, len(LABELS)).items():
        assert pooled[name].value == pytest.approx(row_by_row["value"])
        assert pooled[name].low == pytest.approx(row_by_row["low"], abs=0.02)
        assert pooled[name].high == pytest.approx(row_by_row["high"], abs=0.02)


def test_why_rows_are_not_paired_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    storage = open_storage(settings)
    file = rows_of(tmp_path, settings, "abab", "abba")

    def why(*files: File, task: TaskSaid = SINGLE) -> str:
        with pytest.raises(paired.Unpaired) as told:
            paired.change(storage, task, *files)
        return str(told.value)

    assert "not the same" in why(file, rows_of(tmp_path, settings, "ab", "ab"))
    assert "vectors or ranks" in why(file, file, task=said("text_ranking"))
    tags = [rows_of(tmp_path, settings, [["O", "O"]], [["O", last]]) for last in ("O", None)]
    assert "the same words" in why(*tags, task=said("token_classification", ["O", "B-X"]))
    monkeypatch.setattr(paired, "MAX_KINDS", 3)
    assert "drawn again" in why(file, file)
    monkeypatch.setattr(paired, "MAX_BYTES", 3)
    assert "to be read" in why(file, file)


def test_a_specification_is_short_where_that_asks_for_the_same() -> None:
    whole = JobSpec.model_validate(SPEC).model_dump(mode="json")
    assert short(whole) == SPEC
    sparse = JobSpec.model_validate(SPEC | {"budget": {"sparsity": 0.5, "pattern": "2:4"}})  # whose method follows
    assert JobSpec.model_validate(short(sparse.model_dump(mode="json"))) == sparse
    assert short({"what": 1}) == {"what": 1}  # of another version
    quoted = copies(SPEC | {"title": "it's"}, "http://here", True)
    assert "it'\\''s" in quoted["curl"] and "$TOPWORK_KEY" in quoted["curl"] and "TOPWORK_KEY" in quoted["Python"]
    for title in ("it's", 'a"""b', "\\", "ä\n"):
        compile(copies(SPEC | {"title": title}, "http://here", False)["Python"], "snippet", "exec")


def test_code_to_load_is_that_of_the_files() -> None:
    files = ("model.safetensors", "load.py", "model.onnx")
    texts = loading.snippets({"task": {"type": "text-classification"}}, files)
    assert [*texts] == ["transformers", "load.py (no remote code)", "ONNX Runtime, model.onnx"]
    images = loading.snippets({"task": {"type": "image-classification"}}, files)["transformers"]
    assert "AutoImageProcessor, AutoModelForImageClassification" in images
    vectors = loading.snippets(
        {"task": {"type": "sentence-similarity"}}, ("params-0.1/model.safetensors",), "params-0.1"
    )
    assert 'SentenceTransformer("pruned/params-0.1"' in vectors["sentence-transformers"]
    coded = loading.snippets({"task": {"type": "text-classification"}}, (*files, "modeling_topwork_1.py"))
    assert coded["transformers"].count(", trust_remote_code=True)") == 2
    assert not any("trust" in code for code in (*texts.values(), images, *vectors.values()))  # files without code
    half = {"export": {"precision": "float16"}}
    for kind, said in (("text-classification", 'dtype="float32")'), ("text-ranking", 'kwargs={"dtype": "float32"})')):
        (code, *_) = loading.snippets({"task": {"type": kind}} | half, files).values()
        assert said in code
    for code in (*texts.values(), images, *vectors.values()):
        compile(code, "snippet", "exec")


def test_what_was_drawn_is_kept_unless_that_failed() -> None:
    async def work() -> None:
        shared, drawn = Shared(), list[int]()

        def draw() -> str:
            drawn.append(1)
            return "x"

        assert await asyncio.gather(*(shared.get("a", draw) for _ in range(5))) == ["x"] * 5 and len(drawn) == 1
        for number in range(MOST):
            await shared.get(number, draw)
        await shared.get("a", draw)
        assert len(drawn) == MOST + 2  # forgotten meanwhile

        def broken() -> str:
            raise OSError

        for _ in range(2):
            with pytest.raises(OSError):
                await shared.get("b", broken)
        assert await shared.get("b", draw) == "x"

    asyncio.run(work())


@pytest.mark.parametrize(
    ("there", "goes"),
    [("/jobs/x?a=b", "/jobs/x?a=b"), ("//evil", "/"), ("/\\evil", "/"), ("https://x", "/"), ("/a\nb", "/"), ("", "/")],
)
def test_a_way_back_stays_inside(there: str, goes: str) -> None:
    assert session.inside(there) == goes


def test_values_are_written_for_people() -> None:
    assert [words.duration(one) for one in (3.4, 200, 7500)] == ["3 s", "3:20 min", "2:05 h"]
    assert [words.size(one) for one in (12, 52_500_000, 3 * 10**12)] == ["12 B", "52.5 MB", "3 TB"]
    assert words.cell({"a": "ä"}) == '{"a": "ä"}' and len(words.cell("x" * 999)) == 300 and words.cell(None) == ""
    assert [words.milliseconds(one) for one in (4.066, 131.2)] == ["4.07 ms", "131 ms"]
