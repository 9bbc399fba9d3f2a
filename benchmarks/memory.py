"""Peak memory of a whole job, as a ratio to plain fine-tuning of the dense model with a teacher beside it.

    python -m benchmarks.memory MODEL_DIR

Each arm is a process of its own that reports its peak (resident set, and the GPU's where there is one). Plain: every
weight trained by AdamW in the precision of a job, the teacher asked in each step (float32), batches as the job draws
them. Writes benchmarks/results/memory.{json,md}.
"""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from core.domains.model_ref import ModelRef
from core.domains.network import TARGET
from core.domains.transformer.load import load_network
from core.pruning.export.files import environment
from core.pruning.job.publish import peak_memory_bytes
from core.pruning.job.run import run
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.batches import draw, encode
from core.pruning.training.coupling import Stream
from core.pruning.training.losses import batch_loss
from core.pruning.training.predict import predict
from core.pruning.training.train import optimizer_for
from core.rows.example import Example
from core.rows.text.processor import Text
from core.spec.job import JobSpec
from core.tasks import task_of

RESULTS = Path(__file__).parent / "results"
STEPS, BATCH, ROWS, TEXT = 30, 32, 600, 2000
TARGET_ID, SOURCE_ID = "ds_" + "1" * 32, "ds_" + "2" * 32
EVERY_STAGE = {"steps": {"teach": STEPS, "prune": STEPS, "recover": STEPS}}
PLAIN = "plain fine-tuning with a live teacher"
JOBS: Mapping[str, Mapping[str, Any]] = {  # what the body of the job says besides
    "job, `fisher`, text through the teacher": {},
    "the same, `l0`": {"method": {"name": "l0"}, "train": EVERY_STAGE},
    "the same, `pdp`": {"method": {"name": "pdp"}, "train": EVERY_STAGE},
    "the same, `fisher`, hidden dimensions cut, too": {"hidden_size": "trim"},
}


def texts(model: Path, count: int, seed: int) -> list[str]:
    """Random words of the vocabulary, 8 to 56 of them."""
    words = sorted(word for word in load_tokenizer(model).get_vocab() if word.isalpha() and word.isascii())
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=rng.randint(8, 56))) for _ in range(count)]


def plain(model: Path) -> None:
    """Fine-tune."""
    problem = task_of("single_label_classification", ["a", "b"])
    said = [Example((text,), "ab"[i % 2]) for i, text in enumerate(texts(model, ROWS, 0))]
    rows = encode(said, problem, Text(load_tokenizer(model), 128))
    student = load_network(model, ["a", "b"], seed=0)
    teacher = copy.deepcopy(student)
    student.requires_grad_(True).train()
    optimizer = optimizer_for(student, 1e-4)
    for (index,) in draw([(rows, BATCH)], STEPS, 0):
        batch = rows.take(index)
        batch = replace(batch, logits=predict(teacher, batch))
        stream = Stream(batch, BATCH, TARGET, 1.0, 1.0)
        optimizer.zero_grad(set_to_none=True)
        batch_loss(student, [stream], [list(range(len(index)))]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def job(model: Path, change: Mapping[str, Any]) -> None:
    """All stages of a job, and the check of its files."""
    with tempfile.TemporaryDirectory() as scratch:
        tables = {}
        for number, (name, count) in enumerate({TARGET_ID: ROWS, SOURCE_ID: TEXT}.items()):
            tables[name] = Path(scratch) / f"{name}.parquet"
            said = texts(model, count, number)
            pq.write_table(pa.table({"text": said, "label": ["ab"[i % 2] for i in range(count)]}), tables[name])
        body = {
            "model": model.name,
            "task": {"data": {"dataset": TARGET_ID}, "split": {"train": 300, "dev": 100}},
            "sources": [{"data": {"dataset": SOURCE_ID}}],
            "budget": {"params": 0.1},
            "transfer": {"coupling": "teacher"},
            "train": {"steps": {"teach": STEPS, "recover": STEPS}},
        }
        spec = JobSpec.model_validate({**body, **change})
        run(spec, ModelRef(model, model.name), tables, Path(scratch) / "work", lambda _said: None)


def peak(model: Path, arm: str) -> dict[str, int | None]:
    """Of a process that runs this arm alone."""
    command = [sys.executable, "-m", "benchmarks.memory", str(model), arm]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, int | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(model: Path) -> None:
    """Measure, print and write."""
    peaks = {arm: peak(model, arm) for arm in (PLAIN, *JOBS)}
    write({"model": model.name, "batch": BATCH, "environment": environment().model_dump(), "peak_bytes": peaks})


def write(facts: Mapping[str, Any]) -> None:
    """JSON, and the same as Markdown."""
    peaks = facts["peak_bytes"]
    device = "gpu" if peaks[PLAIN]["gpu"] else "process"
    lines = [
        "# Peak memory of a job",
        "",
        f"On {facts['model']}, batch {facts['batch']}, texts of 8 to 56 words, on {facts['environment']['device']}: "
        "each arm in a process of",
        "its own, once; the whole job, measuring and export counted (`python -m benchmarks.memory`).",
        "",
        "| process | peak MiB | ratio |",
        "|---|---|---|",
        *(
            f"| {arm} | {found[device] / 2**20:,.0f} | {found[device] / peaks[PLAIN][device]:.2f} |"
            for arm, found in peaks.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "memory.json").write_text(json.dumps(facts, indent=2) + "\n")
    (RESULTS / "memory.md").write_text(text)
    print(text)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if arm := "".join(sys.argv[2:]):
        job(Path(sys.argv[1]), JOBS[arm]) if arm in JOBS else plain(Path(sys.argv[1]))
        print(peak_memory_bytes().model_dump_json())
    else:
        main(Path(sys.argv[1]))
