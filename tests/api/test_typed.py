"""What people type: data sets by name, shares and sizes as text, and names that are nearly right."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import MODEL, Upload, faults, one_database, put, reviews


@one_database
@pytest.mark.field("4. A newcomer's hour", "a data set by the name of its file", "its id; of several the candidates")
def test_a_data_set_by_the_name_of_its_file(client: TestClient, payload: dict[str, Any], upload: Upload) -> None:
    named = put(payload, "/task/data", {"dataset": "reviews.csv"})
    own = payload["task"]["data"]["dataset"]
    assert client.post("/v1/jobs", json=named).json()["spec"]["task"]["data"]["dataset"] == own
    assert client.post("/v1/jobs:validate", json=named).json()["spec"]["task"]["data"]["dataset"] == own
    again = upload(reviews(60))  # of the same content: the newest stands for both
    assert client.post("/v1/jobs", json=named).json()["spec"]["task"]["data"]["dataset"] == again
    other = upload(reviews(61))
    told = faults(client.post("/v1/jobs", json=named))["/task/data/dataset"]
    assert told.startswith("2 data sets are named 'reviews.csv'; give the id of one: ")
    assert f"'{other}' (61 rows)" in told and f"'{again}' (60 rows)" in told and own not in told


@one_database
def test_the_same_key_gives_the_same_job_whatever_the_name_stands_for_now(
    client: TestClient, payload: dict[str, Any], upload: Upload
) -> None:
    named, headers = put(payload, "/task/data", {"dataset": "reviews.csv"}), {"Idempotency-Key": "k"}
    first = client.post("/v1/jobs", json=named, headers=headers)
    upload(reviews(61))
    second = client.post("/v1/jobs", json=named, headers=headers)
    assert second.json()["id"] == first.json()["id"] and second.headers["Idempotent-Replayed"] == "true"


NEARLY = [
    ("/modle", "x", "did you mean 'model'? known here"),
    ("/task/lable", "label", "did you mean 'label'? known here"),
    ("/layout", "regular", "it belongs in 'export'; known here: budget"),
    ("/unlabelled", {}, "it belongs in 'task'; known"),
    ("/batch_size", 8, "it belongs in 'budget' or 'train'; known"),
    ("/task/hub", "imdb", "it belongs in 'task.data'; known"),
    ("/task/labels", "label", "did you mean 'label'? known here"),
    ("/task/budget", "10%", "it is known at the top, beside 'task'"),
    ("/export", ["onnx"], "should be a JSON object; known here: formats, layout, precision"),
    ("/task/data", "reviews.csv", "should be a JSON object; known here: config, dataset"),
    ("/train/steps", 8, "should be a JSON object; known here: prune, recover, teach"),
    ("/task/label", "lable", "did you mean 'label'?"),
    ("/task/data/dataset", "review.csv", "there is no data set 'review.csv'; did you mean 'reviews.csv'?"),
    ("/model", MODEL[:-1], f"did you mean '{MODEL}'?"),
    ("/method/name", "fischer", "did you mean 'fisher'?"),
    ("/transfer/coupling", "techer", "did you mean 'teacher'?"),
    ("/train/contrastive", "yes", "should be 'auto', true or false"),
    ("/task/type", "text-clasification", "did you mean 'text-classification'?"),
    ("/export/layout", "regulr", "did you mean 'regular'?"),
]


@one_database
@pytest.mark.parametrize(("pointer", "value", "said"), NEARLY)
@pytest.mark.field("4. A newcomer's hour", "a field, column, model, data set or value nearly right", "did you mean")
def test_what_was_meant_is_named(
    client: TestClient, payload: dict[str, Any], pointer: str, value: str, said: str
) -> None:
    told = faults(client.post("/v1/jobs", json=put(payload, pointer, value)))
    assert said in told[pointer]


@one_database
def test_what_was_typed_is_stored_in_one_form_and_the_plan_says_so(client: TestClient, payload: dict[str, Any]) -> None:
    typed = put(payload, "/budget", "30%") | {"method": "fisher"}
    typed = put(typed, "/task/text", "text")
    plan = client.post("/v1/jobs:validate", json=typed).json()
    assert plan["notes"][0].startswith("The budget '30%' is taken as params 0.3: this share of the encoder's")
    plain = client.post("/v1/jobs", json=put(payload, "/task/text", ["text"])).json()["spec"]
    assert client.post("/v1/jobs", json=typed).json()["spec"] == plan["spec"] == plain
    assert plain["budget"]["params"] == 0.3 and plain["method"] == {"name": "fisher"}
