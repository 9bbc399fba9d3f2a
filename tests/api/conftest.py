"""An API on an empty database, with one tiny model; `payload` is a job that it accepts."""

from __future__ import annotations

import copy
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from api.http.connections import Bounded
from api.main import create_app
from core.ledger.database import Database
from core.ledger.files.stores import open_storage
from core.ledger.jobs import attempts, claims
from core.ledger.settings import Settings

MODEL = "tiny-bert"
LAYERS, HIDDEN, HEADS, NEURONS = 2, 16, 4, 32
WORDS = ("sturdy", "light", "cheap", "loud", "quick", "dull")

WEIGHTS = random.Random(0).randbytes(3 * 2**20 + 17)
OUTPUTS = {
    "model.safetensors": WEIGHTS,
    "report.json": b"{}",
    "report.html": b"<!doctype html><script>alert(1)</script>",
    "README.md": b"# Model\n",
    "params-0.1/report.json": b'{"sizes": 1}',
    "params-0.1/report.html": b"<!doctype html>small",
    'sub/odd "na\u00efve" name.py': b"pass\n",
    "empty.txt": b"",
}

# For tests of what never reaches a database: once is enough.
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def model_shapes() -> dict[str, list[int]]:
    """Weights of a small BERT, as a checkpoint of the body alone names them."""
    shapes = {"embeddings.word_embeddings.weight": [100, HIDDEN]}
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{layer}.{name}.weight": [HIDDEN, HIDDEN], f"{layer}.{name}.bias": [HIDDEN]}
        shapes |= {
            f"{layer}.intermediate.dense.weight": [NEURONS, HIDDEN],
            f"{layer}.intermediate.dense.bias": [NEURONS],
        }
        shapes |= {f"{layer}.output.dense.weight": [HIDDEN, NEURONS], f"{layer}.output.dense.bias": [HIDDEN]}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{layer}.{name}.weight": [HIDDEN], f"{layer}.{name}.bias": [HIDDEN]}
    return shapes


def write_safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(end))


def write_model(folder: Path, **config: Any) -> None:
    """A local model: config.json, model.safetensors and a vocabulary (nothing here reads it)."""
    folder.mkdir(parents=True)
    sizes = {"num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS}
    values = {"model_type": "bert", **sizes, "intermediate_size": NEURONS, **config}
    (folder / "config.json").write_text(json.dumps(values))
    write_safetensors(folder / "model.safetensors", model_shapes())
    (folder / "vocab.txt").write_text("[UNK]\n")


def write_head(folder: Path, labels: list[str], whole: bool = True) -> None:
    """The weights of a classifier that was fine-tuned, and the names of its labels."""
    shapes = {f"bert.{name}": shape for name, shape in model_shapes().items()}
    shapes |= {"bert.pooler.dense.weight": [HIDDEN, HIDDEN]} if whole else {}
    write_safetensors(folder / "model.safetensors", shapes | {"classifier.weight": [len(labels), HIDDEN]})
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"id2label": dict(enumerate(labels))}))


def reviews(rows: int, labels: tuple[str, ...] = ("negative", "positive"), first: int = 0) -> bytes:
    """A CSV file of distinct texts, the labels in turn."""
    lines = [f"review {i} {WORDS[i % len(WORDS)]},{labels[i % len(labels)]}" for i in range(first, first + rows)]
    return "\n".join(["text,label", *lines]).encode()


def put(payload: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    """A copy of the payload with one field set."""
    payload = copy.deepcopy(payload)
    *parents, last = pointer.split("/")[1:]
    node: Any = payload
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
    node[int(last) if isinstance(node, list) else last] = value
    return payload


def faults(answer: Any) -> dict[str, str]:
    """Pointer -> detail of a 422."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.content) < 12_000
    return {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}


@pytest.fixture
def settings(tmp_path: Path, database_url: str, storage_url: str | None) -> Settings:
    """One data folder a test; small limits."""
    return Settings(
        data_dir=tmp_path / "data",
        database_url=database_url,
        storage_url=storage_url,
        require_keys=False,
        max_upload_bytes=2**20,
        max_rows=5000,
        max_readers=4,  # of a tenant two: tests run some at once
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A client of a fresh API; an exception inside is a 500, as for a real client."""
    write_model(settings.models_dir / MODEL)
    with TestClient(create_app(settings), "http://localhost", raise_server_exceptions=False) as client:
        yield client


Upload = Callable[..., str]


@pytest.fixture
def upload(client: TestClient) -> Upload:
    """Upload a file that is accepted; returns its id."""

    def send(content: bytes, name: str = "reviews.csv") -> str:
        answer = client.post("/v1/datasets", files={"file": (name, content)})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return send


@pytest.fixture
def payload(upload: Upload) -> dict[str, Any]:
    """A job specification that is accepted."""
    return {"model": MODEL, "task": {"data": {"dataset": upload(reviews(60))}}, "budget": {"params": 0.3}}


@pytest.fixture
def live(client: TestClient) -> Iterator[str]:
    """Address of the same API behind a real server: the test client cannot read an answer that comes in parts."""
    server = uvicorn.Server(uvicorn.Config(client.app, port=0, http=Bounded, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join(120)


@pytest.fixture
def files(client: TestClient, payload: dict[str, Any], settings: Settings, database: Database, tmp_path: Path) -> str:
    """The address of the files of a job that has succeeded."""
    job_id = client.post("/v1/jobs", json=payload).json()["id"]
    storage, outputs = open_storage(settings), {}
    for path, content in OUTPUTS.items():
        (tmp_path / "file").write_bytes(content)
        outputs[path] = storage.put(tmp_path / "file")
    with database.begin() as session:
        claims.claim(session, job_id, "w", 30)
        attempts.succeed(session, job_id, 1, {}, outputs)
    return f"/v1/jobs/{job_id}/files"
