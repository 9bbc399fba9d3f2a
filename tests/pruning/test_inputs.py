"""A job starts from typed tables: numbers of classes are their names, from the file to the network's outputs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from core.domains.transformer.load import load_network
from core.pruning.reading.read import read_inputs, read_tables
from core.rows.columns import NAMES, NESTED
from core.spec.job import JobSpec

TARGET, SOURCE = "ds_" + "1" * 32, "ds_" + "2" * 32


def stored(path: Path, metadata: dict[str, dict[bytes, bytes]], **columns: list[Any]) -> Path:
    """A table as the ledger keeps it: what columns mean is metadata of their fields."""
    table = pa.table(columns)
    fields = [field.with_metadata(metadata.get(field.name)) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields)), path)
    return path


def spec_of(task: dict[str, Any], *sources: dict[str, Any]) -> JobSpec:
    """A job on the target."""
    whole = {"data": {"dataset": TARGET}, **task}
    return JobSpec.model_validate({"model": "m", "task": whole, "sources": [*sources], "budget": {"params": 0.5}})


def test_columns_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    metadata = {"label": {NAMES: b'["neg", "pos"]'}, "meta": {NESTED: b"1"}}
    values = {"label": [0, 1], "meta": ['{"a": 1}', None], "split": ["train", "test"], "other": [1.5, 2.5]}
    path = stored(tmp_path / "a.parquet", metadata, **values)
    tables = read_tables(
        spec_of({"text": ["meta"]}, {"data": {"dataset": SOURCE}, "text": ["other"]}), {TARGET: path, SOURCE: path}
    )
    assert {name: (column.names, column.nested) for name, column in tables[TARGET].items()} == {
        "label": (("neg", "pos"), False),
        "meta": (None, True),
        "split": (None, False),  # which no field names, but which says what the model may have seen
    }
    assert {name: list(column.values) for name, column in tables[SOURCE].items()} == {
        "label": [0, 1],
        "other": [1.5, 2.5],
    }


@pytest.mark.parametrize("several", [False, True])
def test_names_of_classes_are_those_of_the_networks_outputs(tiny: Path, tmp_path: Path, several: bool) -> None:
    names = {"label": {NAMES: json.dumps(["O", "B-PER", "I-PER"]).encode()}}
    words = [["good", "", f"w{i}"] for i in range(30)]
    numbers: list[Any] = [[1, 0, 2]] * 30 if not several else [[i % 3, (i + 1) % 3] for i in range(30)]
    path = stored(tmp_path / "a.parquet", names, text=words, label=numbers)
    task = {"problem_type": "multi_label_classification"} if several else {"type": "token-classification"}
    inputs, network = read_inputs(spec_of(task), tiny, {TARGET: path})
    assert inputs.task.labels == tuple(inputs.splits.labels) == ("B-PER", "I-PER", "O")
    assert network.assembled().config.id2label == {0: "B-PER", 1: "I-PER", 2: "O"}
    assert (inputs.splits.dropped["words of the test rows that the model does not read"] > 0) != several


@pytest.mark.parametrize("others", [0, 1, 6])
def test_texts_that_the_tokenizer_does_not_know_are_warned_of(tiny: Path, tmp_path: Path, others: int) -> None:
    texts = [f"good w{i} " + " ".join(f"нечто{i}{j}" for j in range(others)) for i in range(30)]
    path = stored(tmp_path / "a.parquet", {}, text=texts, label=["a", "b"] * 15)
    inputs, _ = read_inputs(spec_of({}), tiny, {TARGET: path})
    share = others / (others + 2)
    found = [said for said in inputs.splits.warnings if "unknown to the model" in said]
    assert found == ([] if not others else [found[0]])
    assert not others or found[0].startswith(f"{share:.0%}")


@pytest.mark.parametrize("task", [{}, {"text": ["text", "other"]}, {"type": "sentence-similarity"}])
@pytest.mark.parametrize("between", [True, False])
def test_texts_that_nothing_is_put_between_are_warned_of(
    tiny: Path, tmp_path: Path, between: bool, task: dict[str, Any]
) -> None:
    """As by the tokenizer of Qwen2."""
    model = Path(shutil.copytree(tiny, tmp_path / "own"))
    for name, said in (("tokenizer.json", {"post_processor": None}), ("tokenizer_config.json", {})):
        values = json.loads((model / name).read_text()) | ({} if between else said)
        values |= {"tokenizer_class": "PreTrainedTokenizerFast"} if name == "tokenizer_config.json" else {}
        (model / name).write_text(json.dumps(values))
    texts = [f"good w{i}" for i in range(30)]
    path = stored(tmp_path / "a.parquet", {}, text=texts, other=texts[::-1], label=["a", "b"] * 15)
    pairs = {"text": ["text", "other"]} if "type" in task else {}
    inputs, _ = read_inputs(spec_of(task | pairs), model, {TARGET: path})
    found = [said for said in inputs.splits.warnings if "puts nothing between two texts" in said]
    assert len(found) == (not between and task == {"text": ["text", "other"]})
    assert not found or "end those of 'text' with a separator" in found[0]


def test_words_are_heard_as_given_before_the_vocabulary_is_trimmed(tiny: Path, tmp_path: Path) -> None:
    """Else the words that only test rows hold had fallen to pieces."""
    model = Path(shutil.copytree(tiny, tmp_path / "own"))
    load_network(tiny, ["B-GOOD", "O"], seed=5, problem="token_classification").assembled().save_pretrained(model)
    files = {}
    for name, words in ((TARGET, ["good", "w1", "w2"]), (SOURCE, ["great", "w30", "w31"])):
        texts = [[words[(i + j) % 3] for j in range(3 + i % 5)] + [f"w{3 + i}"] * (name == TARGET) for i in range(20)]
        tags = [["B-GOOD" if word in ("good", "great") else "O" for word in text] for text in texts]
        files[name] = stored(tmp_path / name, {}, text=[*map(json.dumps, texts)], label=[*map(json.dumps, tags)])
    data = {"train": {"dataset": TARGET}, "test": {"dataset": SOURCE}}
    task = {"type": "token-classification", "data": data, "split": {"dev": 5}, "metric": "token_accuracy"}
    found = []
    for vocabulary in ("keep", "trim"):
        spec = spec_of(task).model_copy(update={"vocabulary": vocabulary})
        inputs, _ = read_inputs(spec, model, files)
        assert inputs.given is not None and inputs.given.tags is not None
        found.append(inputs.given.logits)
    assert torch.equal(*found) and inputs.vocabulary and inputs.vocabulary.missing > 0.1
