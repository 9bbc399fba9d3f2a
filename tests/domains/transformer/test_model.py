"""What is told of a model's folder without torch: right, bounded, and read once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from core.domains.transformer import model as module
from core.domains.transformer.model import read_model
from core.spec.errors import SpecError
from tests.api.conftest import HIDDEN, model_shapes, write_head, write_model, write_safetensors


def test_labels_are_in_the_heads_order_and_only_of_a_whole_head(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    assert read_model(tmp_path / "model").labels == ()
    write_head(tmp_path / "model", ["pos", "neg"])
    assert read_model(tmp_path / "model").labels == ("pos", "neg")
    write_head(tmp_path / "model", ["pos", "neg"], whole=False)
    assert read_model(tmp_path / "model").labels == ()


def test_a_folder_is_read_again_only_when_a_file_of_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, read = tmp_path / "model", []
    write_model(folder)
    honest = module._read

    def counted(*args: Any) -> Any:
        read.append(args)
        return honest(*args)

    monkeypatch.setattr(module, "_read", counted)
    for _ in range(3):
        assert read_model(folder).reads is None
    assert len(read) == 1
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 77}))
    assert read_model(folder).reads == 77 and len(read) == 2
    (folder / "adapter_config.json").write_text("{}")
    for _ in range(3):  # what is wrong is remembered, too
        with pytest.raises(SpecError, match="adapter"):
            read_model(folder)
    assert len(read) == 3
    (folder / "adapter_config.json").unlink()
    assert read_model(folder).reads == 77
    os.utime(folder / "model.safetensors", ns=(1, 1))
    read_model(folder)
    assert len(read) == 4


@pytest.mark.parametrize(
    ("config", "says"),
    [({"vocab_size": 120}, "'vocab_size'.* 100 rows"), ({"max_position_embeddings": 99}, "'max_pos.* 64 rows")],
)
def test_embeddings_are_as_many_as_the_configuration_says(tmp_path: Path, config: dict[str, Any], says: str) -> None:
    write_model(tmp_path / "model", **config)
    shapes = model_shapes() | {"embeddings.position_embeddings.weight": [64, HIDDEN]}
    write_safetensors(tmp_path / "model/model.safetensors", shapes)
    with pytest.raises(SpecError, match=says):
        read_model(tmp_path / "model")


@pytest.mark.field(
    "2. Models in, checkpoints out", "tokens added without resizing", "refused at the POST, with the mend"
)
def test_tokens_without_an_embedding_are_told_however_they_were_added(tmp_path: Path) -> None:
    """`add_tokens` without `resize_token_embeddings`: the vocabulary has 100 rows, ids go from 0 to 100."""
    folder = tmp_path / "model"
    write_model(folder)
    files: dict[str, Any] = {
        "tokenizer.json": {"added_tokens": [{"id": 100, "content": "<x>"}], "model": {"vocab": {"a": 0}}},
        "added_tokens.json": {"<x>": 100},
        "tokenizer_config.json": {"added_tokens_decoder": {"100": {"content": "<x>"}}},
    }
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values))
        with pytest.raises(SpecError, match=r"knows 101 tokens, but it has 100 embeddings.*resize_token_embeddings"):
            read_model(folder)
        (folder / name).write_text(json.dumps(values).replace("100", "99"))
        assert read_model(folder)
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("word\n" * 101)
    with pytest.raises(SpecError, match="knows 101 tokens"):
        read_model(folder)
    vocabulary = {f"w{i}": i for i in range(101)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with pytest.raises(SpecError, match="knows 101 tokens"):
        read_model(folder)


def test_a_large_tokenizer_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path / "model")
    monkeypatch.setattr(module, "PARSED_BYTES", 100)
    for count in (1, 100):  # tokens, which may go on behind that
        added = {"added_tokens": [{"id": 100}] * count, "model": {"vocab": {"w" * 100: 0}}}
        (tmp_path / "model/tokenizer.json").write_text(json.dumps(added))
        with pytest.raises(SpecError, match="knows 101 tokens"):
            read_model(tmp_path / "model")
    monkeypatch.setattr(module, "MAX_TOKENIZER_BYTES", 100)
    os.utime(tmp_path / "model/tokenizer.json", ns=(1, 1))
    with pytest.raises(SpecError, match=r"tokenizer\.json has over 100 bytes"):
        read_model(tmp_path / "model")


@pytest.mark.parametrize(
    "text", ["{ not json", "[]", "{}", '{"model": {"vocab": 5}}', '{"model": {"vocab": {"a": "b"}}}', "[" * 100_000]
)
def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    write_model(tmp_path / "model")
    (tmp_path / "model/tokenizer.json").write_text(text)
    with pytest.raises(SpecError, match=r"its tokenizer\.json is none of a tokenizer"):
        read_model(tmp_path / "model")


def test_a_file_with_holes_costs_nothing(tmp_path: Path) -> None:
    """A header may claim terabytes that a sparse file has."""
    folder = tmp_path / "model"
    write_model(folder)
    shapes = {f"bert.{name}": shape for name, shape in model_shapes().items()}
    shapes["bert.pooler.dense.weight"] = [HIDDEN, HIDDEN]
    header, end = {}, 0
    for name, shape in (shapes | {"classifier.weight": [2**36, HIDDEN]}).items():
        size = 4
        for side in shape:
            size *= side
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    assert read_model(folder).labels == ()


@pytest.mark.parametrize(
    ("name", "shape", "says"),
    [
        ("encoder.layer.1.output.dense.bias", None, "lack 'bert.encoder.layer.1.output.dense.bias'"),
        ("encoder.layer.1.output.dense.bias", [8], "its layers differ: 'output.dense.bias'.*pruned already"),
        ("encoder.layer.0.output.dense.weight", [HIDDEN, 8], "its layers differ"),
        ("encoder.layer.9.output.dense.bias", [HIDDEN], "do not look like"),
    ],
)
def test_layers_are_all_there_and_alike(tmp_path: Path, name: str, shape: list[int] | None, says: str) -> None:
    write_model(tmp_path / "model")
    shapes = {key: sides for key, sides in model_shapes().items() if key != name} | ({name: shape} if shape else {})
    write_safetensors(tmp_path / "model/model.safetensors", shapes)
    with pytest.raises(SpecError, match=says):
        read_model(tmp_path / "model")


def test_neurons_are_as_many_as_the_configuration_says(tmp_path: Path) -> None:
    write_model(tmp_path / "model", intermediate_size=24)
    with pytest.raises(SpecError, match=r"has 24 neurons .* but its weights have 32 and 16"):
        read_model(tmp_path / "model")
