"""Whole jobs on the tiny model whose texts are compared: vectors and ranks, from the rows to the checkpoint."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from runpy import run_path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from core.domains.transformer.model import read_model
from core.pruning.export.card import snippet, write_card
from core.pruning.job.run import ModelRef, run
from core.pruning.latency import stopwatch
from core.pruning.reading.texts import tokens_of
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import encode
from core.rows.example import Example
from core.rows.text.processor import Text
from core.spec.errors import SpecError
from core.spec.job import JobSpec
from core.spec.report import ProbeReport, Report
from core.tasks import task_of
from tests.tiny import FILLER

ROWS, TEXTS, OTHERS, RARE = ("ds_" + digit * 32 for digit in "1234")
SIMILARITY = {"type": "sentence-similarity"}
PAIRS = SIMILARITY | {"text": ["q", "d"]}
SCORED = PAIRS | {"label": "s"}
RANKING = {"type": "text-ranking", "text": ["q", "d"]}
STEPS = {"steps": {"teach": 5, "recover": 5}, "batch_size": 16}
LEARNED = {"steps": {"teach": 5, "prune": 5, "recover": 5}, "batch_size": 16}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Queries and documents, which share words, with scores; texts alone; other pairs; and texts of rare words."""
    folder, rng = tmp_path_factory.mktemp("data"), random.Random(0)
    known = FILLER[:40]

    def texts(count: int, words: tuple[str, ...] = known) -> list[str]:
        return [" ".join(rng.choices(words, k=rng.randint(3, 8))) for _ in range(count)]

    def table(count: int) -> dict[str, list[Any]]:
        queries = texts(count)
        documents = [" ".join([*query.split()[:2], *rng.choices(known, k=3)]) for query in queries]
        return {"q": queries, "d": documents, "s": [rng.random() * 5 for _ in range(count)]}

    made = {ROWS: table(120), TEXTS: {"text": texts(60)}, OTHERS: table(60), RARE: {"text": texts(30, FILLER[35:])}}
    for name, columns in made.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return {name: folder / f"{name}.parquet" for name in made}


def go(body: dict[str, Any], model: Path, tables: Mapping[str, Path], workdir: Path) -> Report:
    """Run a job of few steps on data set ROWS."""
    task = {"data": {"dataset": ROWS}, "split": {"train": 60, "dev": 30}} | body["task"]
    spec = JobSpec.model_validate({"model": "tiny", "budget": {"params": 0.4}, "train": STEPS} | body | {"task": task})
    used = {name: tables[name] for name in set(spec.dataset_ids().values())}
    report = run(spec, ModelRef(model, "tiny"), used, workdir, lambda _said: None)
    assert report
    assert report.budget.met <= report.budget.limit
    assert report.verified.max_difference_to_measured < 1e-5
    assert report.results.baseline is not None
    for found in (report.results.dense, report.results.pruned, report.results.baseline):
        for value in found.test.values():
            assert value.low <= value.value <= value.high
    return report


def vectors_of(model: Any, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    """The mean of the tokens of each text alone."""
    with torch.inference_mode():
        return torch.cat([model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(1) for text in texts])


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "test.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def embedding(tiny: Path, tables: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Texts alone, to half the bytes; the test rows have words that no others have."""
    data = {"train": {"dataset": TEXTS}, "test": {"dataset": RARE}}
    body = {"task": SIMILARITY | {"data": data, "split": {"dev": 15}}, "budget": {"bytes": 0.5}}
    body |= {"vocabulary": "trim", "hidden_size": "trim", "train": {"steps": {"recover": 5}, "batch_size": 16}}
    folder = tmp_path_factory.mktemp("embedding")
    return go(body, tiny, tables, folder), folder / "output"


@pytest.fixture(scope="module")
def pairs(tiny: Path, tables: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Queries and documents, to plain layers, beside texts alone."""
    body = {"task": PAIRS, "sources": [{"data": {"dataset": TEXTS}}]}
    body |= {"export": {"formats": ["onnx", "onnx-int8"], "layout": "regular"}}
    folder = tmp_path_factory.mktemp("pairs")
    return go(body, tiny, tables, folder), folder / "output"


@pytest.fixture(scope="module")
def ranking(tiny: Path, tables: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Queries and documents, read together."""
    folder = tmp_path_factory.mktemp("ranking")
    return go({"task": RANKING, "export": {"formats": ["onnx-int8"]}}, tiny, tables, folder), folder / "output"


def test_texts_alone_keep_the_vectors_of_the_model_as_given(embedding: tuple[Report, Path], tiny: Path) -> None:
    """Whose vocabulary is whole: what the trimmed one makes of other words is measured, too."""
    report, output = embedding
    budget = report.budget
    assert sum(file.stat().st_size for file in output.rglob("*.safetensors")) == budget.met
    assert 0.9 * budget.limit < budget.met <= budget.limit == int(0.5 * budget.dense)
    assert report.vocabulary is not None and report.vocabulary.kept < report.vocabulary.before
    assert report.structure.hidden is not None and report.structure.hidden < 64
    assert report.train.steps["teach"] == 0 and report.results.given is None
    saved = np.load(output / "test_vectors.npz")
    tokenizer, given = AutoTokenizer.from_pretrained(tiny), AutoModel.from_pretrained(tiny)
    texts = [line["text"][0] for line in lines(output)]
    wanted = vectors_of(given, tokenizer, texts)
    torch.testing.assert_close(torch.from_numpy(saved["label"][:, 0]), wanted, atol=1e-5, rtol=0)
    dense, pruned = report.results.dense.test, report.results.pruned.test
    assert 0.5 < dense["cosine"].value < 0.999  # of words that the trimmed vocabulary lacks
    cosines = torch.cosine_similarity(torch.from_numpy(saved["logits"][:, 0]), wanted)
    assert pruned["cosine"].value == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert report.results.baseline is not None and abs(report.results.baseline.test["cosine"].value) < 0.1
    assert set(report.task.labels) == set() and report.task.head.startswith("its own vectors: mean of the tokens")


def test_a_card_of_vectors_says_how_they_are_had(
    embedding: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, output = embedding
    monkeypatch.chdir(output)
    card = Path("README.md").read_text()
    assert "pipeline_tag: sentence-similarity" in card and "library_name: sentence-transformers" in card
    assert 'SentenceTransformer(".", trust_remote_code=True)' in card
    assert "| random vectors |" in card and "always" not in card and "label" not in card
    assert "It gives a vector of a text of up to 128 tokens (its own vectors: mean of the tokens" in card
    told: dict[str, Any] = {}
    exec(card.split("safetensors:")[1].split("```python")[1].split("```")[0], told)
    assert told["vectors"].shape == (2, 64)
    page = Path("report.html").read_text()
    assert "agreement with dense (mean cosine)" in page and "always" not in page and "nan" not in page.casefold()


def test_pairs_make_a_plain_model(pairs: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    report, output = pairs
    assert report.transfer.coupling == "teacher" and report.data.sources == [60]
    assert report.results.given is not None
    config = json.loads((output / "config.json").read_text())
    assert config["architectures"] == ["BertModel"] and "auto_map" not in config
    assert [path.name for path in output.glob("*.py")] == ["load.py"]
    assert 0 < (report.verified.max_difference_onnx or 0) < 1e-5
    own = report.files["model.int8.onnx"]
    assert (
        own.change is not None and own.test["ndcg_at_10"].value > 0.8 * report.results.pruned.test["ndcg_at_10"].value
    )
    model, tokenizer = AutoModel.from_pretrained(output), AutoTokenizer.from_pretrained(output)
    said, saved = lines(output), np.load(output / "test_vectors.npz")["logits"]
    assert saved.shape == (len(said), 2, 64) and set(report.results.pruned.test) == {
        "ndcg_at_10",
        "recall_at_10",
        "mrr",
    }
    for place in (0, 1):
        wanted = vectors_of(model, tokenizer, [line["text"][place] for line in said])
        torch.testing.assert_close(torch.from_numpy(saved[:, place]), wanted, atol=1e-5, rtol=0)
    for line, (one, other) in zip(said, torch.from_numpy(saved), strict=True):
        assert line["predicted"] == pytest.approx(float(torch.cosine_similarity(one, other, dim=0)), abs=1e-5)
        assert "logits" not in line
    monkeypatch.chdir(output)
    card = Path("README.md").read_text()
    assert 'SentenceTransformer(".")' in card and "trust_remote_code" not in card
    assert "It learned which text of `d` belongs to which of `q`." in card
    assert "The model that it was made of did this already: as given its nDCG@10" in card
    told: dict[str, Any] = {"tokenizer": tokenizer}
    exec(card.split("ONNX Runtime, any batch")[1].split("```python")[1].split("```")[0], told)
    wanted = vectors_of(model, tokenizer, ["some text", "another, longer text"])
    np.testing.assert_allclose(told["vectors"], wanted, atol=1e-4)


def test_what_was_pruned_for_one_task_is_refused_for_another(embedding: tuple[Report, Path], tmp_path: Path) -> None:
    _, output = embedding
    spec = JobSpec.model_validate({"model": "m", "task": {"data": {"dataset": ROWS}}, "budget": {"params": 0.9}})
    with pytest.raises(SpecError, match="was pruned as an embedding model, and is no other now"):
        read_model(output, "single_label_classification").require(spec)
    read_model(output, "text_embedding")
    folder = Path(shutil.copytree(output, tmp_path / "classifier"))
    (folder / "modules.json").unlink()  # as a classifier has none
    with pytest.raises(SpecError, match="pruned for another task, and gives no vectors now"):
        read_model(folder, "text_embedding")


def test_short_and_long_texts_are_seen_together_by_least_squares(tiny: Path, tmp_path: Path) -> None:
    words = [" ".join(FILLER[i % 9 : i % 9 + 3]) for i in range(120)]
    documents = [" ".join([word, *FILLER[i % 7 : i % 7 + 30], str(i)]) for i, word in enumerate(words)]
    queries = [f"{word} {FILLER[i % 40]} {FILLER[i // 3]}" for i, word in enumerate(words)]
    pq.write_table(pa.table({"q": queries, "d": documents}), tmp_path / "rows.parquet")
    body = {"task": PAIRS, "train": {"steps": {"recover": 0}, "batch_size": 16}}
    assert go(body, tiny, {ROWS: tmp_path / "rows.parquet"}, tmp_path / "w").train.steps["recover"] == 0


def test_padding_of_shorter_texts_is_no_token_of_theirs(tiny: Path) -> None:
    modality = Text(load_tokenizer(tiny), 32, apart=True)
    examples = [Example(("w1", "w2 w3 w4 w5 w6"), 1.0)]
    counts = tokens_of(encode(examples, task_of("text_similarity", [], [1.0], 2), modality))
    assert counts[modality.pad_id] == 0 and counts.total() == 1 + 5 + 2 * 2


def test_vectors_are_turned_where_first_dimensions_are_to_serve_alone(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """By a Dense layer that changes no cosine: as a search, dense is the model as given."""
    task = PAIRS | {"dimensions": [4, 16]}
    body = {"task": task, "sources": [{"data": {"dataset": TEXTS}}], "train": {"steps": {"recover": 5}}}
    report = go(body | {"export": {"formats": ["onnx"]}}, tiny, tables, tmp_path)
    results, output = report.results, tmp_path / "output"
    assert results.given is not None and results.given.test == pytest.approx(results.dense.test)
    assert {*(results.pruned.shorter or {})} == {*(results.dense.shorter or {})} == {4, 16}
    modules = [one["type"].rpartition(".")[2] for one in json.loads((output / "modules.json").read_text())]
    assert modules == ["Transformer", "Pooling", "Dense"]
    assert report.verified.max_difference_onnx is not None and report.verified.max_difference_onnx < 1e-5


@pytest.mark.parametrize("task", [PAIRS, SCORED, SIMILARITY])
def test_a_probe_of_shorter_vectors(
    tiny: Path, tables: Mapping[str, Path], tmp_path: Path, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "SECONDS", 0.05)
    data = {"dataset": ROWS if "text" in task else TEXTS}
    task = {"dimensions": [16], "data": data, "split": {"train": 30, "dev": 10}} | task
    spec = JobSpec.model_validate({"model": "tiny", "budget": {"params": 0.4}, "task": task, "probe": True})
    report = run(spec, ModelRef(tiny, "tiny"), {data["dataset"]: tables[data["dataset"]]}, tmp_path, lambda _said: None)
    assert isinstance(report, ProbeReport) and report.latency


def test_a_ranking_is_a_cross_encoder(ranking: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    report, output = ranking
    said = lines(output)
    assert len(said) == 10 * 30 and set(report.results.pruned.test) == {"ndcg_at_10", "mrr"}
    assert report.task.labels == ["relevance"] and report.task.head == "a fresh head for a number"
    model = AutoModelForSequenceClassification.from_pretrained(output, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(output)
    with torch.inference_mode():
        for line in said[:5]:
            logits = model(**tokenizer(*line["text"], return_tensors="pt")).logits
            assert logits.tolist() == [pytest.approx(line["logits"], abs=1e-5)]
    for runtime, file in (("onnx", "model.onnx"), ("onnx-int8", "model.int8.onnx")):
        timed = {"budget": {"speedup": 2, "runtime": runtime}, "export": {"formats": ["onnx"]}}
        spec = JobSpec.model_validate({"model": "tiny", "task": RANKING | {"data": {"dataset": ROWS}}} | timed)
        code = snippet(report, spec, "AutoModelForSequenceClassification")
        assert code.index("tokenizer = AutoTokenizer") < code.index(f'InferenceSession("{file}")')
    for task, name in ((RANKING, "CrossEncoder"), (SIMILARITY, "SentenceTransformer")):
        body = {"model": "tiny", "task": task | {"data": {"dataset": ROWS}}, "budget": {"params": 0.5}}
        half = JobSpec.model_validate(body | {"export": {"precision": "float16"}})
        said = report.model_copy(update={"task": report.task.model_copy(update={"problem": half.task.problem})})
        one = f'{name}(".", trust_remote_code=True, model_kwargs={{"dtype": "float32"}})'
        assert one in snippet(said, half, "AutoModel")
    monkeypatch.chdir(output)
    card = Path("README.md").read_text()
    assert "pipeline_tag: text-ranking" in card and "library_name: sentence-transformers" in card
    assert 'CrossEncoder(".", trust_remote_code=True).predict([("a query", "some document")' in card
    assert "It gives a score of how well a document answers a query" in card and "knew these labels" not in card
    told: dict[str, Any] = {"tokenizer": tokenizer}
    exec(card.split("ONNX Runtime, any batch")[1].split("```python")[1].split("```")[0], told)
    assert told["logits"].shape == (2, 1)


@pytest.mark.parametrize(
    ("config", "says", "sigmoid"),
    [
        ({}, "are these scores before a sigmoid:", True),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "are these scores:", False),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}, "are these scores:", False),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Tanh"}},
            "are these scores before `torch.nn.modules.activation.Tanh`:",
            True,
        ),
    ],
)
def test_what_a_score_is_follows_what_config_json_names(
    ranking: tuple[Report, Path],
    config: dict[str, Any],
    says: str,
    sigmoid: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report, output = ranking
    folder = Path(shutil.copytree(output, tmp_path / "output"))
    said = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(said))
    spec = JobSpec.model_validate(json.loads((output / "manifest.json").read_text())["spec"])
    write_card(report, spec, ModelRef(folder, "tiny"), 32, "AutoModel", folder / "README.md")
    assert f"Or with transformers, whose logits {says}\n" in (folder / "README.md").read_text()
    monkeypatch.setattr("sys.argv", ["load.py", "w1", "w2 w3", "w1", "w4"])
    told = run_path(str(folder / "load.py"), run_name="__main__")
    assert told["shares"].equal(told["row"].sigmoid() if sigmoid else told["row"])
    first, second = capsys.readouterr().out.splitlines()  # a query and its document are read together
    assert first.startswith("w1 w2 w3 {'relevance': ") and second.startswith("w1 w4 {'relevance': ")
    monkeypatch.setattr("sys.argv", ["load.py", "w1"])
    with pytest.raises(SystemExit, match="2 texts are read together"):
        run_path(str(folder / "load.py"), run_name="__main__")


@pytest.mark.parametrize(
    ("task", "more"),
    [
        (SCORED, {"method": {"name": "l0"}, "train": LEARNED}),
        (PAIRS, {"method": {"name": "magnitude"}}),
        (SIMILARITY | {"text": ["q"]}, {"method": {"name": "random"}, "train": {"steps": {"recover": 5}}}),
        (PAIRS, {"method": {"name": "pdp"}, "train": LEARNED}),
        (SCORED, {"budget": {"sparsity": 0.5}, "train": LEARNED}),
        (RANKING, {"budget": {"sparsity": 0.5, "pattern": "2:4"}}),
        (SIMILARITY | {"text": ["q"]}, {"method": {"name": "l0"}, "train": {"steps": {"prune": 5, "recover": 5}}}),
        (PAIRS, {"train": {"steps": {"teach": 0, "recover": 0}}, "budget": {"macs": 0.5}}),
        (RANKING | {"label": "s"}, {"method": {"name": "l0"}, "train": LEARNED}),
    ],
    ids=lambda part: part.get("label", "-".join(part.get("text", ()))) if "type" in part else None,
)
def test_methods_and_budgets(
    task: dict[str, Any], more: dict[str, Any], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    if task == RANKING | {"label": "s"}:  # several documents a query
        columns = pq.read_table(tables[ROWS]).to_pydict()
        columns["q"] = [columns["q"][i // 4] for i in range(len(columns["q"]))]
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
        tables = {**tables, ROWS: tmp_path / "rows.parquet"}
    report = go({"task": task} | more, tiny, tables, tmp_path)
    if "sparsity" in more.get("budget", {}):
        assert report.sparsity is not None and report.budget.fraction == pytest.approx(0.5, abs=0.01)
        assert "trust_remote_code" not in (tmp_path / "output" / "README.md").read_text()


@pytest.mark.parametrize(
    ("coupling", "more"),
    [
        ("sequential", {}),
        ("joint", {"transfer": {"coupling": "joint", "weighting": "learned"}}),
        ("tied", {"method": {"name": "l0"}, "train": LEARNED}),
    ],
)
def test_sources_of_another_kind_are_learned_from(
    coupling: str, more: dict[str, Any], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """Scores beside pairs: both are of the same vectors."""
    sources = [{"data": {"dataset": OTHERS}, "text": ["q", "d"], "label": "s"}]
    report = go({"task": PAIRS, "sources": sources, "transfer": {"coupling": coupling}} | more, tiny, tables, tmp_path)
    assert report.transfer.coupling == coupling and report.data.sources == [60]


@pytest.mark.parametrize(
    ("task", "own", "rows"),
    [
        (SIMILARITY | {"text": ["q"]}, {"data": {"dataset": OTHERS}}, 60),
        (PAIRS, {"data": {"dataset": TEXTS}, "text": ["text"]}, 60),
        (SCORED, {"data": {"dataset": OTHERS}}, 60),
        (RANKING, {"data": {"dataset": OTHERS}}, 600),  # each query with other documents, too
    ],
    ids=["texts", "pairs", "scores", "ranks"],
)
def test_own_text_is_distilled_where_texts_are_compared(
    task: dict[str, Any], own: dict[str, Any], rows: int, tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    report = go({"task": task | {"unlabelled": own}}, tiny, tables, tmp_path)
    assert (report.transfer.coupling, report.transfer.unlabelled, report.data.unlabelled) == ("teacher", True, rows)


def test_what_ranks_already_needs_no_teaching(
    ranking: tuple[Report, Path], tiny: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    """Whatever its one output is called; and it is pruned again."""
    _, output = ranking
    config = json.loads((output / "config.json").read_text())
    renamed = config | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    again = tmp_path / "again"
    again.mkdir()
    for file in output.iterdir():
        (again / file.name).write_bytes(file.read_bytes())
    (again / "config.json").write_text(json.dumps(renamed))
    body = {"task": RANKING, "train": {"steps": {"teach": 0, "recover": 5}}, "budget": {"params": 0.5}}
    report = go(body, again, tables, tmp_path / "work")
    assert report.task.head == "its own head for a number" and report.results.given is not None
    assert report.results.given.test["mrr"].value == pytest.approx(report.results.dense.test["mrr"].value)
    with pytest.raises(SpecError, match="this one has no head") as caught:
        go(body, tiny, tables, tmp_path / "other")
    assert caught.value.field == "/train/steps/teach"


def test_what_was_pruned_to_vectors_is_pruned_again(
    embedding: tuple[Report, Path], tables: Mapping[str, Path], tmp_path: Path
) -> None:
    before, output = embedding
    assert read_model(output, "text_embedding").pruned
    body = {"task": SIMILARITY | {"text": ["q"]}, "train": {"steps": {"recover": 5}}, "budget": {"params": 0.6}}
    report = go(body, output, tables, tmp_path)
    assert report.results.dense.bytes == before.results.pruned.bytes
    assert report.results.dense.test["cosine"].value == pytest.approx(1)
