"""Jobs of pictures, whole: every method, coupling and budget, the files that come of them, and a resumed one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from core.domains.structure import Structure
from core.pruning.reading.read import read_inputs
from core.rows.files.read import read
from core.spec.errors import SpecError
from core.spec.messages import Saved
from core.spec.report import Report
from tests.domains.channels.nets import FAMILIES as NETS
from tests.rows.image.made import zipped
from tests.tiny import SOURCE, TARGET, done, run_apart
from tests.tiny_images import (
    LIMITS,
    SIDE,
    pictures,
    save_pictures,
    save_preprocessor,
    save_tiny_mobilenet,
    save_tiny_resnet,
    save_tiny_vit,
    spec_of,
    with_source,
)

REFUSED = ("Bit", "ConvNextV2", "PPLCNet", "SwiftFormer")
BY_PATH = """
from runpy import run_path
from PIL import Image

here = run_path("load.py")
model, processor = here["load"]()
batch = processor(Image.new("RGB", (40, 50), (10, 200, 30)), return_tensors="pt")
assert model(**batch).logits.shape == (1, 3)
deep = Image.frombytes("I;16", (256, 2), bytes(range(256)) * 4)
assert {one for pixel in here["rgb"](deep).getdata() for one in pixel} == {*range(1, 256, 2)}  # the upper bytes
"""
ELSEWHERE = """
import json
from functools import partial
from pathlib import Path
from runpy import run_path

from transformers import AutoModelForImageClassification

config = json.loads(Path("config.json").read_text())
config["topwork"]["shapes"]["resnet.named.otherwise"] = [4]
Path("config.json").write_text(json.dumps(config))
by_transformers = partial(AutoModelForImageClassification.from_pretrained, ".", trust_remote_code=True)
for load in (run_path("load.py")["load"], by_transformers):
    try:
        load()
    except ImportError as error:
        assert "has no 'resnet.named.otherwise'" in str(error) and "pip install 'transformers==" in str(error), error
    else:
        raise AssertionError("it has loaded at random")
"""


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_resnet(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def deeper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of which several layers read one tensor, each other channels the most, as trained ones do."""
    folder = save_tiny_resnet(tmp_path_factory.mktemp("models") / "deeper", depths=[3, 3])
    weights, generator = load_file(folder / "model.safetensors"), torch.Generator().manual_seed(0)
    for name, weight in weights.items():
        if weight.ndim == 4:
            weights[name] = weight * torch.randn(1, weight.shape[1], 1, 1, generator=generator).exp()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        TARGET: save_pictures(folder / "target.parquet", 200),
        SOURCE: save_pictures(folder / "source.parquet", 200, seed=1),
    }


def kept_all(output: Path, report: Report) -> None:
    """What was measured is what is in the files, and within the budget."""
    weights = load_file(output / "model.safetensors")
    structure = Structure.from_json(json.loads((output / "structure.json").read_text()))
    assert report.structure.channels == [len(units) for units in structure.kept] and min(report.structure.channels) > 0
    assert report.budget.met <= report.budget.limit and report.budget.of == "model"
    assert "encoder's" not in (output / "report.html").read_text()
    assert report.verified is not None and report.verified.changed_predictions == 0
    assert report.results.pruned.bytes == (output / "model.safetensors").stat().st_size
    floats = sum(one.numel() for one in weights.values() if one.is_floating_point())
    running = sum(one.numel() for name, one in weights.items() if "running_" in name)
    assert report.results.pruned.model_params == floats - running


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "coupling"),
    [("fisher", "teacher"), ("fisher", "joint"), ("magnitude", "none"), ("random", "sequential")],
)
def test_a_job_meets_its_budget_and_its_files_are_what_was_measured(
    resnet: Path, tables: Mapping[str, Path], tmp_path: Path, method: str, coupling: str
) -> None:
    asked = spec_of if coupling == "none" else with_source
    transfer = {} if coupling == "none" else {"transfer": {"coupling": coupling}}
    report = done(asked(method={"name": method}, **transfer), resnet, tables, tmp_path)
    kept_all(tmp_path / "output", report)
    assert 0.38 <= report.budget.fraction <= 0.4
    run_apart(BY_PATH, tmp_path / "output")
    run_apart(ELSEWHERE, tmp_path / "output")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, (family, _) in NETS.items() if family not in REFUSED])
def test_a_job_of_every_family(tables: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    """With a head of a source beside the target's; its ONNX file says the same."""
    family, options = NETS[name]
    made = getattr(transformers, f"{family}Config")(**options | {"num_labels": 5})
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForImageClassification")(made).save_pretrained(tmp_path / "tiny")
    save_preprocessor(tmp_path / "tiny")
    few = {"steps": {"teach": 2, "recover": 2}, "image_size": 64}
    asked = {"transfer": {"coupling": "joint"}, "export": {"formats": ["onnx"]}, "budget": {"macs": 0.9}, "train": few}
    asked |= {"channels": {"multiple": 1}}
    report = done(with_source(**asked), tmp_path / "tiny", tables, tmp_path / "job")
    kept_all(tmp_path / "job/output", report)
    assert report.verified and report.verified.max_difference_onnx is not None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["l0", "pdp"])
def test_masks_are_learned_on_channels(resnet: Path, tables: Mapping[str, Path], tmp_path: Path, method: str) -> None:
    train = {"steps": {"teach": 40, "prune": 40, "recover": 20}, "learning_rate": 3e-3}
    spec = with_source(method={"name": method}, train=train, transfer={"coupling": "teacher"})
    report = done(spec, resnet, tables, tmp_path)
    kept_all(tmp_path / "output", report)
    assert report.results.pruned.test["accuracy"].value > 0.5  # a third is what chance gives


@pytest.mark.slow
def test_what_is_learned_survives_the_cut_and_onnx(tables: Mapping[str, Path], tmp_path: Path) -> None:
    """Depthwise convolutions, widths in multiples, BatchNorm with the momentum of TensorFlow."""
    from onnxruntime import InferenceSession

    model = save_tiny_mobilenet(tmp_path / "mobile")
    spec = with_source(
        transfer={"coupling": "teacher"}, export={"formats": ["safetensors", "onnx"]}, channels={"multiple": 8}
    )
    report = done(spec, model, tables, tmp_path / "work")
    output = tmp_path / "work/output"
    kept_all(output, report)
    assert report.verified and report.verified.max_difference_onnx is not None
    convolutions = {
        n: w for n, w in load_file(output / "model.safetensors").items() if n.endswith("convolution.weight")
    }
    assert all(len(weight) % 8 == 0 for weight in convolutions.values())
    session = InferenceSession(output / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixel_values": np.zeros((3, 3, SIDE, SIDE), np.float32)})
    assert logits.shape == (3, 3)


def reads_apart(output: Path, report: Report) -> dict[str, Any]:
    """What layers read, as the files and the report have it: some of what others read."""
    said = json.loads((output / "structure.json").read_text())
    assert {path: len(units) for path, units in said["left_out"].items()} == report.structure.left_out
    assert json.loads((output / "config.json").read_text())["topwork"]["reads"] == said["reads"] != {}
    weights = load_file(output / "model.safetensors")
    for path, runs in said["reads"].items():
        assert weights[f"{path}.weight"].shape[1] == sum(count for _, count in runs)
    return dict(said)


OWN: dict[str, Any] = {"channels": {"readers": "own", "multiple": 1}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "coupling", "kind"),
    [
        ("fisher", "teacher", "macs"),
        ("fisher", "joint", "params"),
        ("magnitude", "none", "bytes"),
        ("random", "sequential", "macs"),
    ],
)
def test_layers_that_read_their_own_channels(
    deeper: Path, tables: Mapping[str, Path], tmp_path: Path, method: str, coupling: str, kind: str
) -> None:
    """Every file is what was measured, in ONNX, too; what knows nothing of it refuses to load it."""
    from transformers import ResNetForImageClassification

    asked = spec_of if coupling == "none" else with_source
    transfer = {} if coupling == "none" else {"transfer": {"coupling": coupling}}
    export = {"formats": ["safetensors", "onnx"]}
    spec = asked(method={"name": method}, export=export, budget={kind: 0.4}, **transfer, **OWN)
    report = done(spec, deeper, tables, tmp_path)
    output = tmp_path / "output"
    kept_all(output, report)
    reads_apart(output, report)
    assert 0.38 <= report.budget.fraction <= 0.4
    assert report.verified and (report.verified.max_difference_onnx or 1) < 1e-4
    assert f"In {len(report.structure.left_out)} layers some" in (output / "report.html").read_text()
    run_apart(BY_PATH, output)
    with pytest.raises((RuntimeError, ValueError)):
        ResNetForImageClassification.from_pretrained(output)


@pytest.mark.slow
def test_layers_that_read_their_own_channels_meet_a_budget_in_time(tables: Mapping[str, Path], tmp_path: Path) -> None:
    """Widths, and what is read of them, in multiples; a job that was killed goes on with what it had cut."""
    wide = save_tiny_resnet(tmp_path / "wide", embedding_size=64, hidden_sizes=[64, 128])
    spec = spec_of(
        budget={"speedup": 1.5, "runtime": "onnx"},
        train={"steps": {"teach": 4, "recover": 4}},
        channels={"readers": "own", "multiple": 8},
    )
    for stage in ("prune", "recover"):
        with pytest.raises(KeyboardInterrupt):
            done(spec, wide, tables, tmp_path / "work", killed(stage))
    report = done(spec, wide, tables, tmp_path / "work")
    kept_all(tmp_path / "work/output", report)
    said = reads_apart(tmp_path / "work/output", report)
    assert all(width % 8 == 0 for width in report.structure.channels)
    assert all(sum(count for _, count in runs) % 8 == 0 for runs in said["reads"].values())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["l0", "pdp"])
def test_widths_stay_multiples_where_channels_go_on_the_way(
    tables: Mapping[str, Path], tmp_path: Path, method: str
) -> None:
    wide = save_tiny_resnet(tmp_path / "wide", embedding_size=64, hidden_sizes=[64, 128])
    steps = {"teach": 4, "prune": 24, "recover": 2}
    spec = spec_of(method={"name": method}, train={"steps": steps}, channels={"multiple": 16}, budget={"macs": 0.3})
    report = done(spec, wide, tables, tmp_path / "work")
    assert all(width % 16 == 0 for width in report.structure.channels)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fisher", "l0", "pdp", "magnitude"])
def test_heads_of_a_vision_transformer_go(tables: Mapping[str, Path], tmp_path: Path, method: str) -> None:
    spec = spec_of(
        method={"name": method},
        train={"steps": {"teach": 10, "recover": 10} | ({"prune": 20} if method in ("l0", "pdp") else {})},
        export={"formats": ["safetensors", "onnx"]},
        channels={"multiple": 1},
    )
    report = done(spec, save_tiny_vit(tmp_path / "vit"), tables, tmp_path / "work")
    kept_all(tmp_path / "work/output", report)
    assert report.verified and report.verified.max_difference_onnx is not None
    weights, heads = load_file(tmp_path / "work/output/model.safetensors"), report.structure.channels[::2]
    assert min(heads) < 4 and max(heads) <= 4 and len(heads) == 2
    for layer, count in enumerate(heads):
        attention = f"vit.layers.{layer}.attention."
        assert all(len(weights[f"{attention}{part}_proj.weight"]) == 8 * count for part in "qkv")
        assert weights[f"{attention}o_proj.weight"].shape == (32, 8 * count)


@pytest.mark.slow
def test_a_budget_in_time_is_met_by_the_clock(tables: Mapping[str, Path], tmp_path: Path) -> None:
    wide = save_tiny_resnet(tmp_path / "wide", embedding_size=64, hidden_sizes=[64, 128])
    spec = spec_of(budget={"speedup": 1.5, "runtime": "onnx"}, train={"steps": {"teach": 4, "recover": 4}})
    report = done(spec, wide, tables, tmp_path / "work")
    kept_all(tmp_path / "work/output", report)
    assert all(width % 16 == 0 for width in report.structure.channels)
    assert report.budget.measured and report.budget.measured.length == SIDE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "pattern"), [("magnitude", "unstructured"), ("pdp", "unstructured"), ("pdp", "2:4"), ("pdp", "channel")]
)
def test_zeros_keep_every_shape(
    resnet: Path, tables: Mapping[str, Path], tmp_path: Path, method: str, pattern: str
) -> None:
    steps = {"teach": 10, "recover": 4} | ({"prune": 8} if method == "pdp" else {})
    budget = {"sparsity": 0.5, "pattern": pattern}
    spec = spec_of(budget=budget, method={"name": method}, train={"steps": steps})
    report = done(spec, resnet, tables, tmp_path)
    assert report.sparsity and report.sparsity.zeros >= report.sparsity.weights // 2
    if pattern == "2:4":  # along input channels, at each place of a kernel; three colours do not fill a group
        tensors = load_file(tmp_path / "output/model.safetensors")
        kernels = {name: one for name, one in tensors.items() if one.ndim == 4 and one.shape[1] % 4 == 0}
        for one in kernels.values():
            assert ((one.movedim(1, -1).unflatten(-1, (-1, 4)) != 0).sum(-1) == 2).all()
        assert report.sparsity.weights == sum(one.numel() for one in kernels.values())
    assert not [*(tmp_path / "output").glob("modeling_*.py")]
    assert report.budget.of == "model" and "its encoder" not in (tmp_path / "output/README.md").read_text()
    assert "encoder's" not in (tmp_path / "output/report.html").read_text()


@pytest.mark.slow
def test_auto_tries_pictures_as_it_does_texts(resnet: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    train = {"steps": {"teach": 60, "recover": 400}, "learning_rate": 3e-3}
    report = done(with_source(train=train), resnet, tables, tmp_path)
    kept_all(tmp_path / "output", report)
    assert report.transfer.auto and report.transfer.auto.trials


@pytest.mark.slow
@pytest.mark.parametrize("method", ["l0", "pdp"])
def test_weights_of_sources_are_learned_by_the_gates_of_channels(
    resnet: Path, tables: Mapping[str, Path], tmp_path: Path, method: str
) -> None:
    """Of a network that is dense, of one that is cut, and under masks."""
    train = {"steps": {"teach": 10, "prune": 30, "recover": 30}, "learning_rate": 3e-3}
    learned = {"coupling": "joint", "weighting": "learned"}
    report = done(with_source(transfer=learned, method={"name": method}, train=train), resnet, tables, tmp_path)
    kept_all(tmp_path / "output", report)
    assert len(report.transfer.weights["source 0"]) > 2


@pytest.mark.slow
def test_pictures_with_several_labels(resnet: Path, tmp_path: Path) -> None:
    """Each a column of its own; a source of pictures without labels."""
    tables = {TARGET: tmp_path / "target.parquet", SOURCE: save_pictures(tmp_path / "source.parquet", 60, seed=1)}
    drawn = pictures(120)
    lines = ["file_name,bars,dark"]
    lines += [f"{name},{int(name.startswith('bars'))},{number % 2}" for number, name in enumerate(drawn)]
    packed = tmp_path / "target.zip"
    packed.write_bytes(zipped(drawn | {"metadata.csv": "\n".join(lines)}))
    read([packed], packed.name, tables[TARGET], LIMITS)
    task = spec_of().task.model_dump(mode="json", exclude_none=True, exclude={"metric"})
    spec = spec_of(
        task={**task, "label": ["bars", "dark"], "split": {"train": 40, "dev": 20, "test": 40}},
        sources=[{"data": {"dataset": SOURCE}}],
        transfer={"coupling": "teacher"},
        train={"steps": {"teach": 4, "recover": 4}},
    )
    report = done(spec, resnet, tables, tmp_path / "work")
    kept_all(tmp_path / "work/output", report)
    assert report.task.problem == "multi_label_classification" and "micro_f1" in report.results.pruned.test


def test_where_rows_are_held_out_no_view_of_them_stays(tables: Mapping[str, Path], tmp_path: Path) -> None:
    model = save_tiny_resnet(tmp_path / "model")
    inputs, _ = read_inputs(with_source(transfer={"coupling": "teacher"}), model, tables)
    views, rows = inputs.train.views, inputs.train.examples
    assert views > 1 and len(inputs.train) == views * len(rows) and len(rows) == len(inputs.splits.train)
    assert (inputs.dev.views, inputs.test.views) == (1, 1)
    pixels, several = rows.inputs["pixel_values"], inputs.train.inputs["pixel_values"]
    assert all(torch.equal(one, several[i * views]) for i, one in enumerate(pixels))
    assert torch.equal(several[1], several[0].flip(-1)) and rows.labels[0] == inputs.train.labels[views - 1]


def killed(stage: str) -> Any:
    def listener(message: Any) -> None:
        if isinstance(message, Saved) and message.stage == stage:
            raise KeyboardInterrupt

    return listener


@pytest.mark.slow
def test_a_resumed_job_ends_as_one_that_ran_through(resnet: Path, tables: Mapping[str, Path], tmp_path: Path) -> None:
    spec = with_source(transfer={"coupling": "teacher"})
    whole = done(spec, resnet, tables, tmp_path / "whole")
    for stage in ("teach", "prune"):
        with pytest.raises(KeyboardInterrupt):
            done(spec, resnet, tables, tmp_path / "resumed", killed(stage))
    resumed = done(spec, resnet, tables, tmp_path / "resumed")
    assert resumed.results.pruned.test == whole.results.pruned.test
    a, b = (load_file(tmp_path / name / "output/model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"budget": {"macs": 1e-6}}, "/budget/macs", "out of reach"),
        ({"model": "text"}, "/model", "classifies no pictures"),
        (
            {"model": "vit", "train": {"image_size": 64}},
            "/train/image_size",
            "reads pictures of 32 pixels a side alone",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    resnet: Path, tables: Mapping[str, Path], tmp_path: Path, changes: dict[str, Any], field: str, says: str
) -> None:
    from tests.tiny import save_tiny_model

    others = {"text": save_tiny_model, "vit": save_tiny_vit}
    named = changes.get("model", "")
    model = others[named](tmp_path / named) if named else resnet
    with pytest.raises(SpecError, match=says) as raised:
        done(spec_of(**changes), model, tables, tmp_path / "work")
    assert raised.value.field == field
