"""A tiny BERT with random weights and a small vocabulary, and synthetic rows that it can learn in seconds."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.domains.model_ref import ModelRef
from core.spec.job import JobSpec
from core.spec.messages import Listener
from core.spec.report import Report

if TYPE_CHECKING:  # what imports torch is imported by the functions that need it
    from core.pruning.training.coupling import Stream, TaskRows

TARGET, SOURCE = "ds_" + "1" * 32, "ds_" + "2" * 32  # data sets
GOOD, BAD = ("good", "great", "nice"), ("bad", "awful", "poor")
CONFIG: dict[str, Any] = {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
CONFIG |= {"intermediate_size": 128}  # as much of a config.json as Topwork itself reads
FILLER = tuple(f"w{i}" for i in range(50))


def save_tiny_model(
    folder: Path,
    *,
    layers: int = 3,
    hidden: int = 64,
    heads: int = 4,
    neurons: int = 128,
    positions: int = 128,
    types: int = 2,
) -> Path:
    """Write config.json, model.safetensors and tokenizer files; returns `folder`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLER]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=neurons,
        max_position_embeddings=positions,
        type_vocab_size=types,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def rows(count: int, seed: int = 0) -> dict[str, list[str | None]]:
    """Columns text and label (neg, pos in turn): the label follows from one word of seven."""
    rng = random.Random(seed)
    table: dict[str, list[str | None]] = {"text": [], "label": []}
    for i in range(count):
        words = [*rng.choices(FILLER, k=6), rng.choice(GOOD if i % 2 else BAD)]
        rng.shuffle(words)
        table["text"].append(" ".join(words))
        table["label"].append("pos" if i % 2 else "neg")
    return table


def save_table(path: Path, table: Mapping[str, Sequence[Any]]) -> Path:
    """As a stored data set; returns `path`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(table)), path)
    return path


def spec_of(**changes: Any) -> JobSpec:
    """A job that takes a second or two."""
    body: dict[str, Any] = {
        "model": "tiny",
        "task": {"data": {"dataset": TARGET}, "split": {"train": 40, "dev": 40}},
        "budget": {"params": 0.5},
        "train": {"steps": {"teach": 4, "recover": 4}},
    }
    return JobSpec.model_validate(body | changes)


def done(
    spec: JobSpec, model: Path, tables: Mapping[str, Path], workdir: Path, listener: Listener = lambda _message: None
) -> Report:
    """The report of the whole job, whose checkpoint is then in `workdir/output`."""
    from core.pruning.job.run import run

    used = {name: tables[name] for name in set(spec.dataset_ids().values())}
    report = run(spec, ModelRef(model, spec.model), used, workdir, listener)
    assert isinstance(report, Report)
    return report


def task_rows(model: Path, count: int, seed: int, head: str = "target", classes: int = 2) -> TaskRows:
    """The rows above as a task; without classes, their text alone."""
    from core.pruning.reading.tokenizer import load_tokenizer
    from core.pruning.training.batches import encode
    from core.pruning.training.coupling import TaskRows
    from core.rows.example import Example
    from core.rows.text.processor import Text
    from core.tasks.classes import SingleLabel

    table = rows(count, seed)
    examples = [Example((str(text),), label) for text, label in zip(table["text"], table["label"], strict=True)]
    problem = SingleLabel(("neg", "pos") if classes else ())
    return TaskRows(encode(examples, problem, Text(load_tokenizer(model), 32)), head, classes)


def stream(model: Path, count: int, seed: int) -> Stream:
    """The rows above as the target's."""
    from core.pruning.training.coupling import Stream

    return Stream(task_rows(model, count, seed).rows, 16, "target", 1.0, 0.0)


def run_apart(script: str, folder: Path) -> None:
    """Run Python in a process of its own, in `folder`, with what is installed and nothing of ours on its path."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"HF_MODULES_CACHE": str(folder / ".modules"), "HF_HUB_OFFLINE": "1", "HOME": str(folder)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
