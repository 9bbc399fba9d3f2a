"""Jobs whose texts are compared, through HTTP: planned in their own words, and refused with field and mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.ledger.settings import Settings
from tests.api.conftest import HIDDEN, MODEL, Upload, faults, one_database, write_head, write_safetensors

pytestmark = one_database
SIMILARITY: dict[str, Any] = {"type": "sentence-similarity"}
PAIRS = SIMILARITY | {"text": ["q", "d"]}
RANKING: dict[str, Any] = {"type": "text-ranking", "text": ["q", "d"]}
OF_CLASSES = ("class", "accurac", "label '", "labels that", "head for 0", "none of its own")


@pytest.fixture
def data(upload: Upload) -> str:
    """Queries, documents and scores."""
    lines = [f"query {i},document {i},{i % 7}" for i in range(100)]
    return upload("\n".join(["q,d,s", *lines]).encode(), "pairs.csv")


def body(data: str, task: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "task": {"data": {"dataset": data}} | task, "budget": {"params": 0.5}} | more


def modules(folder: Path, pooling: str = "mean", dense: tuple[int, int] | None = None) -> None:
    """As sentence-transformers saves them."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling"} | ({"2_Dense": "Dense"} if dense else {})
    said = [{"type": f"sentence_transformers.models.{kind}", "path": path} for path, kind in kinds.items()]
    (folder / "modules.json").write_text(json.dumps(said))
    for path in [*kinds][1:]:
        (folder / path).mkdir()
        (folder / path / "config.json").write_text(json.dumps({"pooling_mode": pooling} if path[0] == "1" else {}))
    if dense:
        write_safetensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": [*dense]})


@pytest.mark.parametrize(
    ("task", "metric", "labels", "head", "rows", "note"),
    [
        (
            SIMILARITY | {"text": ["q"]},
            "cosine",
            [],
            "its own vectors: mean of the tokens, as",
            20,
            "100 texts without",
        ),
        (
            PAIRS,
            "ndcg_at_10",
            ["match"],
            "its own vectors: mean of the tokens, as",
            20,
            "100 rows of 100 queries and 100",
        ),
        (PAIRS | {"label": "s"}, "spearman", ["score"], "its own vectors: mean", 20, "100 pairs of texts with a score"),
        (RANKING, "ndcg_at_10", ["relevance"], "a fresh head for a number", 200, "100 rows of 100 queries and 100"),
    ],
)
def test_a_plan_speaks_of_vectors_and_ranks(
    client: TestClient,
    data: str,
    task: dict[str, Any],
    metric: str,
    labels: list[str],
    head: str,
    rows: int,
    note: str,
) -> None:
    answer = client.post("/v1/jobs:validate", json=body(data, task))
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["spec"]["task"]["metric"] == metric and plan["labels"] == labels
    assert plan["head"].startswith(head) and plan["rows"]["test"] == rows and plan["notes"][0].startswith(note)
    assert plan["estimate"]["seconds"]["low"] > 0
    said = " ".join([*plan["warnings"], *plan["notes"], plan["head"]])
    assert [words for words in OF_CLASSES if words in said] == []
    accepted = client.post("/v1/jobs", json=body(data, task))
    assert accepted.status_code == 202 and accepted.json()["spec"]["task"]["label"] == task.get("label")


def test_few_rows_are_warned_of_in_the_words_of_their_task(client: TestClient, data: str) -> None:
    def said(task: dict[str, Any]) -> list[str]:
        return [str(one) for one in client.post("/v1/jobs:validate", json=body(data, task)).json()["warnings"]]

    assert "20 test rows tell models apart roughly at best; give more if you can" in said(PAIRS | {"label": "s"})
    assert said(PAIRS)[1].startswith("20 test documents are searched: to find one among so few says little")
    assert said(RANKING)[1].startswith("20 test queries are ranked: so few tell little")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a metric of classes": (
        {"task": PAIRS | {"metric": "f1"}},
        "/task/metric",
        "give one of 'ndcg_at_10', 'recall_at_10'",
    ),
    "one column to rank": (
        {"task": {"type": "text-ranking"}},
        "/task/text",
        "two columns: the query, and the document",
    ),
    "a score of one": (
        {"task": SIMILARITY | {"text": ["q"], "label": "s"}},
        "/task/label",
        "give two columns in 'text'",
    ),
    "several labels": ({"task": PAIRS | {"label": ["s"]}}, "/task/label", "one column of numbers, or none"),
    "a map": ({"task": PAIRS | {"label_map": {"a": "b"}}}, "/task/label_map", "renames labels: give 'label', too"),
    "no such column": (
        {"task": PAIRS | {"text": ["q", "x"]}},
        "/task/text/1",
        "has no column 'x'; its columns: 'q', 'd'",
    ),
    "all alike": ({"task": PAIRS | {"text": ["q", "q"]}}, "/task/text/1", "repeats '/task/text/0' in 100 of 100 rows"),
    "no numbers": (
        {"task": PAIRS | {"label": "d"}},
        "/task/label",
        "'document 0' is not a finite number; give one such",
    ),
    "auto": (
        {"task": PAIRS, "sources": [{"text": ["q"]}], "transfer": {"coupling": "auto"}},
        "/transfer/coupling",
        "name a coupling, such as 'teacher'",
    ),
    "a source of one": (
        {"task": RANKING, "sources": [{"text": ["q"]}]},
        "/sources/0/text",
        "has 2 to 8 columns of text",
    ),
    "a source of three": (
        {"task": PAIRS, "sources": [{"text": ["q", "d", "s"], "label": "s"}]},
        "/sources/0/label",
        "give two columns in 'text', or no label",
    ),
    "no teaching": (
        {"task": RANKING, "train": {"steps": {"teach": 0}}},
        "/train/steps/teach",
        "this one has no head",
    ),
    "out of reach": ({"task": PAIRS, "budget": {"bytes": 0.01}}, "/budget/bytes", '"vocabulary": "trim"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_faults_name_the_field_and_the_mend(client: TestClient, data: str, name: str) -> None:
    changes, pointer, message = REFUSED[name]
    sources = [{"data": {"dataset": data}} | one for one in changes.get("sources", [])]
    sent = body(data, changes["task"]) | changes | {"sources": sources}
    sent["task"] = {"data": {"dataset": data}} | changes["task"]
    for path in ("/v1/jobs", "/v1/jobs:validate"):
        found = faults(client.post(path, json=sent))
        assert message in found.get(pointer, ""), found


def test_a_model_that_ranks_already_needs_no_teaching(client: TestClient, data: str, settings: Settings) -> None:
    write_head(settings.models_dir / MODEL, ["LABEL_0"])
    sent = body(data, RANKING, train={"steps": {"teach": 0}})
    plan = client.post("/v1/jobs:validate", json=sent)
    assert plan.status_code == 200, plan.text
    assert (plan.json()["head"], plan.json()["labels"]) == ("its own head for a number", ["relevance"])


def test_what_makes_the_vectors_is_told_priced_and_refused(client: TestClient, data: str, settings: Settings) -> None:
    folder = settings.models_dir / MODEL

    def planned(**more: Any) -> Any:
        return client.post("/v1/jobs:validate", json=body(data, PAIRS, **more))

    bare = planned().json()
    modules(folder, "lasttoken", dense=(10, HIDDEN))
    plan = planned().json()
    assert plan["head"] == "its own vectors: last token, a Dense layer (modules.json)"
    [more] = {of["dense"] for of in plan["reach"] if of["cost"] == "params" and of["of"] == "model"}
    [less] = {of["dense"] for of in bare["reach"] if of["cost"] == "params" and of["of"] == "model"}
    assert more - less == 10 * HIDDEN
    assert planned(hidden_size="trim").status_code == 200
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "query: "}}))
    assert planned().json()["warnings"][1].startswith("the model was trained with 'query: ' before its texts")
    write_safetensors(folder / "2_Dense" / "model.safetensors", {"linear.weight": [10, HIDDEN + 1]})
    assert "the Dense layer in its 2_Dense does not fit" in faults(planned())["/model"]
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "weightedmean"}))
    assert "its pooling is none of mean, first, last, max" in faults(planned())["/model"]
    assert client.post("/v1/jobs:validate", json=body(data, RANKING)).status_code == 200  # which reads no pooling


@pytest.mark.parametrize(("dense", "width"), [(None, HIDDEN), ((24, HIDDEN), 24)])
def test_first_dimensions_are_fewer_than_a_vector_has(
    client: TestClient, data: str, settings: Settings, dense: tuple[int, int] | None, width: int
) -> None:
    modules(settings.models_dir / MODEL, dense=dense)
    for size, status in ((width - 1, 200), (width, 422)):
        answer = client.post("/v1/jobs:validate", json=body(data, PAIRS | {"dimensions": [4, size]}))
        assert answer.status_code == status
    assert faults(answer) == {"/task/dimensions": f"the model's vectors have {width} dimensions: give fewer"}


def test_sources_of_every_kind_are_counted(client: TestClient, data: str, upload: Upload) -> None:
    lines = [f"fresh {i},more {i},{i % 5}" for i in range(40)]
    other = upload("\n".join(["q,d,s", *lines]).encode(), "others.csv")
    kinds: list[dict[str, Any]] = [{"text": ["q"]}, {"text": ["q", "d"]}, {"text": ["q", "d"], "label": "s"}]
    for source in kinds:
        sent = body(data, PAIRS, sources=[{"data": {"dataset": other}} | source])
        plan = client.post("/v1/jobs:validate", json=sent)
        assert plan.status_code == 200, plan.text
        assert plan.json()["rows"]["sources"] == [40]
        assert plan.json()["spec"]["transfer"]["coupling"] == "teacher"
        assert not any("'label'" in warning for warning in plan.json()["warnings"])
