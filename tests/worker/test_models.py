"""From a model's name to its folder: local, or from a hub that a server on this machine plays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from core.ledger.settings import Settings
from core.spec.errors import SpecError
from tests.tiny import CONFIG
from worker.models import content, resolve

COMMIT = "c0ffee" * 6 + "c0ff"
REPOSITORIES = {
    "good/model": [
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "pytorch_model.bin",
        "modeling_evil.py",
        "a/config.json",
    ],
    "huge/model": ["config.json", "model.safetensors", "huge.bin"],
    "pickle/only": ["config.json", "pytorch_model.bin"],
    "coded/model": ["config.json", "model.safetensors"],
    "coded/tokenizer": ["config.json", "model.safetensors", "tokenizer_config.json"],
    "cut/model": ["config.json", "model.safetensors"],
    "parts/model": [
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "pytorch_model-00001-of-00002.bin",
    ],
    "huge/parts": ["config.json", "model.safetensors.index.json", *(f"model-{i}-of-3.safetensors" for i in (1, 2, 3))],
    "mute/files": ["config.json", "model.safetensors"],
    "vectors/model": ["config.json", "model.safetensors"],
    "xet/model": ["config.json", "model.safetensors"],
    "bpe/model": ["bpe.codes", "config.json", "model.safetensors", "vocab.txt"],  # as PhoBERT and BERTweet
}
OF_VECTORS = ["1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "modules.json"]
OF_VECTORS += ["config_sentence_transformers.json", "sentence_bert_config.json"]
REPOSITORIES["vectors/model"] += [*OF_VECTORS, "2_Dense/pytorch_model.bin", "openvino/model.bin", "onnx/config.json"]
REPOSITORIES["both/model"] = ["model.safetensors", *REPOSITORIES["parts/model"]]
SIZES = {("huge/model", "model.safetensors"): 21 * 2**30, ("good/model", "pytorch_model.bin"): 21 * 2**30}
SIZES |= {("huge/parts", f"model-{i}-of-3.safetensors"): 7 * 2**30 for i in (1, 2, 3)}
PART_OF = {f"tensor{i}": f"model-0000{i}-of-00002.safetensors" for i in (1, 2)}
SIZES |= {("both/model", part): 15 * 2**30 for part in PART_OF.values()}


class Hub(BaseHTTPRequestHandler):
    """The routes of the Hugging Face hub that fetching a snapshot takes."""

    asked: list[str] = []  # noqa: RUF012
    status = 0  # that it answers everything with
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        parts = path.strip("/").split("/")
        repository = "/".join(parts[2:4] if parts[0] in ("api", "token") else parts[:2])
        if parts[0] == "cdn":  # breaks off
            self.close_connection = True
            return self.answer(200, b"", {"Content-Length": "9"})
        if self.status:
            return self.answer(self.status, b"")
        if repository == "mute/model" or (repository == "mute/files" and parts[4:5] == ["tree"]):
            time.sleep(20)  # far longer than is waited for
            self.close_connection = True
            return None
        if repository == "gated/model":
            return self.answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        if repository not in REPOSITORIES:
            return self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        files = REPOSITORIES[repository]
        if parts[0] == "api" and parts[4] == "tree":
            tree = [{"type": "file", "path": name, "size": len(name), "oid": self.oid(name)} for name in files]
            return self.answer(200, json.dumps(tree).encode())
        if parts[0] == "api":
            if parts[4] != "revision" or parts[5] not in ("main", "v1", "refs%2Fpr%2F3", COMMIT):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            siblings = [{"rfilename": name, "size": SIZES.get((repository, name), len(name))} for name in files]
            info = {"id": repository, "sha": COMMIT, "siblings": siblings}
            return self.answer(200, json.dumps(info).encode())
        here = f"http://127.0.0.1:{self.server.server_address[1]}"
        if parts[0] == "token":
            served = {"X-Xet-Cas-Url": here, "X-Xet-Access-Token": "x", "X-Xet-Token-Expiration": str(2**40)}
            return self.answer(200, b"", served)
        name = "/".join(parts[4:])  # owner/name/resolve/<commit>/<file>
        if repository == "xet/model" and name == "model.safetensors":
            told = {
                "X-Xet-Hash": "0" * 64,
                "X-Linked-Size": "9",
                "X-Repo-Commit": COMMIT,
                "ETag": f'"{self.oid(name)}"',
            }
            return self.answer(200, b"", told | {"X-Xet-Refresh-Route": f"{here}/token/of/xet/model"})
        if repository == "cut/model" and name == "model.safetensors":
            link = f"http://localhost:{self.server.server_address[1]}/cdn?X-Amz-Signature=secret"
            etag = hashlib.sha256(name.encode()).hexdigest()
            linked = {"X-Linked-Size": "9", "X-Linked-Etag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Location": link}
            return self.answer(302, b"", linked)
        body = json.dumps(CONFIG | ({"auto_map": {}} if repository == "coded/model" else {})).encode()
        coded = b'{"auto_map": {"AutoTokenizer": ["tokenizer.Mine", null]}}'
        bodies = {
            "config.json": body,
            "tokenizer_config.json": coded,
            "model.safetensors.index.json": json.dumps({"weight_map": PART_OF}).encode(),
        }
        if repository == "vectors/model" and name.endswith(".json") and "config" in name:
            bodies.setdefault(name, b"{}")
        self.answer(
            200,
            bodies.get(name, name.encode()),
            {"ETag": f'"{self.oid(name)}"', "X-Repo-Commit": COMMIT},
        )

    @staticmethod
    def oid(name: str) -> str:
        return hashlib.sha1(name.encode()).hexdigest()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.asked.clear()
    Hub.status = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


PROGRAM = """
import json, sys, time
from core.ledger import logs
from core.ledger.settings import Settings
from core.spec.errors import SpecError
from worker import hub
from worker.models import resolve
logs.configure("info:json")
hub.ANSWER_S, time.sleep = 0.5, lambda _: None
for name in sys.argv[1:]:
    try:
        found = resolve(name, Settings())
        files = sorted(p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file())
        print(json.dumps([found.name, found.revision, files]))
    except SpecError as error:
        print(json.dumps([error.field, error.message]))
    except OSError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""


def ask(endpoint: str, data_dir: Path, *names: str, **environment: str) -> list[Any]:
    """Resolve in a new process: the hub's library reads its endpoint when it is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ours = {"HF_ENDPOINT": endpoint, "TOPWORK_DATA_DIR": str(data_dir), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *names],
        env=kept | ours | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert not any(name in done.stderr for name in (*names, endpoint, "http:"))
    assert all(line.startswith('{"event"') for line in done.stderr.splitlines()), done.stderr  # no bars
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_hub_model_comes_at_its_commit_without_code_or_pickles(hub: str, tmp_path: Path) -> None:
    found = ask(hub, tmp_path, "good/model@v1", "good/model")
    assert found == [["good/model", COMMIT, ["config.json", "model.safetensors", "vocab.txt"]]] * 2
    fetched = {path.rpartition("/")[2] for path in Hub.asked if "/resolve/" in path}
    assert fetched == {"config.json", "model.safetensors", "vocab.txt"}
    cached = ("good/model@v1", "good/model", f"good/model@{COMMIT}")
    assert ask("http://127.0.0.1:1", tmp_path, *cached) == [found[0]] * 3
    Hub.status = 503
    assert ask(hub, tmp_path, *cached) == [found[0]] * 3


def test_what_makes_a_vector_of_a_text_comes_along(hub: str, tmp_path: Path) -> None:
    [[_, _, files]] = ask(hub, tmp_path, "vectors/model")
    assert {*files} == {"config.json", "model.safetensors", *OF_VECTORS}


def test_a_vocabulary_comes_with_its_codes(hub: str, tmp_path: Path) -> None:
    [[_, _, files]] = ask(hub, tmp_path, "bpe/model")
    assert files == REPOSITORIES["bpe/model"]


@pytest.mark.parametrize("part", ["1_Pooling/config.json", "preprocessor_config.json"])
def test_another_pooling_or_preprocessor_is_another_model(tmp_path: Path, part: str) -> None:
    for name in ("config.json", "model.safetensors", "modules.json", part):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = content(tmp_path)
    (tmp_path / "README.md").write_text("new")
    assert content(tmp_path) == before
    (tmp_path / part).write_text("another")
    assert content(tmp_path) != before


def test_a_hub_model_may_come_in_parts(hub: str, tmp_path: Path) -> None:
    [[_, _, files]] = ask(hub, tmp_path, "parts/model")
    assert files == ["config.json", *PART_OF.values(), "model.safetensors.index.json"]


def test_weights_that_are_there_whole_are_not_fetched_in_parts_too(hub: str, tmp_path: Path) -> None:
    [[*told, files]] = ask(hub, tmp_path, "both/model")
    assert files == ["config.json", "model.safetensors"]
    assert ask("http://127.0.0.1:1", tmp_path, "both/model") == [[*told, files]]  # which are enough


def test_a_hub_that_is_away_is_told_from_a_model_that_is_not_there(hub: str, tmp_path: Path) -> None:
    for status in (429, 500, 503):
        Hub.status = status
        assert ask(hub, tmp_path, "good/model") == [["StorageAwayError", f"the hub answers {status}"]]
    Hub.status = 418
    [[field, message]] = ask(hub, tmp_path, "good/model")
    assert field == "/model" and "the hub answers 418" in message and "HF_ENDPOINT" in message
    nobody = ask("http://127.0.0.1:1", tmp_path, "good/model")
    assert nobody == [["StorageAwayError", "the hub cannot be reached (ConnectError)"]]
    [[field, message]] = ask(hub, tmp_path, "good/model", HF_HUB_OFFLINE="1")
    assert field == "/model" and "HF_HUB_OFFLINE" in message


def test_a_hub_that_never_answers_is_not_waited_for(hub: str, tmp_path: Path) -> None:
    answers = ask(hub, tmp_path, "mute/model", "mute/files")
    assert answers == [["StorageAwayError", "the hub cannot be reached (ReadTimeout)"]] * 2


def test_a_signed_link_is_in_no_line_of_the_log(hub: str, tmp_path: Path) -> None:
    [[error, message]] = ask(hub, tmp_path, "cut/model")
    assert error == "StorageAwayError" and "cannot be reached" in message


def test_what_comes_by_xet_writes_to_the_data_folder_alone(hub: str, tmp_path: Path) -> None:
    [[error, message]] = ask(hub, tmp_path, "xet/model", HOME="/proc/nohome")
    assert error == "StorageAwayError" and "OSError" not in message  # as it tells a cache that cannot be written
    assert list((tmp_path / "hub" / "xet").iterdir())


def test_a_token_that_the_hub_refuses_is_named(hub: str, tmp_path: Path) -> None:
    Hub.status = 401
    [[field, message]] = ask(hub, tmp_path, "good/model", HF_TOKEN="hf_old")
    assert field == "/model" and "refuses the worker's HF_TOKEN" in message and "hf_old" not in message


def test_a_revision_may_have_slashes(hub: str, tmp_path: Path) -> None:
    [(_, commit, _)] = ask(hub, tmp_path, "good/model@refs/pr/3")
    assert commit == COMMIT
    assert ask("http://127.0.0.1:1", tmp_path, "good/model@refs/pr/3")[0][1] == COMMIT
    [[field, message]] = ask(hub, tmp_path, "tiny@feature/x")
    assert field == "/model" and "no local model" in message


def test_a_hub_model_that_cannot_be_had_says_how_to_mend(hub: str, tmp_path: Path) -> None:
    names = ("missing/model", "good/model@v9", "gated/model", "pickle/only", "coded/model", "coded/tokenizer")
    answers = ask(hub, tmp_path, *names)
    assert {field for field, _ in answers} == {"/model"}
    expectations = (
        "no public model",
        "no revision 'v9'",
        "gated",
        "has no model.safetensors",
        "config.json sets 'auto_",
    )
    expectations += ("tokenizer_config.json sets 'auto_map'",)
    for (_, message), expected in zip(answers, expectations, strict=True):
        assert expected in message


def test_a_hub_model_that_is_too_large_is_not_fetched(hub: str, tmp_path: Path) -> None:
    for field, message in ask(hub, tmp_path, "huge/model", "huge/parts"):
        assert field == "/model" and "22,548,578," in message and "TOPWORK_MAX_MODEL_BYTES" in message
    assert not any("/resolve/" in path for path in Hub.asked)


def test_a_local_model_is_found_by_its_name(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    folder = settings.models_dir / "tiny"
    folder.mkdir(parents=True)
    with pytest.raises(SpecError, match="'tiny' cannot be pruned: its folder is empty"):
        resolve("tiny", settings)
    (folder / "model.safetensors").touch()
    with pytest.raises(SpecError, match=r"has no config\.json"):
        resolve("tiny", settings)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 10**400}))
    with pytest.raises(SpecError, match=r"config\.json"):
        resolve("tiny", settings)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    found = resolve("tiny", settings)
    assert (found.path, found.name, found.revision) == (folder, "tiny", None)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(SpecError, match="merge_and_unload"):
        resolve("tiny", settings)


@pytest.mark.parametrize("name", ["..", ".", "", "unknown", "tiny@main", "../blobs", "/etc", "a/../../b"])
def test_no_name_leads_out_of_the_models_folder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = Settings(data_dir=tmp_path)
    settings.models_dir.mkdir()
    with pytest.raises(SpecError) as error:
        resolve(name, settings)
    assert error.value.field == "/model"
