"""A pruned image classifier is a model like any: it is pruned again, and loads as ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from core.domains.channels.families import AUTO_CLASS
from core.domains.channels.families import FAMILIES as TABLE
from core.domains.channels.load import load_images
from core.domains.channels.model import read_image_model
from core.domains.channels.survey import reach_of
from core.domains.channels.tracing.trial import draw
from core.domains.folder import PRUNED
from core.domains.structure import Structure
from core.pruning.export.images import write_image_model
from core.rows.image.processor import Images
from core.spec.errors import SpecError
from core.spec.report import Report
from tests.domains.channels.nets import FAMILIES, pictures
from tests.tiny import TARGET, done
from tests.tiny_images import SIDE, save_pictures, save_preprocessor, save_tiny_resnet, spec_of

LABELS = ["a", "b", "c"]


def kind_of(stem: str) -> str:
    """The `model_type` of a family of transformers."""
    return str(getattr(transformers, f"{stem}Config").model_type)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {TARGET: save_pictures(tmp_path_factory.mktemp("data") / "target.parquet", 150)}


@pytest.fixture(scope="module")
def once(tables: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with some of its channels."""
    folder = tmp_path_factory.mktemp("once")
    report = done(spec_of(budget={"macs": 0.5}), save_tiny_resnet(folder / "tiny"), tables, folder / "work")
    assert PRUNED not in report.warnings
    return folder / "work/output"


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"budget": {"params": 0.5}},
        {"method": {"name": "l0"}, "train": {"steps": {"teach": 4, "prune": 16, "recover": 4}}},
        {"budget": {"bytes": 0.6}, "export": {"formats": ["safetensors", "onnx"]}, "channels": {"multiple": 1}},
    ],
    ids=["fisher", "l0", "onnx"],
)
def test_it_is_pruned_again(once: Path, tables: Mapping[str, Path], tmp_path: Path, asked: dict[str, Any]) -> None:
    given = read_image_model(once)
    reach = reach_of(once, SIDE, 3, 1)
    report: Report = done(spec_of(**asked), once, tables, tmp_path)  # verified in a fresh process, both ways
    assert report.budget.dense == reach.dense[report.budget.cost] and report.budget.met <= report.budget.limit
    assert PRUNED in report.warnings and report.results.given
    assert given.pruned and read_image_model(tmp_path / "output").pruned
    kept = Structure.from_json(json.loads((tmp_path / "output/structure.json").read_text()))
    assert report.structure.channels == [*map(len, kept.kept)] and reach.channels > sum(report.structure.channels)
    before, after = (json.loads((path / "config.json").read_text())["topwork"] for path in (once, tmp_path / "output"))
    assert {*before["shapes"]} <= {*after["shapes"]}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (stem, _) in FAMILIES.items() if kind_of(stem) in TABLE])
def test_of_every_family(name: str, tmp_path: Path) -> None:
    """What is cut twice says in transformers, from its files, what it said before."""
    stem, config = FAMILIES[name]
    made = getattr(transformers, f"{stem}Config")(num_labels=3, id2label=dict(enumerate(LABELS)), **config)
    torch.manual_seed(0)
    folder = tmp_path / "0"
    getattr(transformers, TABLE[made.model_type].task_class)(made).save_pretrained(folder)
    save_preprocessor(folder)
    generator = torch.Generator().manual_seed(0)
    looked, before = {name: value.float() for name, value in pictures(2).items()}, None
    for turn in (1, 2):
        network = load_images(folder, LABELS, 0, "single_label_classification", side=64).eval()
        with torch.inference_mode():
            assert before is None or torch.equal(network.logits(looked), before)
            network.cut(draw(network.graph, generator))
            before = network.logits(looked)
        folder = tmp_path / str(turn)
        write_image_model(network, network.units(), Images.of(tmp_path / "0", 64, False), folder)
        assert read_image_model(folder).pruned
    loaded = getattr(transformers, AUTO_CLASS).from_pretrained(folder, trust_remote_code=True).eval()
    with torch.inference_mode():
        assert torch.equal(loaded(**looked).logits, before)


@pytest.mark.slow
def test_its_code_is_not_run_and_what_does_not_fit_is_refused(
    once: Path, tables: Mapping[str, Path], tmp_path: Path
) -> None:
    for file in once.iterdir():
        content = b"raise SystemExit" if file.suffix == ".py" else file.read_bytes()
        (tmp_path / file.name).write_bytes(content)
    problem: Any = "single_label_classification"
    with pytest.raises(SpecError, match="head"):
        load_images(tmp_path, ["bars", "blots", "dots", "new"], 0, problem, side=SIDE, fitted=True)
    network = load_images(tmp_path, ["bars", "blots", "dots", "new"], 0, problem, side=SIDE)  # a head of its own
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    assert network.narrower()["classifier.1.weight"][0] == 4
    with pytest.raises(SpecError, match="layers differ since it was pruned") as raised:
        done(spec_of(budget={"sparsity": 0.5}), tmp_path, tables, tmp_path / "work")
    assert raised.value.field == "/budget/sparsity"
    config = json.loads((once / "config.json").read_text())
    shapes = config["topwork"]["shapes"]
    name = next(name for name, shape in shapes.items() if len(shape) == 4)
    wrong: list[tuple[Any, str]] = [
        ({}, "no part"),
        ({"shapes": []}, "no part"),
        ({"shapes": {name: [0, 1]}}, "no part"),
    ]
    wrong += [({"shapes": shapes | {name: [1, 1, 1, 1]}}, f"under 'topwork' of {name}")]
    for said, match in wrong:
        (tmp_path / "config.json").write_text(json.dumps(config | {"topwork": said}))
        with pytest.raises(SpecError, match=match):
            read_image_model(tmp_path)
    weights = load_file(once / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights | {"extra.weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match="what its config"):
        load_images(tmp_path, LABELS, 0, problem, side=SIDE)
    large = shapes | {name: [10**7, *shapes[name][1:]]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"topwork": {"shapes": large}}))
    with pytest.raises(SpecError, match="no part"):
        load_images(tmp_path, LABELS, 0, problem, side=SIDE)
