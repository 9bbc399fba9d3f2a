"""Pictures through HTTP: from the upload to the plan of a job, and what of them is shown."""

from __future__ import annotations

import base64
import hashlib
import io
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.planning import reaches
from core.domains.channels import reach
from core.domains.folder import PRUNED
from core.ledger.database import Database
from core.ledger.files.uploads import PART_BYTES
from core.ledger.jobs import attempts, claims, owner
from core.ledger.settings import Settings
from core.spec.job import JobSpec
from tests.api.conftest import Upload, one_database
from tests.api.test_hub import Hub, hub
from tests.reports import report
from tests.rows import greedy
from tests.rows.helpers import parquet
from tests.rows.image.made import drawn, folders, hub_table, saved, zipped
from tests.tiny import save_tiny_model
from tests.tiny_images import SIDE, save_pruned_resnet, save_tiny_resnet

__all__ = ["hub"]  # a fixture
NET = "acme/net"  # of a hub: it is not looked at here
PETS = {"cat": 30, "dog": 30}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With room for pictures, but not in a reader's memory."""
    return settings.model_copy(update={"max_upload_bytes": 256 * 2**20, "reader_memory_bytes": 256 * 2**20})


def job(data: dict[str, Any], **task: Any) -> dict[str, Any]:
    return {
        "model": NET,
        "task": {"type": "image-classification", "data": data} | task,
        "budget": {"params": 0.3},
    }


def faults(answer: Any) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}


def test_a_zip_from_upload_to_plan(client: TestClient, upload: Upload) -> None:
    odd = {"cat/cmyk.jpg": saved(drawn(99, 40, 90).convert("CMYK"), "JPEG"), "README.txt": b"pets"}
    dataset = upload(zipped(folders(PETS) | odd), "pets.zip")
    found = client.get(f"/v1/datasets/{dataset}").json()
    assert (found["format"], found["rows"], found["columns"]) == ("imagefolder", 61, ["image", "label"])
    assert [(one["name"], one["type"], one["empty"]) for one in found["understood"]["columns"]] == [
        ("image", "picture", 0),
        ("label", "text", 0),
    ]
    plan = client.post("/v1/jobs:validate", json=job({"dataset": dataset}))
    assert plan.status_code == 200, plan.text
    said = plan.json()
    assert said["labels"] == ["cat", "dog"] and said["rows"]["train"] + said["rows"]["dev"] + said["rows"]["test"] == 61
    assert (said["spec"]["task"]["image"], said["spec"]["task"]["augment"]) == ("image", True)
    notes = said["understood"][dataset]["notes"]
    assert "Column 'image': 61 pictures (60 PNG, 1 JPEG) of 24 x 16 to 40 x 90 pixels." in notes
    assert "1 picture is of CMYK, converted to RGB (first: 'cat/cmyk.jpg')." in notes
    assert any("left out: 1 of .txt ('README.txt')" in note for note in notes)
    assert said["warnings"][0].startswith("give the target's own unlabelled pictures in task.unlabelled: ")
    assert client.post("/v1/jobs", json=said["spec"]).status_code == 202


def test_a_preview_shows_small_pictures(client: TestClient, upload: Upload) -> None:
    large = {"cat/large.jpg": saved(drawn(1, 900, 300), "JPEG")}
    dataset = upload(zipped(large | folders({"dog": 3})), "pets.zip")
    shown = client.get(f"/v1/datasets/{dataset}/preview", params={"rows": 2}).json()
    assert [row["label"] for row in shown["rows"]] == ["cat", "dog"]
    first = shown["rows"][0]["image"]
    head, _, data = first.pop("thumbnail").partition(",")
    assert first == {"path": "cat/large.jpg", "format": "JPEG", "width": 900, "height": 300}
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert head == "data:image/jpeg;base64" and small.size[0] == 64 and small.size[1] in (21, 22)


@one_database
def test_parquet_of_the_hub_and_splits_of_their_own(client: TestClient, upload: Upload) -> None:
    def part(first: int, count: int) -> dict[str, str]:
        pictures = {f"{i}.png": saved(drawn(i)) for i in range(first, first + count)}
        labels = [i % 2 for i in range(count)]
        return {"dataset": upload(hub_table(pictures, labels, ["cat", "dog"]), "part.parquet")}

    plan = client.post("/v1/jobs:validate", json=job({"train": part(0, 40), "test": part(30, 20)}))
    assert plan.status_code == 200, plan.text
    rows = plan.json()["rows"]
    assert rows["test"] == 20 and rows["train"] + rows["dev"] == 30 and plan.json()["labels"] == ["cat", "dog"]
    assert rows["dropped"] == {"duplicate rows in the target": 10}


@one_database
def test_sources_of_pictures(client: TestClient, upload: Upload) -> None:
    mine = {"dataset": upload(zipped(folders(PETS)), "pets.zip")}
    others = {"dataset": upload(zipped({f"{i}.png": saved(drawn(i)) for i in range(50, 90)}), "others.zip")}
    body = job(mine) | {"sources": [{"data": others}], "transfer": {"coupling": "teacher"}}
    plan = client.post("/v1/jobs:validate", json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["rows"]["sources"] == [30] and plan.json()["spec"]["sources"][0]["image"] == "image"
    body = job(mine)
    body["task"]["unlabelled"] = {"data": others}
    plan = client.post("/v1/jobs:validate", json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["rows"]["unlabelled"] == 30 and plan.json()["spec"]["task"]["unlabelled"]["image"] == "image"
    assert client.post("/v1/jobs:validate", json=plan.json()["spec"]).status_code == 200
    renamed = hub_table({f"{i}.png": saved(drawn(i)) for i in range(50, 90)}, [0] * 40, ["cat"], "photo")
    body["task"]["unlabelled"] = {"data": {"dataset": upload(renamed, "others.parquet")}}
    plan = client.post("/v1/jobs:validate", json=body)
    assert plan.status_code == 200, plan.text
    assert plan.json()["notes"][0] == "the pictures of others.parquet are its column 'photo'"


@one_database
@pytest.mark.parametrize(
    ("task", "pointer", "says"),
    [
        ({"image": "photo"}, "/task/image", "has no column 'photo'; its columns: 'image', 'label'"),
        ({"image": "label", "label": "image"}, "/task/image", "holds texts ('cat') and no pictures"),
        ({"text": ["label"]}, "/task/text", "leave 'text' out"),
        ({"type": "text-classification", "text": ["image"]}, "/task/text/0", '"type": "image-classification"'),
        ({"type": "text-classification", "image": "image"}, "/task/image", "is of pictures"),
        ({"problem_type": "regression"}, "/task/problem_type", "no numbers"),
    ],
)
def test_a_job_that_does_not_fit_is_refused_by_its_field(
    client: TestClient, upload: Upload, task: dict[str, Any], pointer: str, says: str
) -> None:
    body = job({"dataset": upload(zipped(folders(PETS)), "pets.zip")}, **task)
    assert says in faults(client.post("/v1/jobs:validate", json=body))[pointer]


@one_database
@pytest.mark.field("1. Data at the door", "a CSV file of addresses of pictures", "a 422 that says what to upload")
def test_addresses_of_pictures_are_refused_with_the_mend(client: TestClient, upload: Upload) -> None:
    lines = [f"https://example.org/{i}.png,{'ab'[i % 2]}" for i in range(40)]
    dataset = upload("\n".join(["image,label", *lines]).encode(), "urls.csv")
    said = faults(client.post("/v1/jobs:validate", json=job({"dataset": dataset})))["/task/image"]
    assert "holds addresses ('https://example.org/0.png')" in said and "a zip with a folder for each class" in said


@one_database
def test_parquet_that_names_pictures_without_their_bytes_is_told(client: TestClient, upload: Upload) -> None:
    """The hub's `Image` before it is embedded: all that is there are paths."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [{"bytes": None, "path": f"images/{i}.png"} for i in range(40)]
    table = pa.table({"image": pa.array(cells, kind), "label": ["a", "b"] * 20})
    dataset = upload(parquet(table), "paths.parquet")
    said = faults(client.post("/v1/jobs:validate", json=job({"dataset": dataset})))["/task/image"]
    assert "was left out: names pictures ('images/0.png' in row 1) and has not their bytes; upload the" in said


@one_database
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.zip", zipped(folders({"a": 3}) | {"a/x.png": saved(drawn())[:60]}), "'a/x.png' is damaged or cut off"),
        ("a.zip", zipped({"a/bomb.png": saved(Image.new("1", (12_000, 12_000)))}), "'a/bomb.png' has 12,000 x 12,000"),
        ("a.zip", zipped({"../../a.png": saved(drawn())}), "leads out of the zip"),
        ("a.png", saved(drawn()), "is one picture; pack pictures in a zip"),
        ("a.parquet", hub_table({"a.png": b"\x89PNG\r\n\x1a\nnothing"}), "row 1 ('a.png') is damaged or cut off"),
    ],
)
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    client: TestClient, settings: Settings, name: str, content: bytes, says: str
) -> None:
    answer = client.post("/v1/datasets", files={"file": (name, content)})
    assert says in faults(answer)["/file"]
    assert client.get("/v1/datasets").json()["items"] == [] and not list(settings.scratch_dir.iterdir())


@one_database
def test_pictures_of_a_hub(client: TestClient, hub: Hub) -> None:
    pictures = {f"{i}.png": saved(drawn(i)) for i in range(40)}
    table = hub_table(pictures, [i % 2 for i in range(40)], ["cat", "dog"])
    hub.files["acme/pets"] = {"data/train-00000-of-00001.parquet": table, "README.md": b"# Pets\n"}
    hub.files["acme/zips"] = {"data/train.zip": zipped(folders(PETS)), "data/test.zip": zipped(folders(PETS, 60))}
    plan = client.post("/v1/jobs:validate", json=job({"hub": "acme/pets"}))
    assert plan.status_code == 200, plan.text
    assert plan.json()["labels"] == ["cat", "dog"]
    plan = client.post("/v1/jobs:validate", json=job({"train": {"hub": "acme/zips"}, "test": {"hub": "acme/zips"}}))
    assert plan.status_code == 200, plan.text
    assert sorted(hub.fetched) == ["data/test.zip", "data/train-00000-of-00001.parquet", "data/train.zip"]
    hub.files["acme/loose"] = {"train/cat/1.jpg": b"x", "train/dog/2.jpg": b"x"}
    said = faults(client.post("/v1/jobs:validate", json=job({"hub": "acme/loose"})))["/task/data/hub"]
    assert "no files that are tables" in said and "acme/loose@refs/convert/parquet" in said


@one_database
@pytest.mark.field(
    "3. Under attack", "an upload of thousands of pictures", "the API's memory stays, and decodes nothing"
)
def test_many_pictures_cost_the_api_little_memory(client: TestClient, tmp_path: Path) -> None:
    """A hundred megabytes of them, in parts: what the API holds grows by less than 64 MB."""
    file, noise = tmp_path / "many.zip", saved(drawn(1, 128, 128), "BMP")
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(2000):
            picture = noise[:-4] + number.to_bytes(4, "little")
            archive.writestr(f"{'ab'[number % 2]}/{number}.bmp", picture)
    size = file.stat().st_size
    assert size > 95_000_000
    with file.open("rb") as data:
        sha256 = hashlib.file_digest(data, "sha256").hexdigest()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = client.post("/v1/uploads", json={"name": "many.zip", "size_bytes": size, "sha256": sha256})
    here = begun.headers["location"]
    with file.open("rb") as data:
        for number in range(1, begun.json()["parts"] + 1):
            part = data.read(PART_BYTES)
            digest = hashlib.sha256(part).hexdigest()
            assert client.put(f"{here}/parts/{number}", content=part, params={"sha256": digest}).status_code == 204
    made = client.post(f"{here}/complete")
    assert made.status_code == 201, made.text
    assert made.json()["rows"] == 2000
    dataset = made.json()["id"]
    assert client.get(f"/v1/datasets/{dataset}/preview", params={"rows": 100}).status_code == 200
    plan = client.post("/v1/jobs:validate", json=job({"dataset": dataset}))
    assert plan.status_code == 200, plan.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # kB


@one_database
def test_the_api_decodes_nothing(settings: Settings, tmp_path: Path) -> None:
    """A process that takes pictures in, shows and plans them has not loaded what could open one."""
    (tmp_path / "pets.zip").write_bytes(zipped(folders(PETS)))
    code = (
        "import sys\nfrom pathlib import Path\nfrom fastapi.testclient import TestClient\n"
        "from api.main import create_app\nfrom core.ledger.settings import Settings\n"
        "here = Path(sys.argv[1])\n"
        "settings = Settings(data_dir=here / 'data', database_url=sys.argv[2], require_keys=False)\n"
        "with TestClient(create_app(settings), 'http://localhost') as client:\n"
        "    made = client.post('/v1/datasets', files={'file': ('pets.zip', (here / 'pets.zip').read_bytes())})\n"
        "    dataset = made.json()['id']\n"
        "    assert client.get(f'/v1/datasets/{dataset}/preview').json()['rows'][0]['image']['thumbnail']\n"
        "    task = {'type': 'image-classification', 'data': {'dataset': dataset}}\n"
        "    body = {'model': 'acme/net', 'task': task, 'budget': {'params': 0.3}}\n"
        "    assert client.post('/v1/jobs:validate', json=body).status_code == 200\n"
        "print([name for name in ('PIL', 'numpy', 'torch') if name in sys.modules])"
    )
    run = [sys.executable, "-c", code, str(tmp_path), str(settings.database_url)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_plan_says_what_of_a_local_model_can_go(
    client: TestClient, upload: Upload, settings: Settings, database: Database
) -> None:
    save_tiny_resnet(settings.models_dir / "net")
    save_tiny_model(settings.models_dir / "words")
    dataset = upload(zipped(folders(PETS)), "pets.zip")
    asked = job({"dataset": dataset}) | {"model": "net", "budget": {"macs": 0.5}}
    plan = client.post("/v1/jobs:validate", json=asked).json()
    assert plan["units"]["blocks"] > 2 and 0.9 < plan["units"]["removable"] <= 1
    reach = {one["cost"]: one for one in plan["reach"]}
    assert {*reach} == {"params", "macs", "bytes"} and reach["macs"]["sequence_length"] == SIDE
    assert plan["limit"] == reach["macs"]["dense"] // 2
    views, as_they_are = (
        client.post("/v1/jobs:validate", json=asked | {"task": asked["task"] | {"augment": augment}}).json()["estimate"]
        for augment in (True, False)
    )
    more = views["memory_bytes"] - as_they_are["memory_bytes"]
    assert more == 7 * plan["rows"]["train"] * 3 * SIDE**2  # few pictures are seen in eight views
    assert plan["estimate"]["basis"] == "no finished jobs of pictures on cpu yet: rough"
    ran = report(work_macs={"train": 1e9, "measure": 1e6}, timings_s={"teach": 30.0})
    for task in ({"data": {"dataset": dataset}}, asked["task"]):
        with database.begin() as session:
            spec = JobSpec.model_validate({"model": "net", "task": task, "budget": {"macs": 0.5}})
            found, _ = owner.create(session, "tenant_default", spec, 3)
            claims.claim(session, found.id, "w", 30)
            attempts.succeed(session, found.id, 1, ran, {})
        went_by = client.post("/v1/jobs:validate", json=asked).json()["estimate"]["basis"]
        known = task is asked["task"]  # those of texts are no guide
        assert went_by.startswith("from 1 finished job of pictures" if known else "no finished jobs of pictures")
    plan = client.post("/v1/jobs:validate", json=asked).json()
    (reached,) = (settings.cache_dir / "reach").iterdir()
    written = reached.stat().st_mtime_ns
    assert client.post("/v1/jobs:validate", json=asked).json() == plan and reached.stat().st_mtime_ns == written
    zeros, fours = (
        client.post("/v1/jobs:validate", json=asked | {"budget": {"sparsity": 0.5, "pattern": pattern}}).json()["limit"]
        for pattern in ("unstructured", "2:4")
    )
    assert 0 < fours < zeros  # three colours, and depthwise kernels, fill no groups of four
    assert plan["units"]["apart"] is None
    apart = client.post("/v1/jobs:validate", json=asked | {"channels": {"readers": "own"}}).json()
    assert apart["units"]["apart"] == 8 and apart["reach"] == plan["reach"]
    beyond = client.post("/v1/jobs:validate", json=asked | {"budget": {"macs": 1e-6}})
    assert f"{reach['macs']['lowest']:,}" in faults(beyond)["/budget/macs"]
    assert (
        "classifies no pictures" in faults(client.post("/v1/jobs:validate", json=asked | {"model": "words"}))["/model"]
    )
    listed = {one["name"]: one for one in client.get("/v1/models").json()["items"]}
    assert (listed["net"]["task"], listed["net"]["pixels"], listed["words"]["task"]) == ("image", SIDE, "text")


def without_torch(patch: pytest.MonkeyPatch) -> None:
    def no_version(name: str) -> str:
        raise PackageNotFoundError(name)

    patch.setattr(reach, "version", no_version)
    patch.setitem(sys.modules, "torch", None)


def of_too_many_weights(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reaches, "WEIGHT_BYTES", 2**40)
    patch.setattr(reaches, "reach_of", greedy.bug)  # and is not asked


def of_too_much_memory(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(reaches, "reach_of", greedy.full)


@one_database
@pytest.mark.parametrize("lacks", [without_torch, of_too_many_weights, of_too_much_memory])
def test_what_the_api_cannot_find_out_is_left_to_the_worker(
    client: TestClient,
    upload: Upload,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    lacks: Callable[[pytest.MonkeyPatch], None],
) -> None:
    save_tiny_resnet(settings.models_dir / "net")
    asked = job({"dataset": upload(zipped(folders(PETS)), "pets.zip")}) | {"model": "net"}
    lacks(monkeypatch)
    answer = client.post("/v1/jobs:validate", json=asked)
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    assert (plan["units"], plan["reach"], plan["estimate"]) == (None, [], None) and "fresh head" in plan["head"]
    (said,) = (one for one in plan["warnings"] if "torch" in one)
    assert "the worker checks the budget" in said and not any("not here yet" in one for one in plan["warnings"])
    assert client.post("/v1/jobs", json=asked).status_code == 202
    (settings.models_dir / "net" / "model.safetensors").unlink()
    assert "/model" in faults(client.post("/v1/jobs", json=asked))


@pytest.mark.slow
def test_a_pruned_model_is_listed_as_one_and_planned_as_it_is(
    client: TestClient, upload: Upload, settings: Settings
) -> None:
    save_pruned_resnet(settings.models_dir / "again", save_tiny_resnet(settings.models_dir / "net"))
    listed = {one["name"]: one for one in client.get("/v1/models").json()["items"]}
    again, net = listed["again"], listed["net"]
    assert (again["pruned"], net["pruned"]) == (True, False)
    assert again["labels"] == ["cat", "dog"] and again["model_params"] < net["model_params"]
    dataset = upload(zipped(folders(PETS)), "pets.zip")
    asked = job({"dataset": dataset}) | {"budget": {"macs": 0.5}}
    plan, whole = (client.post("/v1/jobs:validate", json=asked | {"model": name}).json() for name in ("again", "net"))
    assert PRUNED in plan["warnings"] and PRUNED not in whole["warnings"]
    assert plan["limit"] < whole["limit"] and plan["units"]["channels"] < whole["units"]["channels"]
    zeros = asked | {"model": "again", "budget": {"sparsity": 0.5}}
    assert "since it was pruned" in faults(client.post("/v1/jobs:validate", json=zeros))["/budget/sparsity"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hidden_size": "trim"}, "/hidden_size"),
        ({"export": {"layout": "regular"}}, "/export/layout"),
        ({"budget": {"macs": 0.5, "sequence_length": 64}}, "/budget/sequence_length"),
        ({"budget": {"params": 0.5, "of": "encoder"}}, "/budget/of"),
        ({"channels": {"readers": "own"}, "method": {"name": "l0"}}, "/channels/readers"),
    ],
)
def test_what_is_of_texts_alone_is_refused(
    client: TestClient, upload: Upload, changes: dict[str, Any], field: str
) -> None:
    dataset = upload(zipped(folders(PETS)), "pets.zip")
    assert field in faults(client.post("/v1/jobs:validate", json=job({"dataset": dataset}) | changes))
