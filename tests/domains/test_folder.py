"""A folder that is no model as transformers saves it is named for what it is, with the mend."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.domains.folder import entries, require_model, require_names
from core.domains.weights import INDEX
from core.spec.errors import SpecError
from tests.api.conftest import write_model

Change = Callable[[Path], Any]


def bare(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only(name: str, config: bool = True) -> Change:
    """Weights of another kind in place of safetensors."""

    def change(folder: Path) -> None:
        bare(folder)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0")
        if not config:
            (folder / "config.json").unlink()

    return change


def beside(name: str, text: str = "{}") -> Change:
    return lambda folder: (folder / name).write_text(text)


def deeper(*names: str, also: str = "") -> Change:
    """The model in folders of the folder."""

    def change(folder: Path) -> None:
        kept = folder.with_name("kept")
        folder.rename(kept)
        for name in names:
            shutil.copytree(kept, folder / name)
        if also:
            (folder / also).write_text("[]")

    return change


def config(**values: Any) -> Change:
    def change(folder: Path) -> None:
        known = json.loads((folder / "config.json").read_text()) | values
        (folder / "config.json").write_text(json.dumps({k: v for k, v in known.items() if v is not None}))

    return change


def cache(folder: Path) -> None:
    """As the hub's client keeps a model."""
    deeper("snapshots/c0ffee")(folder)
    (folder / "blobs").mkdir()


def of_images(change: Change) -> Change:
    return lambda folder: (config(model_type="resnet")(folder), change(folder))


def linked(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("../../blobs/0123")

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (only("adapter_model.safetensors"), "merge_and_unload"),
        (beside("adapter_config.json"), "merge_and_unload"),
        (only("pytorch_model.bin"), r"a pickle \(pytorch_model.bin\).*save_pretrained"),
        (only("pytorch_model.bin.index.json"), "a pickle"),
        (
            of_images(only("pytorch_model.bin")),
            r"a pickle .*`AutoModelForImageClassification\.from_pretrained\(folder\)",
        ),
        (of_images(only("model.fp16.safetensors")), r"anew, `AutoModelForImageClassification\.from_pre"),
        (only("best.pt", config=False), r"a pickle \(best.pt\)"),
        (only("model-q4.gguf", config=False), "quantised .GGUF"),
        (beside("quantize_config.json"), "quantised .GPTQ"),
        (config(quantization_config={"load_in_8bit": True}), "quantised"),
        (only("tf_model.h5"), "from_tf=True"),
        (only("flax_model.msgpack"), "from_flax=True"),
        (only("model.onnx"), "an ONNX file .*the model of transformers that it was made of"),
        (only("onnx/model.onnx"), "an ONNX file"),
        (only("openvino_model.xml"), "OpenVINO"),
        (only("model.fp16.safetensors"), "named model.fp16.safetensors, not model.safetensors"),
        (only("consolidated.00.safetensors"), "of the model's maker"),
        (only("config.cfg", config=False), "spaCy"),
        (config(model_type=None, architecture="resnet50", num_classes=2), "of timm"),
        (config(model_type=None), "no 'model_type'"),
        (config(pruned_heads={"0": [1]}), "pruned_heads"),
        (deeper("0_Transformer", also="modules.json"), "sentence-transformers.* lies in 0_Transformer"),
        (deeper("checkpoint-500", "checkpoint-1000"), "one folder deeper, in checkpoint-1000"),
        (cache, "hub's cache.*cp -rL"),
        (linked("model.safetensors"), "its model.safetensors is a link .*cp -rL"),
        (linked("config.json"), "its config.json is a link"),
        (lambda folder: bare(folder) or (folder / "config.json").unlink() or (folder / "vocab.txt").unlink(), "empty"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (bare, "has no model.safetensors"),
        (beside("model.safetensors", "version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
        (
            beside("tokenizer_config.json", '{"auto_map": {"AutoTokenizer": ["t.T", null]}}'),
            "tokenizer_config.json sets",
        ),
        (beside("generation_config.json", '{"a": [{"custom_generate": "x"}]}'), "generation_config.json sets"),
        (beside("preprocessor_config.json", '{"auto_map": {}}'), "preprocessor_config.json sets"),
        (beside("processor_config.json", "[" * 100_000), "processor_config.json cannot be read"),
    ],
)
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "adapters, pickles, quantised, links, wrapped names, other libraries",
    "each named, with its mend",
)
def test_what_it_is_and_the_mend(tmp_path: Path, change: Change, says: str) -> None:
    folder = tmp_path / "model"
    write_model(folder)
    change(folder)
    with pytest.raises(SpecError, match=says) as error:
        require_model(folder)
    assert error.value.field == "/model" and len(error.value.message) < 500 and str(tmp_path) not in error.value.message


def test_a_link_to_a_folder_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(tmp_path / "gone")
    with pytest.raises(SpecError, match="it is a link to a file that is not here"):
        entries(tmp_path / "model")


def test_what_is_beside_a_model_does_no_harm(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    for name in ("pytorch_model.bin", "model.onnx", "modules.json", "README.md", "trainer_state.json", "optimizer.pt"):
        (tmp_path / "model" / name).write_text("[")
    (tmp_path / "model" / "1_Pooling").mkdir()
    assert require_model(tmp_path / "model")["model_type"] == "bert"
    (tmp_path / "model" / INDEX).write_text("nothing")  # which is not read where the weights lie whole
    require_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("module.bert.encoder.layer.0.output.dense.weight", "'module.' .*as DataParallel does.*removep?|replace"),
        ("_orig_mod.bert.encoder.layer.0.output.dense.weight", "torch.compile"),
        ("bert.encoder.layer.0._orig_mod.output.dense.weight", "torch.compile"),
        ("model.bert.encoder.layer.0.output.dense.weight", "'model.bert.'"),
        ("0.auto_model.encoder.layer.0.output.dense.weight", "sentence-transformers"),
        ("base_model.model.bert.encoder.layer.0.output.dense.weight", "merge_and_unload"),
        ("bert.encoder.layer.0.attention.self.query.lora_A.default.weight", "merge_and_unload"),
    ],
)
def test_names_of_a_wrapper_are_seen(name: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as error:
        require_names(["bert.pooler.dense.weight", name], "bert", "encoder.layer")
    assert error.value.field == "/model"


def test_names_of_a_body_and_of_a_task_model_pass() -> None:
    for prefix in ("", "bert."):
        require_names([f"{prefix}encoder.layer.0.output.dense.weight", "cls.predictions.bias"], "bert", "encoder.layer")
