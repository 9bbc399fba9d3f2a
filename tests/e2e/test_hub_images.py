"""An image classifier of a hub, which a server on this machine plays: from its name to the files of a job."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Server
from tests.rows.image.made import zipped
from tests.tiny import run_apart
from tests.tiny_images import SIDE, pictures, save_tiny_resnet, spec_of

COMMIT = "facade" * 6 + "face"
BY_PATH = """
from runpy import run_path
from PIL import Image

model, processor = run_path("load.py")["load"]()
batch = processor(Image.new("RGB", (40, 50), (10, 200, 30)), return_tensors="pt")
assert batch["pixel_values"].shape[-1] == 32 and model(**batch).logits.shape == (1, 3)
"""


class Hub(BaseHTTPRequestHandler):
    """The files of `acme/net`, of one folder, as the routes of the Hugging Face hub give them."""

    folder: Path
    fetched: set[str]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        if parts[0] != "api":  # owner/name/resolve/<commit>/<file>
            self.fetched.add(parts[-1])
            return self.answer(files[parts[-1]], ETag=f'"{self.oid(parts[-1])}"')
        if parts[4] == "tree":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": self.oid(name)}
                for name, content in files.items()
            ]
            return self.answer(json.dumps(tree).encode())
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        self.answer(json.dumps({"id": "acme/net", "sha": COMMIT, "siblings": siblings}).encode())

    def oid(self, name: str) -> str:
        return hashlib.sha1(name.encode()).hexdigest()

    def answer(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        said = {"Content-Length": str(len(body)), "Content-Type": "application/json", "X-Repo-Commit": COMMIT}
        for name, value in (said | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    Hub.folder, Hub.fetched = save_tiny_resnet(tmp_path / "net"), set()
    for name in ("pytorch_model.bin", "modeling_mine.py"):
        (Hub.folder / name).write_bytes(b"not for us")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(hub: str, tmp_path: Path) -> Iterator[Server]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    server = Server(data_dir)
    kept = {name: value for name, value in server.environment.items() if not name.startswith("HF_")}
    server.environment = kept | {"HF_ENDPOINT": hub, "HF_HUB_DISABLE_TELEMETRY": "1"}
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_an_image_model_of_the_hub_is_fetched_and_pruned(server: Server, tmp_path: Path) -> None:
    made = server.http.post("/v1/datasets", files={"file": ("kinds.zip", zipped(pictures(150)))}).json()
    asked = spec_of(model="acme/net", train={"steps": {"teach": 10, "recover": 10}}).model_dump(
        mode="json", exclude_none=True, exclude_defaults=True
    )
    asked["task"] |= {"type": "image-classification", "data": {"dataset": made["id"]}}
    plan = server.http.post("/v1/jobs:validate", json=asked)
    assert plan.status_code == 200, plan.text
    assert any("the worker fetches it" in word for word in plan.json()["warnings"]) and not Hub.fetched
    job = server.http.post("/v1/jobs", json=asked).json()
    watched = server.topwork("watch", job["id"], check=False)
    job = server.job(job["id"])
    assert job["status"] == "succeeded", (watched.stderr, job["error"])
    assert Hub.fetched == {"config.json", "model.safetensors", "preprocessor_config.json"}
    folder = tmp_path / "pruned"
    server.topwork("download", job["id"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["model"]["name"], manifest["model"]["revision"]) == ("acme/net", COMMIT)
    assert manifest["max_length"] == SIDE and job["metrics"]["budget"]["fraction"] <= 0.4
    run_apart(BY_PATH, folder)
