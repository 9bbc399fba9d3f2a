"""Each problem from its rows to a whole job: what was measured is what is given."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.measures.intervals import value_of
from core.measures.numbers import of_numbers
from core.pruning.export.files import write_test_rows
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import encode
from core.pruning.trials import allot
from core.rows.example import Example
from core.rows.text.processor import Text
from core.spec.metrics import shown
from core.spec.report import Report
from core.tasks.tags import Tags
from core.tasks.task import IGNORED
from tests.fresh import Fresh
from tests.tiny import BAD, GOOD, SOURCE, TARGET, done, rows, save_table, spec_of

TASKS = ["multi_label_classification", "regression", "token_classification"]


def test_a_tag_belongs_to_the_first_token_of_its_word(tiny: Path) -> None:
    problem = Tags(("B-x", "O"))
    examples = [Example(("good", "w1!!", "bad"), ("B-x", "O", "B-x")), Example(("good",), None)]
    found = encode(examples, problem, Text(load_tokenizer(tiny, of_words=True), 32, of_words=True))
    assert found.labels[0].tolist() == [IGNORED, 0, 1, IGNORED, IGNORED, 0, IGNORED]  # [CLS] good w1 ! ! bad [SEP]
    assert found.labels[1].tolist() == [IGNORED, -1, *[IGNORED] * 5]
    cut = encode(examples, problem, Text(load_tokenizer(tiny, of_words=True), 4, of_words=True))
    assert cut.labels[0].tolist() == [IGNORED, 0, 1, IGNORED]


def test_a_word_without_a_token_has_no_tag_that_counts(tiny: Path, tmp_path: Path) -> None:
    problem, tokenizer = Tags(("B-x", "O")), load_tokenizer(tiny, of_words=True)
    examples = [Example(("good", "", "\u00a0", "bad"), ("B-x", "O", "O", "B-x")), Example(("", "good"), ("O", "O"))]
    found = encode(examples, problem, Text(tokenizer, 32, of_words=True))
    assert found.labels.tolist() == [[IGNORED, 0, 0, IGNORED], [IGNORED, 1, IGNORED, IGNORED]]
    tokenizer.model_max_length = 32
    logits = torch.tensor([1.0, 0.0]).expand(2, 4, 2)  # always B-x
    write_test_rows(examples, found, logits, tmp_path / "test.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert [row["predicted"] for row in rows] == [["B-x", None, None, "B-x"], [None, "B-x"]]


def table_of(problem: str, count: int, seed: int) -> dict[str, list[Any]]:
    """The rows of `tests.tiny` with other labels, as they lie in a stored data set."""
    table = rows(count, seed)
    texts = [str(text).split() for text in table["text"]]
    if problem == "regression":
        return {
            **table,
            "label": [
                str(1000 + 500 * (label == "pos") + 3 * len(set(words)))
                for label, words in zip(table["label"], texts, strict=True)
            ],
        }
    if problem == "multi_label_classification":
        found = [
            [str(label)] * (label == "pos") + ["low"] * ("w1" in words or "w2" in words)
            for label, words in zip(table["label"], texts, strict=True)
        ]
        return {
            **table,
            "label": [json.dumps(labels) if i % 3 else "|".join(labels) or "[]" for i, labels in enumerate(found)],
        }
    for words in texts[::7]:
        words.insert(2, "\u200b")  # which gives no token
    tags = [["B-GOOD" if word in GOOD else "B-BAD" if word in BAD else "O" for word in words] for words in texts]
    return {"text": list(map(json.dumps, texts)), "label": list(map(json.dumps, tags))}


def asked_of(problem: str) -> dict[str, Any]:
    """The job's task."""
    kind = {"type": "token-classification"} if problem == "token_classification" else {"problem_type": problem}
    return {**kind, "data": {"dataset": TARGET}, "split": {"train": 80, "dev": 40}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Path]]:
    """Of each problem: target and source as Parquet."""
    found: dict[str, dict[str, Path]] = {}
    for problem in TASKS:
        folder = tmp_path_factory.mktemp(problem)
        for name, count, seed in ((TARGET, 180, 0), (SOURCE, 200, 1)):
            save_table(folder / f"{name}.parquet", table_of(problem, count, seed))
            found.setdefault(problem, {})[name] = folder / f"{name}.parquet"
    return found


def go(problem: str, tiny: Path, data: Mapping[str, Path], workdir: Path, **changes: Any) -> Report:
    """A quick job."""
    train = {"steps": {"teach": 120, "recover": 60}, "learning_rate": 2e-3}
    body = {"task": asked_of(problem), "budget": {"params": 0.4}, "train": train}
    return done(spec_of(**body | changes), tiny, data, workdir)


STRANGER = """
import json
from load import load
model, tokenizer = load()
rows = [json.loads(line) for line in open("test.jsonl", encoding="utf-8")]
worst = 0
for row in rows:
    words = isinstance(row["logits"][0], list)
    batch = tokenizer(row["text"] if words else row["text"][0], is_split_into_words=words, return_tensors="pt")
    logits = model(**batch).logits[0]
    if words:
        ids = batch.word_ids(0)
        logits = logits[[i for i, word in enumerate(ids) if word is not None and word != ids[i - 1]]]
    worst = max(worst, float((logits.detach() - __import__("torch").tensor(row["logits"])).abs().max()))
print(json.dumps([worst, model.config.problem_type, model.config.id2label]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("problem", TASKS)
def test_a_job_gives_a_checkpoint_that_is_what_was_measured(
    problem: str, tiny: Path, data: Mapping[str, Mapping[str, Path]], fresh: Fresh, tmp_path: Path
) -> None:
    """With a source of the same problem; ONNX beside, of what has an answer for each word; and it learns."""
    changes = {"sources": [{"data": {"dataset": SOURCE}, "label": "label"}], "transfer": {"coupling": "teacher"}}
    changes |= {"export": {"formats": ["onnx", "onnx-int8"]}} if problem == "token_classification" else {}
    report = go(problem, tiny, data[problem], tmp_path, **changes)
    out = tmp_path / "output"
    assert 0.97 * report.budget.limit <= report.budget.met <= report.budget.limit
    metric = report.task.metric
    quality = report.results.pruned.test[metric]
    assert quality.low <= quality.value <= quality.high and quality.value > 0.7
    assert report.verified.test[metric] == pytest.approx(quality.value, abs=1e-4)
    if problem == "token_classification":
        assert report.verified.max_difference_onnx < 1e-4
        assert report.files["model.int8.onnx"].test[metric].value == pytest.approx(quality.value, abs=0.05)
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report.to_json()))
    usual = report.results.baseline.test[metric]
    assert usual.value < quality.value
    assert f"| {shown(usual.value, metric)} (" in (out / "README.md").read_text()
    if problem == "regression":  # in the labels' own unit
        said = [json.loads(line)["logits"][0] for line in (out / "test.jsonl").read_text().splitlines()]
        assert 900 < min(said) < 1200 < max(said) < 1700
        assert report.results.pruned.test["rmse"].value > 1
        assert report.curves["recover"].points[-1]["rmse"] > 1
        labels = [json.loads(line)["label"] for line in (out / "test.jsonl").read_text().splitlines()]
        again = value_of(of_numbers(np.float32(said).astype(float), np.array(labels)), len(labels))
        measured = report.results.pruned.test
        assert again == {name: pytest.approx(measured[name].value, rel=1e-12) for name in again}
    if problem == "token_classification":
        told = [json.loads(line) for line in (out / "test.jsonl").read_text().splitlines()]
        unread = [
            (word == "\u200b", tag is None)
            for row in told
            for word, tag in zip(row["text"], row["predicted"], strict=True)
        ]
        assert {(True, True), (False, False)} == {*unread}
    ended = subprocess.run(
        [*fresh, "-I", "-c", "import sys; sys.path.insert(0, '.')\n" + STRANGER],
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    worst, kind, labels = json.loads(ended.stdout)
    assert worst < (0.1 if problem == "regression" else 1e-4)
    assert kind == (None if problem == "token_classification" else problem)
    assert list(labels.values()) == report.task.labels
    assert ("AutoModelForToken" in (out / "README.md").read_text()) == (problem == "token_classification")
    assert report.task.labels[0] in (out / "report.html").read_text()
    demo = subprocess.run([*fresh, "load.py", "good w1"], cwd=out, capture_output=True, text=True, check=False)
    if problem == "token_classification":  # a line a word
        said = [line.split() for line in demo.stdout.splitlines()]
        assert [word for word, _, _ in said] == ["good", "w1"], demo.stdout + demo.stderr
        assert all(tag in report.task.labels and 0 < float(share) <= 1 for _, tag, share in said)
        assert "the first piece decides" in (out / "README.md").read_text()
    else:
        assert report.task.labels[0] in demo.stdout, demo.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("kept", "test"), [(0.4, {"dataset": SOURCE}), (0.06, None)])
def test_numbers_are_compared_in_the_unit_that_was_trained(
    kept: float, test: dict[str, str] | None, tiny: Path, tmp_path: Path
) -> None:
    """Not in that of test labels, which may be all the same; and with hardly more than the head that has to stay."""
    paths = {name: tmp_path / f"{name}.parquet" for name in (TARGET, SOURCE)}
    for name, count in ((TARGET, 180), (SOURCE, 150)):
        table = table_of("regression", count, seed=count)
        texts = [" ".join(text.split()[: i % 7 + 1]) for i, text in enumerate(table["text"])]
        labels = [f"{label}e5" if name == TARGET else "1.2e8" for label in table["label"]]
        save_table(paths[name], {"text": texts, "label": labels})
    data = {"train": {"dataset": TARGET}, "test": test} if test else {"dataset": TARGET}
    task = asked_of("regression") | {"data": data, "split": {"dev": 40} | ({} if test else {"train": 80})}
    export = {"formats": ["onnx", "onnx-int8"] if test else []}
    report = go("regression", tiny, paths, tmp_path, task=task, budget={"params": kept}, export=export)
    assert not test or (report.verified.max_difference_onnx < 1e-4 and "rmse" in report.files["model.int8.onnx"].test)
    assert any(report.structure.heads)
    assert not test or report.results.pruned.test["spearman"].value == 0


PLAIN: list[tuple[str, dict[str, Any]]] = [
    (
        "token_classification",
        {
            "budget": {"params": 0.6},
            "method": {"name": "magnitude"},
            "export": {"layout": "regular"},
            "train": {"steps": {"teach": 30, "recover": 0}, "learning_rate": 2e-3},
        },
    ),
    ("regression", {"budget": {"params": 0.6}, "export": {"layout": "regular"}}),
    ("multi_label_classification", {"budget": {"sparsity": 0.5, "pattern": "2:4"}, "method": {"name": "magnitude"}}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "changes"), PLAIN, ids=[problem for problem, _ in PLAIN])
def test_what_a_plain_config_says_needs_no_code(
    problem: str, changes: dict[str, Any], tiny: Path, data: Mapping[str, Mapping[str, Path]], tmp_path: Path
) -> None:
    report = go(problem, tiny, data[problem], tmp_path, **changes)
    out = tmp_path / "output"
    assert not list(out.glob("*.py"))
    assert report.verified.max_difference_between_loaders is None
    metric = report.task.metric
    measured = report.results.pruned.test[metric].value
    assert report.verified.test[metric] == pytest.approx(measured, abs=1e-4)
    config, card = json.loads((out / "config.json").read_text()), (out / "README.md").read_text()
    assert not {"auto_map", "topwork"} & set(config) and "trust_remote_code" not in card
    assert config["num_hidden_layers"] == 3 - len(report.structure.dropped)


@pytest.mark.slow
@pytest.mark.parametrize("problem", TASKS)
def test_masks_are_learned_jointly_with_weighted_sources(
    problem: str, tiny: Path, data: Mapping[str, Mapping[str, Path]], tmp_path: Path
) -> None:
    options = {"transfer": {"coupling": "joint", "weighting": "learned"}, "method": {"name": "l0"}}
    train = {"steps": {"teach": 8, "prune": 16, "recover": 8}}
    source = {"data": {"dataset": SOURCE}, "label": "label"}
    report = go(problem, tiny, data[problem], tmp_path, sources=[source], train=train, **options)
    assert set(report.transfer.weights) == {"target", "source 0"}


@pytest.mark.slow
@pytest.mark.parametrize("problem", TASKS)
def test_auto_tries_text_without_labels(
    problem: str, tiny: Path, data: Mapping[str, Mapping[str, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allot, "BATCHES", 1)  # or so short a job would have no trials
    sources, train = [{"data": {"dataset": SOURCE}}], {"steps": {"teach": 16, "recover": 30}, "batch_size": 16}
    report = go(problem, tiny, data[problem], tmp_path, sources=sources, train=train, vocabulary="trim")
    trials = report.transfer.auto.trials
    assert [trial.choice for trial in trials] == ["none", "teacher in prune, recover"]
    assert all(trial.score <= 1 for trial in trials)
