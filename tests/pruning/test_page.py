"""The report's page: says what was measured, draws what was kept, and is safe to open."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from core.domains.model_ref import ModelRef
from core.domains.structure import Structure
from core.domains.transformer.families import FAMILIES, Architecture
from core.pruning.export.charts import BINS, layers
from core.pruning.export.html_report import write_page
from core.pruning.export.sides import Sides
from core.spec.job import JobSpec
from core.spec.report import Report
from core.ticks import ticks
from tests.reports import quality, report, result

HOSTILE = (
    """</title></style></pre><script src="https://evil.example/x.js">alert('1')</script>"""
    """<img src=x onerror="a()">&amp;"""
)
ARCHITECTURE = Architecture(FAMILIES["bert"], layers=3, heads=4, head_size=16, hidden=64, neurons=128)
STRUCTURE = Structure.of([[1, 3], [], [0]], [[], range(10), [0, 127]])
VOID = {"meta", "img", "br"}


METRICS = ("accuracy", "balanced_accuracy", "f1")
SPEC: dict[str, Any] = {
    "model": "all-minilm-l6-v2",
    "task": {"data": {"dataset": f"ds_{0:032}"}},
    "sources": [{"data": {"dataset": f"ds_{number:032}"}} for number in (1, 2)],
    "budget": {"params": 0.1},
}


def full(**changes: Any) -> dict[str, Any]:
    """A report with everything."""
    points = [{"step": 10 * i, "phase": i // 3, "accuracy": 0.6 + i / 50, "loss": 1 / i} for i in range(1, 6)]
    pruning = [{**p, "target": p["step"] / 60, "sparsity": p["step"] / 70, "lambda1": 2.0} for p in points]
    return report(
        results={"dense": result(0.876, 1.0, METRICS), "pruned": result(0.819, 3.4, METRICS)},
        control=result(0.743, 3.3, METRICS),
        transfer={
            "coupling": "joint",
            "stages": ["teach", "prune"],
            "share": ["weights", "masks"],
            "sources": [0],
            "weighting": "learned",
            "weights": {
                "target": [[0, 1.0], [50, 1.08]],
                "source 0": [[0, 1.0], [50, 0.9]],
                "source 1": [[0, 1.0], [50, 0.02]],
            },
            "auto": {
                "chosen": "joint",
                "why": "source 1 hurts",
                "related": [0.523, None],
                "trials": [
                    trial(choice="none", sources=[], splits=2, score=0.712),
                    trial(choice="joint", sources=[0], splits=1, score=0.778, seen=-0.066),
                ],
            },
        },
        data={"train": 100, "dev": 50, "test": 2247, "sources": [900, 800], "dropped": {"rows without text": 7}},
        curves={
            "teach": {"points": points, "kept_step": 30},
            "prune": {"points": pruning, "kept_step": 50},
            "recover": {"points": points, "kept_step": 50},
        },
        verified={"rows": 2247, "test": {"accuracy": 0.819}, "changed_predictions": 0, "parameters": 67890},
        **changes,
    )


def trial(**said: Any) -> dict[str, Any]:
    return said | {name: said.get(name, 0.0) for name in ("seen", "error", "weighed")}


class Page(HTMLParser):
    """Elements with their attributes, the visible text, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())

    def count(self, tag: str, css_class: str) -> int:
        return sum(t == tag and a.get("class") == css_class for t, a in self.elements)


def page_of(
    said: dict[str, Any],
    folder: Path,
    structure: Structure = STRUCTURE,
    architecture: Architecture = ARCHITECTURE,
    model: ModelRef | None = None,
    sides: Sides | None = None,
    **spec: Any,
) -> Page:
    model, asked = model or ModelRef(folder, "all-minilm-l6-v2"), JobSpec.model_validate(SPEC | spec)
    report, page = Report.model_validate(said), folder / "report.html"
    write_page(report, asked, model, structure, architecture.anatomy, page, architecture.hidden, sides)
    return Page(page.read_text(encoding="utf-8"))


def poison(value: Any) -> Any:
    """The same report with hostile text for every text that is not a choice of ours, and as key where keys are free."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [poison(item) for item in value]
    if isinstance(value, dict):
        return {key: poison(item) for key, item in value.items()}
    return value


def test_values_that_rounding_alone_tells_apart_can_be_drawn() -> None:
    assert len(set(ticks(0.8, 0.8000000000000002))) > 1


def test_says_what_was_measured(tmp_path: Path) -> None:
    text = page_of(full(), tmp_path).text
    for part in (
        "all-minilm-l6-v2, pruned",
        "is 81.9%; the dense model it was cut from has 87.6%. The same job without transfer ends at 74.3%.",
        "81.9% 79.9% to 83.9%",  # the interval
        "−5.7",
        "at most 13,000",
        "12,345 parameters, 94.96% of the limit",
        "2.1 MB",
        "128 tokens",
        "eager PyTorch 2.13.0 in float32 on CPU, 2 threads",
        "latency, eager, batch 32",
        f"source 0 (ds_{1:032}): 900 rows; source 1 (ds_{2:032}): 800 rows, not used",
        "Chosen: joint. source 1 hurts",
        "source 0 0.52, source 1 not asked",
        "77.8%",
        "7 rows without text",
        "100, 50, 2,247 rows",
        "50 steps, rate 0.0001",
        "0 changed predictions",
    ):
        assert part in text


@pytest.mark.parametrize(("cost", "unit"), [("macs", "multiply-accumulates"), ("bytes", "bytes")])
def test_another_cost_is_named_by_its_unit(cost: str, unit: str, tmp_path: Path) -> None:
    said = full()
    said["budget"] |= {"cost": cost, "of": "model", "sequence_length": 64}
    text = page_of(said, tmp_path).text
    for part in (f"of the model's {unit}", f"12,345 {unit}", f"130,000 {unit}", "for a text of 64 tokens"):
        assert part in text


def test_the_model_as_given_is_shown_beside(tmp_path: Path) -> None:
    said = full()
    interval = {"value": -0.057, "low": -0.081, "high": 0.012}
    change = {name: {"accuracy": interval} for name in ("dense", "pruned")}
    said["results"]["given"] = {"test": quality(0.801, *METRICS), "change": change}
    said["task"]["head"] = "its own head for 2 labels"
    page = page_of(said, tmp_path)
    assert "80.1% 78.1% to 82.1%" in page.text and "its own head for 2 labels" in page.text
    low, high = "\N{MINUS SIGN}8.1 points", "+1.2 points"
    assert f"accuracy is \N{MINUS SIGN}5.7 points ({low} to {high}) away from it after teaching" in page.text
    assert "as given" not in page_of(full(), tmp_path).text


def test_a_budget_in_time_says_how_it_was_measured(tmp_path: Path) -> None:
    fit = {"dense_ms": 42.0, "of_dense": 0.25, "predicted": 0.25, "passes": 34, "spread": 0.013, "median_ms": 11.0}
    said = full(peak_memory_bytes={"process": 3 * 2**29, "gpu": None})
    said["budget"] = {
        "cost": "speedup",
        "of": "model",
        "asked": 4.0,
        "limit": 10.5,
        "met": 10.2,
        "dense": 42.0,
        "fraction": 10.2 / 42,
        "sequence_length": 64,
        "measured": {
            "runtime": "onnx",
            "device": "cpu",
            "device_name": "Some <b>CPU</b>",
            "threads": 2,
            "batch_size": 8,
            "length": 64,
            "passes": 34,
            "spread": 0.013,
            "ms": 11.0,
            "dense_ms": 45.3,
            "again": 10.6,
            "fits": [fit | {"ms": 10.9, "kept": False}, fit | {"ms": 10.2, "kept": True}],
        },
    }
    text = page_of(said, tmp_path).text
    for part in (
        "With 24.3% of the model's latency",
        "4 times as fast as the dense model: at most 10.5 ms, 25.0% of the dense model's 42 ms at the start",
        "11 ms where dense took 45.3 ms: 24.3% of it, 97.1% of the limit and 4.12 times as fast as dense",
        "again at the end, with dense as at the start: 10.6 ms",
        "8 texts of 64 tokens, ONNX Runtime in float32, on Some <b>CPU</b> (cpu), 2 threads",
        "lower quartile of 34 passes",
        "latency as the budget asks",
        "lie 1.3% apart. 2 structures were measured",
        "1610.6 MB",
    ):
        assert part in text


def test_a_correlation_is_no_percentage_and_may_be_negative(tmp_path: Path) -> None:
    said = full()
    said["task"] = {"type": "text-classification", "problem": "regression", "metric": "pearson", "labels": ["stars"]}
    results = [said["control"], *said["results"].values()]
    for one, value in zip(results, (-0.0213, 0.9, 0.8194), strict=True):
        one["test"] = {
            "pearson": {"value": value, "low": value - 0.05, "high": value + 0.05},
            "rmse": {"value": 213.4, "low": 200.0, "high": 220.0},
        }
    for curve in said["curves"].values():
        for point in curve["points"]:
            point["pearson"] = point.pop("accuracy", 0.1)
    text = page_of(said, tmp_path).text
    for part in (
        "Pearson correlation on 2,247 test rows is 0.8194",
        "−0.081",
        "213.4",
        "-0.0213",
        "regression, coupling",
    ):
        assert part in text


def test_what_the_commonest_answer_comes_to_is_said_and_warnings_come_before_all_numbers(tmp_path: Path) -> None:
    said = full(warnings=[HOSTILE])
    said["results"]["baseline"] = {"test": quality(0.712, *METRICS)}
    text = page_of(said, tmp_path).text
    assert "71.2%" in text and text.index(f"Mind: {HOSTILE}") < text.index("81.9%")


def test_what_is_missing_is_left_out(tmp_path: Path) -> None:
    page = page_of(report(), tmp_path, sources=[])
    assert "81.9%; the dense model it was cut from has 87.6%." in page.text
    for part in ("without transfer", "Learning curves", "What auto tried", "None", "Undefined"):
        assert part not in page.text
    assert not any(tag == "polyline" for tag, _ in page.elements)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    clean = page_of(full(), tmp_path)
    said = poison(full()) | {"budget": full()["budget"]}
    said["task"] |= {"metric": "accuracy", "labels": [HOSTILE, "neg"]}
    said["transfer"]["weights"] = {HOSTILE: [[0, 1.0], [50, 0.9]], "source 1": [[0, 1.0]]}
    said["data"]["dropped"] = {HOSTILE: 3}
    said["environment"]["versions"] = {HOSTILE: HOSTILE, "torch": HOSTILE}
    page = page_of(said, tmp_path, model=ModelRef(tmp_path, HOSTILE, HOSTILE), labels={"mine": HOSTILE[:50]})
    assert {tag for tag, _ in page.elements} == {tag for tag, _ in clean.elements}
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert page.text.count(HOSTILE) > 10


def test_is_self_contained(tmp_path: Path) -> None:
    page = page_of(full(), tmp_path)
    source = (tmp_path / "report.html").read_text()
    assert "://" not in source
    assert not re.search(r"url\(|@import", source)
    assert not {tag for tag, _ in page.elements} & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert not any({"src", "href"} & attributes.keys() for _, attributes in page.elements)
    policy = [a["content"] for t, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_draws_what_was_kept(tmp_path: Path) -> None:
    page = page_of(full(), tmp_path)
    assert page.count("rect", "cell kept") == 3
    assert page.count("rect", "cell") == 2 * 4 - 3  # the dropped heads of the layers that have attention
    assert page.count("rect", "bin") == 5 + 2  # strips of 64 stretches of two neurons
    assert page.count("rect", "gone") == 2
    assert page.count("svg", "attention") == page.count("svg", "ffn") == 3
    assert "3 of 12 attention heads, 12 of 384 neurons, 4 of 6 blocks" in page.text


def test_draws_every_curve(tmp_path: Path) -> None:
    page = page_of(full(), tmp_path)
    lines = [a["points"] or "" for t, a in page.elements if t == "polyline" and "," in (a["points"] or "")]
    assert sum(len(line.split()) == 5 for line in lines) == 3 * 2 + 2  # quality and loss of a stage; target, sparsity
    assert page.count("circle", "ring") == 3
    assert page.count("line", "turn") == 3
    assert "source 1" in page.text


@pytest.mark.parametrize("count", [1, 24])
def test_one_layer_and_many(count: int, tmp_path: Path) -> None:
    architecture = Architecture(FAMILIES["bert"], layers=count, heads=16, head_size=64, hidden=1024, neurons=4096)
    structure = Structure.dense(architecture.anatomy)
    page = page_of(full(), tmp_path, structure, architecture)
    assert page.count("rect", "cell kept") == 16 * count
    assert page.count("rect", "bin") == BINS * count
    assert page.count("rect", "gone") == 0


def test_an_odd_number_of_neurons_is_all_counted() -> None:
    architecture = Architecture(FAMILIES["bert"], layers=2, heads=2, head_size=8, hidden=16, neurons=101)
    all_kept, one = layers(Structure.of([[0], []], [range(101), [100]]), Structure.dense(architecture.anatomy))
    assert all_kept.neurons == [1.0] * BINS
    assert [share > 0 for share in one.neurons] == [False] * (BINS - 1) + [True]
    few = Architecture(FAMILIES["bert"], layers=1, heads=2, head_size=8, hidden=16, neurons=3)
    assert layers(Structure.of([[]], [[1]]), Structure.dense(few.anatomy))[0].neurons == [0.0, 1.0, 0.0]


def test_many_labels(tmp_path: Path) -> None:
    said = full()
    said["task"]["labels"] = [f"label {i}" for i in range(150)]
    page = page_of(said, tmp_path)
    assert all(f"label {i}" in page.text for i in range(150))
    assert "150 labels" in page.text


def test_the_same_report_gives_the_same_page(tmp_path: Path) -> None:
    pages = []
    for _ in range(2):
        page_of(full(), tmp_path)
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.45, 0.94), (0.7, 0.7), (0, 0), (0, 600), (0.001, 0.0012), (0, 7), (1.0, 1.0), (3, 1e6)]
)
def test_ticks_span_the_values(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert found == sorted(set(found))
    assert found[0] <= low + 1e-9 and found[-1] >= high - 1e-9
