"""Plans: what a job would do, with which model, and what is in reach of its budget."""

from __future__ import annotations

import json
import os
from math import prod
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from core.domains.folder import PRUNED
from core.ledger import workers
from core.ledger.database import Database
from core.ledger.jobs import attempts, claims, owner
from core.ledger.settings import Settings
from core.ledger.tables import Job, Tenant
from core.spec.job import JobSpec
from tests.api.conftest import (
    HEADS,
    HIDDEN,
    LAYERS,
    MODEL,
    NEURONS,
    Upload,
    faults,
    model_shapes,
    one_database,
    put,
    reviews,
    write_head,
    write_model,
    write_safetensors,
)
from tests.reports import report

LLAMA = {"model_type": "llama", "num_attention_heads": HEADS, "max_position_embeddings": 64, "vocab_size": 100}
LINES = [f'{{"text": ["review", "{i}"], "label": ["O", "{"B-X" if i % 2 else "O"}"]}}' for i in range(60)]
FILES = {
    "multi_label_classification": (
        "\n".join(["text,label", *(f"t{i},{'a|b' if i % 2 else 'b'}" for i in range(60))]),
        "csv",
    ),
    "regression": ("\n".join(["text,label", *(f"t{i},{i / 10}" for i in range(60))]), "csv"),
    "token-classification": ("\n".join(LINES), "jsonl"),
}


def test_own_text_is_counted_and_asked_for_where_there_is_none(
    client: TestClient, payload: dict[str, Any], upload: Upload
) -> None:
    asks = "give the target's own unlabelled texts in task.unlabelled: "
    assert client.post("/v1/jobs:validate", json=payload).json()["warnings"][0].startswith(asks)
    own = upload(b"text\n" + b"".join(b"unseen %d\n" % i for i in range(30)))
    payload["task"]["unlabelled"] = {"data": {"dataset": own}}
    plan = client.post("/v1/jobs:validate", json=payload).json()
    assert (plan["rows"]["unlabelled"], plan["rows"]["sources"]) == (30, [])
    assert not any("task.unlabelled" in said for said in plan["warnings"])
    assert client.post("/v1/jobs", json=plan["spec"]).status_code == 202
    for change, pointer, says in (
        ({"text": ["body"]}, "/task/unlabelled/text/0", "has no column 'body'"),
        ({"label": "text"}, "/task/unlabelled/label", "read without labels"),
        ({"data": payload["task"]["data"]}, "/task/unlabelled/data/dataset", "0 usable rows"),
        ({"data": {"dataset": "ds_" + 32 * "0"}}, "/task/unlabelled/data/dataset", "there is no data set"),
    ):
        found = faults(
            client.post("/v1/jobs", json=put(payload, "/task/unlabelled", {"data": {"dataset": own}, **change}))
        )
        assert says in found[pointer]


OWN = b"".join(b"It was bought %d days ago. Still unread!\n" % i for i in range(30))


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("own.txt", OWN, "column1"),
        ("own.csv", b"id,text\n" + b"".join(b"%d,unseen %d\n" % (i, i) for i in range(30)), "text"),
        ("own.csv", b"title,review\n" + b"".join(b"unread %d,unseen %d\n" % (i, i) for i in range(30)), "review"),
        ("own.csv", b"title,body\n" + b"".join(b"unread %d,unseen %d\n" % (i, i) for i in range(30)), None),
    ],
)
def test_texts_to_borrow_from_need_no_column_of_the_targets_name(
    client: TestClient, payload: dict[str, Any], upload: Upload, name: str, content: bytes, column: str | None
) -> None:
    data = {"dataset": upload(reviews(60).replace(b"text", b"review", 1))}
    payload["task"] = {"data": data, "text": ["review"], "unlabelled": {"data": {"dataset": upload(content, name)}}}
    if column != "text":  # which is a source's usual one
        payload["sources"] = [{"data": {"dataset": upload(content.replace(b"un", b"not un"), name)}}]
    answer = client.post("/v1/jobs:validate", json=payload)
    if column is None:
        assert {*faults(answer)} == {"/task/unlabelled/text/0", "/sources/0/text/0"}
        assert {*faults(client.post("/v1/jobs:validate", json=payload | {"budget": {}}))} > {"/sources/0/text/0"}
        return
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert plan["spec"]["task"]["unlabelled"]["text"] == [column]
    told = f"the texts of {name} are its column '{column}'"
    assert plan["notes"].count(told) == 2 - (column == "text") - (column == "review")
    job = client.post("/v1/jobs", json=payload).json()
    assert all(one["text"] == [column] for one in (job["spec"]["task"]["unlabelled"], *job["spec"]["sources"]))


def test_words_and_tags_are_found_by_their_usual_names(
    client: TestClient, payload: dict[str, Any], upload: Upload
) -> None:
    def conll(first: int) -> bytes:
        return b"".join(b"EU B-ORG\nrejects O\n%d O\n\n" % i for i in range(first, first + 40))

    data, own = upload(conll(0), "ner.conll"), upload(conll(100), "own.conll")
    payload["task"] = {
        "type": "token-classification",
        "data": {"dataset": data},
        "unlabelled": {"data": {"dataset": own}},
    }
    answer = client.post("/v1/jobs:validate", json=payload)
    assert answer.status_code == 200, answer.text
    task = answer.json()["spec"]["task"]
    assert (task["text"], task["label"], task["unlabelled"]["text"]) == (["tokens"], "tags", ["tokens"])
    assert answer.json()["notes"][:3] == [
        "the words of ner.conll are in the column 'tokens'",
        "the tags of ner.conll are in the column 'tags'",
        "the texts of own.conll are its column 'tokens'",
    ]
    payload["task"]["label"] = "tag"
    assert "has no column 'tag'" in faults(client.post("/v1/jobs:validate", json=payload))["/task/label"]


@pytest.mark.parametrize(
    ("budget", "unit"),
    [({"macs": 10, "sequence_length": 16}, "multiply-accumulates at 16 tokens"), ({"bytes": 0.01}, "bytes of weights")],
)
def test_every_cost_names_its_reachable_range(
    client: TestClient, payload: dict[str, Any], budget: dict[str, Any], unit: str
) -> None:
    found = faults(client.post("/v1/jobs:validate", json=put(payload, "/budget", budget)))
    (kind, *_) = budget
    assert "out of reach" in found[f"/budget/{kind}"] and unit in found[f"/budget/{kind}"]


@pytest.mark.parametrize("layout", ["free", "regular"])
@pytest.mark.parametrize("kind", ["params", "macs", "bytes"])
def test_validate_says_what_a_job_would_do_and_asks_for_none(
    client: TestClient, payload: dict[str, Any], kind: str, layout: str
) -> None:
    payload["export"] = {"layout": layout}
    plan = client.post("/v1/jobs:validate", json=put(payload, "/budget", {kind: 0.9})).json()
    assert plan["spec"]["method"]["name"] == "fisher"
    assert sum(plan["rows"][part] for part in ("train", "dev", "test")) == 60
    assert plan["labels"] == ["negative", "positive"]
    of = "encoder" if kind == "params" else "model"
    (reach,) = (one for one in plan["reach"] if (one["cost"], one["of"]) == (kind, of))
    assert reach["lowest"] < plan["limit"] == int(0.9 * reach["dense"])
    lowest = client.post("/v1/jobs:validate", json=put(payload, "/budget", {kind: reach["lowest"]}))
    assert lowest.json()["limit"] == reach["lowest"]
    less = client.post("/v1/jobs:validate", json=put(payload, "/budget", {kind: reach["lowest"] - 1}))
    assert f"{reach['lowest']:,} to {reach['dense']:,}" in faults(less)[f"/budget/{kind}"]
    assert any("test rows" in warning for warning in plan["warnings"])
    assert client.get("/v1/jobs").json()["items"] == []


@one_database
def test_validate_plans_every_size_and_names_all_that_are_out_of_reach(
    client: TestClient, payload: dict[str, Any]
) -> None:
    alone = client.post("/v1/jobs:validate", json=put(payload, "/budget", {"params": 0.5})).json()
    body = {name: value for name, value in payload.items() if name != "budget"}
    sizes = [{"params": 0.5}, {"params": 0.9}, {"latency_ms": 3.0}]
    plan = client.post("/v1/jobs:validate", json=body | {"budgets": sizes}).json()
    assert [size["name"] for size in plan["sizes"]] == ["params-0.5", "params-0.9", "latency_ms-3"]
    assert plan["limit"] is None and alone["sizes"] == []
    assert plan["sizes"][0]["limit"] == alone["limit"] < plan["sizes"][1]["limit"]
    assert plan["sizes"][2]["limit"] is None
    refused = client.post("/v1/jobs", json=body | {"budgets": [{"params": 1e-6}, {"params": 0.9}, {"bytes": 0.001}]})
    found = faults(refused)
    assert found.keys() == {"/budgets/0/params", "/budgets/2/bytes"}
    assert all("out of reach" in said for said in found.values())


@one_database
def test_a_size_on_a_gpu_waits_for_one(client: TestClient, payload: dict[str, Any]) -> None:
    body = {name: value for name, value in payload.items() if name != "budget"}
    timed = {"speedup": 2, "device": "cuda"}
    job = client.post("/v1/jobs", json=body | {"budgets": [{"params": 0.9}, timed]}).json()
    assert job["spec"]["resources"]["device"] == "cuda"


@one_database
def test_an_estimate_goes_by_the_jobs_that_finished_here(
    client: TestClient, payload: dict[str, Any], database: Database
) -> None:
    def estimate(**changes: Any) -> Any:
        return client.post("/v1/jobs:validate", json=payload | changes).json()["estimate"]

    rough = estimate()
    assert (rough["device"], rough["basis"]) == ("cpu", "no finished jobs on cpu yet: rough")
    assert 0 < rough["seconds"]["low"] < rough["seconds"]["high"]
    assert estimate(train={"batch_size": 64})["memory_bytes"] > rough["memory_bytes"] > 10**8
    ran = {"work_macs": {"train": 1e9, "measure": 1e6}, "timings_s": {"teach": 30.0, "recover": 70.0}}
    with database.begin() as session:
        for device in ("CPU, 2 threads", "NVIDIA H200"):
            job, _ = owner.create(session, "tenant_default", JobSpec.model_validate(payload), 3)
            claims.claim(session, job.id, "w", 30)
            where = {"device": device, "machine": "x86_64", "versions": {}}
            attempts.succeed(session, job.id, 1, report(**ran, environment=where), {})
            job.finished_at = job.started_at + 150_000
    assert estimate()["basis"] == "from 1 finished job on cuda"  # the last one; no worker says otherwise
    with database.begin() as session:
        workers.seen(session, "w", 1, {"type": "cpu", "gpus": [], "cpus": 2, "memory_bytes": 2**30})
    here, longer = estimate(), estimate(train={"steps": {"teach": 2000}})
    assert here["basis"] == "from 1 finished job on cpu"
    assert 50 / 1.25 - 4 < here["seconds"]["low"] < here["seconds"]["high"]  # of which 50 s were not training
    assert longer["seconds"]["low"] > here["seconds"]["low"]
    body = payload | {"limits": {"max_runtime_s": 10}}
    assert any("is ended after 10 s" in said for said in client.post("/v1/jobs:validate", json=body).json()["warnings"])
    with database.begin() as session:
        session.add(Tenant(id="tenant_other", name="other"))
        session.flush()
        session.execute(update(Job).values(tenant_id="tenant_other"))
    assert estimate()["basis"] == "no finished jobs on cpu yet: rough"  # another tenant's jobs tell nothing


def test_a_budget_in_zeros_is_counted_and_what_it_does_not_buy_is_said(
    client: TestClient, payload: dict[str, Any]
) -> None:
    payload = put(put(payload, "/budget", {"sparsity": 0.9}), "/method", {"name": "pdp"})
    plan = client.post("/v1/jobs:validate", json=payload).json()
    matrices = 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert plan["limit"] == matrices - round(0.9 * matrices)
    assert any("make no dense kernel faster" in warning for warning in plan["warnings"])


@one_database
def test_teaching_is_left_out_only_where_the_models_head_knows_the_labels(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    payload = put(payload, "/train/steps/teach", 0)
    assert "this one has no head" in faults(client.post("/v1/jobs", json=payload))["/train/steps/teach"]
    for labels, status in ((["good", "bad"], 422), (["positive", "negative"], 202)):
        write_head(settings.models_dir / MODEL, labels)
        answer = client.post("/v1/jobs", json=payload)
        assert answer.status_code == status, answer.text
        assert status == 202 or "knows bad, good" in faults(answer)["/train/steps/teach"]


@pytest.mark.parametrize(("kind", "of"), [("params", "model"), ("macs", None), ("bytes", None)])
def test_fewer_hidden_dimensions_widen_the_reachable_range(
    client: TestClient, payload: dict[str, Any], kind: str, of: str | None
) -> None:
    def lowest(**changes: Any) -> int:
        plan = client.post("/v1/jobs:validate", json=put(payload, "/budget", {kind: 0.9, "of": of}) | changes).json()
        assert plan["units"]["hidden"] > 0
        (reach,) = (one for one in plan["reach"] if (one["cost"], one["of"]) == (kind, "model"))
        return int(reach["lowest"])

    least = lowest(hidden_size="trim")
    times = 1 if kind == "macs" else 2  # products of positions do not shrink in the head that stays
    assert times * least < lowest()
    budget = put(payload, "/budget", {kind: least, "of": of})
    refused = faults(client.post("/v1/jobs:validate", json=budget))[f"/budget/{kind}"]
    assert f'with "hidden_size": "trim" (and no "l0" or "pdp") it can have {least:,}' in refused
    assert client.post("/v1/jobs:validate", json=budget | {"hidden_size": "trim"}).json()["limit"] == least
    less = put(payload, "/budget", {kind: least - 1, "of": of}) | {"hidden_size": "trim"}
    assert f"{least:,} to" in faults(client.post("/v1/jobs:validate", json=less))[f"/budget/{kind}"]


def test_how_far_a_vocabulary_can_be_trimmed_is_left_to_the_worker(client: TestClient, payload: dict[str, Any]) -> None:
    payload = put(payload, "/budget", {"bytes": 0.01})
    assert "out of reach" in faults(client.post("/v1/jobs:validate", json=payload))["/budget/bytes"]
    plan = client.post("/v1/jobs:validate", json=payload | {"vocabulary": "trim"}).json()
    assert plan["limit"] and any("the worker finds out" in warning for warning in plan["warnings"])
    for budget in ({"params": 0.00001}, {"macs": 10}):  # which do not depend on the vocabulary
        refused = client.post("/v1/jobs:validate", json=put(payload, "/budget", budget) | {"vocabulary": "trim"})
        assert "out of reach" in faults(refused)[f"/budget/{next(iter(budget))}"]


def test_validate_refuses_what_a_job_would_be_refused_for(client: TestClient, payload: dict[str, Any]) -> None:
    bad = put(payload, "/task/label", "nonsense")
    assert faults(client.post("/v1/jobs:validate", json=bad)) == faults(client.post("/v1/jobs", json=bad))
    payload["model"] = "sentence-transformers/all-MiniLM-L6-v2@main"
    plan = client.post("/v1/jobs:validate", json=payload).json()
    assert plan["units"] is plan["limit"] is None and "the worker fetches it" in plan["warnings"][1]


def test_a_budget_in_time_is_left_to_the_worker(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    body = put(payload, "/budget", {"latency_ms": 0.001, "runtime": "onnx", "batch_size": 4})
    plan = client.post("/v1/jobs:validate", json=body).json()
    assert plan["limit"] is None and plan["reach"]
    assert any("measured by the worker" in warning for warning in plan["warnings"])
    assert client.post("/v1/jobs", json=body).status_code == 202

    config = settings.models_dir / MODEL / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 256}))
    longer = put(payload, "/budget", {"speedup": 2, "sequence_length": 512})
    assert "reads at most 256 tokens" in faults(client.post("/v1/jobs", json=longer))["/budget/sequence_length"]


def test_half_precision_halves_what_bytes_can_reach(client: TestClient, payload: dict[str, Any]) -> None:
    """The dense file stays in float32, which a fraction is of."""

    def reach(precision: str) -> tuple[int, int]:
        body = put(payload, "/budget", {"bytes": 0.9}) | {"export": {"precision": precision}}
        plan = client.post("/v1/jobs:validate", json=body).json()
        [found] = [one for one in plan["reach"] if one["cost"] == "bytes"]
        assert plan["limit"] == int(0.9 * found["dense"])
        return found["lowest"], found["dense"]

    whole, half = reach("float32"), reach("bfloat16")
    assert half[1] == whole[1] and 0.5 * whole[0] < half[0] < 0.51 * whole[0] + 2000
    tight = put(payload, "/budget", {"bytes": half[0]})
    assert "out of reach" in faults(client.post("/v1/jobs", json=tight))["/budget/bytes"]
    assert client.post("/v1/jobs", json=tight | {"export": {"precision": "bfloat16"}}).status_code == 202


def test_the_reachable_range_counts_the_classifier(client: TestClient, payload: dict[str, Any]) -> None:
    model = client.get("/v1/models").json()["items"][0]
    found = faults(client.post("/v1/jobs", json=put(payload, "/budget", {"params": 1000, "of": "model"})))
    hidden = model["hidden"]
    head = hidden * (hidden + 1) + 2 * (hidden + 1)  # BERT's pooler, which this file has not, and the classifier
    assert f"to {model['model_params'] + head:,} parameters" in found["/budget/params"]


@pytest.mark.field(
    "2. Models in, checkpoints out", "a checkpoint that Topwork has pruned", "pruned again; the plan says so"
)
def test_a_pruned_model_is_listed_as_one_and_the_plan_says_so(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    """Its second layer has no attention, and three neurons; it is still described as the model that it was made of."""
    folder, layer = settings.models_dir / "again", "encoder.layer.1."
    left = {"heads": [[*range(HEADS)], []], "neurons": [NEURONS, 3]}
    code = {"AutoModel": "modeling_topwork.PrunedBertModel"}
    write_model(folder, model_type="topwork-bert", auto_map=code, topwork=left)
    every = model_shapes().items()
    shapes = {name: shape for name, shape in every if not (name.startswith(layer) and ".self." in name)}
    for part in ("weight", "bias"):
        del shapes[f"{layer}attention.output.dense.{part}"]
        shapes[f"{layer}intermediate.dense.{part}"][0] = 3
    shapes[f"{layer}output.dense.weight"][1] = 3
    write_safetensors(folder / "model.safetensors", shapes)
    plain, again = sorted(client.get("/v1/models").json()["items"], key=lambda model: model["pruned"])
    assert (again["name"], again["pruned"], plain["pruned"]) == ("again", True, False)
    assert again["encoder_params"] == sum(prod(shape) for name, shape in shapes.items() if "layer" in name)
    assert (again["heads"], again["neurons"]) == (plain["heads"], plain["neurons"])  # of its first layer
    answer = client.post("/v1/jobs:validate", json=put(payload, "/model", "again")).json()
    assert PRUNED in answer["warnings"] and answer["limit"] == int(0.3 * again["encoder_params"])
    regular = put(put(payload, "/model", "again"), "/export", {"layout": "regular"})
    assert "layers differ" in faults(client.post("/v1/jobs", json=regular))["/export/layout"]


def test_a_model_of_the_hub_is_left_to_the_worker(client: TestClient, payload: dict[str, Any]) -> None:
    payload["model"] = "sentence-transformers/all-MiniLM-L6-v2@main"
    assert client.post("/v1/jobs", json=payload).status_code == 202


@one_database
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "a fine-tuned classifier: order of labels, which head",
    "kept; named in the plan, with the `label_map` where names differ",
)
def test_the_models_own_head_keeps_its_order_and_is_named_in_the_plan(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    def plan() -> dict[str, Any]:
        answer = client.post("/v1/jobs:validate", json=payload)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert plan()["head"] == "a fresh head for 2 labels: it has none of its own"
    write_head(settings.models_dir / MODEL, ["positive", "negative"])
    assert (plan()["head"], plan()["labels"]) == ("its own head for 2 labels", ["positive", "negative"])
    assert client.get("/v1/models").json()["items"][0]["labels"] == ["positive", "negative"]
    write_head(settings.models_dir / MODEL, ["LABEL_0", "LABEL_1"])
    found = plan()
    assert found["head"] == "a fresh head for 2 labels: its own is for other labels (LABEL_0, LABEL_1)"
    assert found["labels"] == ["negative", "positive"]
    assert any('"label_map": {"negative": "LABEL_0", "positive": "LABEL_1"}' in said for said in found["warnings"])
    write_head(settings.models_dir / MODEL, ["joy", "anger", "fear"])
    assert not [said for said in plan()["warnings"] if "label_map" in said]


@one_database
@pytest.mark.field("2. Models in, checkpoints out", "`max_length` over what the model reads", "a warning in the plan")
def test_texts_that_the_model_reads_no_further_are_told_of(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    write_model(settings.models_dir / "short", max_position_embeddings=64)
    said = client.post("/v1/jobs:validate", json=payload | {"model": "short"}).json()["warnings"]
    assert "'max_length' is 128, but the model reads 64 tokens: texts are cut there" in said
    short = put(payload | {"model": "short"}, "/train", {"max_length": 64})
    assert not any("max_length" in said for said in client.post("/v1/jobs:validate", json=short).json()["warnings"])


@one_database
@pytest.mark.field(
    "2. Models in, checkpoints out", "a name with a slash that is a local folder", "said at once, with the right name"
)
def test_a_local_folder_that_is_named_like_a_model_of_the_hub_is_said_at_once(
    client: TestClient, payload: dict[str, Any], settings: Settings
) -> None:
    write_model(settings.models_dir / "acme" / "bert")
    for name, says in (
        (f"models/{MODEL}", f"the local model is named '{MODEL}': leave 'models/' out"),
        ("acme/bert", "move the folder bert out of acme"),
        ("acme/bert@main", "move the folder bert out of acme"),
        (f"./{MODEL}", "not a path"),
        (f"data/models/{MODEL}", "not a path"),
    ):
        assert says in faults(client.post("/v1/jobs", json=payload | {"model": name}))["/model"], name
    assert client.post("/v1/jobs", json=payload | {"model": "acme/other"}).status_code == 202


@one_database
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "`GET /v1/models` of folders that cannot be used",
    "listed with reason and mend; a job gets the same sentence",
)
def test_broken_and_foreign_local_models(client: TestClient, payload: dict[str, Any], settings: Settings) -> None:
    write_model(settings.models_dir / "gpt2", model_type="gpt2")
    write_model(settings.models_dir / "vit", model_type="vit")
    write_model(settings.models_dir / "cut")
    weights = settings.models_dir / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    write_model(settings.models_dir / "mute")
    (settings.models_dir / "mute" / "vocab.txt").unlink()
    write_model(settings.models_dir / "deep")
    (settings.models_dir / "deep" / "config.json").write_text("[" * 100_000)
    write_model(settings.models_dir / "layers", num_hidden_layers=3)
    write_model(settings.models_dir / "coded", auto_map={"AutoModel": "modeling.Model"})
    write_model(settings.models_dir / "kernel", _attn_implementation="someone/kernel")
    (settings.models_dir / "stray.txt").write_text("")
    (settings.models_dir / ".cache").mkdir()
    (settings.models_dir / "my model").mkdir()
    (settings.models_dir / os.fsdecode(b"\xff")).mkdir()
    listed = client.get("/v1/models").json()
    assert [model["name"] for model in listed["items"]] == ["tiny-bert"]
    told = {other["name"]: other["reason"] for other in listed["unusable"]}
    assert {*told} == {
        *("coded", "cut", "deep", "gpt2", "kernel", "layers", "mute", "my model", "stray.txt", "vit", "\ufffd")
    }
    assert "is a file" in told["stray.txt"] and "rename it" in told["my model"]
    reasons = {"gpt2": "'gpt2' is not supported; supported: bert, ", "vit": "'vit' looks at pictures"}
    reasons |= {"cut": "cut short", "deep": "config.json", "mute": "no tokenizer"}
    reasons |= {"coded": "'auto_map': no code of a model", "kernel": "'_attn_implementation'"}
    for name, reason in reasons.items():
        said = faults(client.post("/v1/jobs", json=payload | {"model": name}))["/model"]
        assert reason in said
        assert (
            name == "vit" or said == f"'{name}' cannot be pruned: {told[name]}"
        )  # listed as the image model that it is
    assert client.post("/v1/jobs", json=payload | {"model": "layers"}).status_code == 422


def llama_shapes() -> dict[str, list[int]]:
    """Weights of a small Llama: positions are no weights, but turned into queries and keys."""
    shapes = {"model.embed_tokens.weight": [100, HIDDEN], "model.norm.weight": [HIDDEN]}
    for i in range(LAYERS):
        layer = f"model.layers.{i}"
        shapes |= {f"{layer}.self_attn.{name}_proj.weight": [HIDDEN, HIDDEN] for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj.weight": [NEURONS, HIDDEN] for name in ("gate", "up")}
        shapes |= {f"{layer}.mlp.down_proj.weight": [HIDDEN, NEURONS]}
        shapes |= {f"{layer}.{name}_layernorm.weight": [HIDDEN] for name in ("input", "post_attention")}
    return shapes


@one_database
@pytest.mark.parametrize(
    "rope",
    [
        {"rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
        {"rope_parameters": {"rope_type": "longrope", "factor": 4.0, "rope_theta": 1e4}},
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "dynamic"},
                "sliding_attention": {"rope_type": "default"},
            }
        },
        {"rope_scaling": {"type": "dynamic", "factor": 4.0}},
    ],
)
def test_onnx_is_refused_at_once_where_positions_scale_with_the_text(
    client: TestClient, payload: dict[str, Any], settings: Settings, rope: dict[str, Any]
) -> None:
    for name, values in {"scaled": rope, "fixed": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}}.items():
        write_model(settings.models_dir / name, **LLAMA | values)
        write_safetensors(settings.models_dir / name / "model.safetensors", llama_shapes())
    formats = payload | {"export": {"formats": ["onnx"]}}
    runtime = put(payload, "/budget", {"speedup": 2, "runtime": "onnx"})
    for body, pointer, mend in (
        (formats, "/export/formats", "leave 'onnx' and 'onnx-int8' out"),
        (runtime, "/budget/runtime", "give 'torch' or 'torch.compile'"),
    ):
        found = faults(client.post("/v1/jobs", json=body | {"model": "scaled"}))
        assert [*found] == [pointer] and "scale with the text's length" in found[pointer] and mend in found[pointer]
        assert client.post("/v1/jobs", json=body | {"model": "fixed"}).status_code == 202
    assert client.post("/v1/jobs", json=payload | {"model": "scaled"}).status_code == 202


@one_database
@pytest.mark.parametrize("kind", FILES)
def test_every_problem_is_planned_and_what_does_not_fit_it_is_named(
    client: TestClient, payload: dict[str, Any], upload: Upload, kind: str
) -> None:
    content, ending = FILES[kind]
    payload["task"] = {"data": {"dataset": upload(content.encode(), f"rows.{ending}")}}
    payload["task"] |= {"type": kind} if kind.startswith("token") else {"problem_type": kind}
    plan = client.post("/v1/jobs:validate", json=payload)
    assert plan.status_code == 200, plan.text
    labels = {"regression": ["label"], "token-classification": ["B-X", "O"]}
    assert plan.json()["labels"] == labels.get(kind, ["a", "b"])
    assert client.post("/v1/jobs", json=payload).status_code == 202
    assert "give one of" in faults(client.post("/v1/jobs", json=put(payload, "/task/metric", "bleu")))["/task/metric"]
    odd = "\n".join(f'{{"text": "t{i}", "label": {{"a": {{"b": {i}}}}}}}' for i in range(60)).encode()
    found = faults(client.post("/v1/jobs", json=put(payload, "/task/data/dataset", upload(odd, "odd.jsonl"))))
    assert any("row 1" in detail for detail in found.values()), found


@one_database
def test_a_head_on_every_token_is_counted_in_macs(client: TestClient, payload: dict[str, Any], upload: Upload) -> None:
    def outside(task: dict[str, Any]) -> int:
        plan = client.post("/v1/jobs:validate", json={**payload, "task": task}).json()
        (reach,) = (one for one in plan["reach"] if one["cost"] == "macs")
        return int(reach["dense"])

    words = {"data": {"dataset": upload("\n".join(LINES).encode(), "rows.jsonl")}, "type": "token-classification"}
    assert outside(words) - outside(payload["task"]) == HIDDEN * 2 * 128 - HIDDEN * (HIDDEN + 2)  # no pooler
