"""In a fresh process: load a finished checkpoint every way it offers and see that it gives the measured numbers.

    python -m core.pruning.export.verify CHECKPOINT [PICTURES]

Prints an empty line for each batch, then one of JSON: the metrics anew, and how far the ways of loading, and the
measured logits, are from each other (of numbers in standard deviations of the training labels); and of each file of
ONNX Runtime its own quality. Only what ships in the checkpoint is used to load it; where no code does (a regular
layout, a budget in zeros), none is trusted. Code of anybody else's, or a name of it, is a RuntimeError before anything
is loaded. PICTURES: Parquet, the bytes of the test pictures, where rows are of these.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path
from typing import Any

from core.die_with_parent import die_with_parent
from core.domains.channels.families import AUTO_CLASS
from core.domains.config import OWN_WAYS
from core.spec.report import FileQuality, Seen, Verified
from core.spec.task import ProblemType

BATCH = 64
EXACT = "model.onnx"  # of the files of ONNX, the one that answers as torch does
ONNX_TOLERANCE = 1e-4  # between logits of torch and of ONNX Runtime, in parts of the largest where that is above 1
TOLERANCE = 1e-3  # between logits, of float32 arithmetic on other batches or another device
VECTORS_FILE = "test_vectors.npz"  # answers, and labels where they are vectors, too, of the rows in test.jsonl
OURS = ("manifest.json", "report.json", "structure.json")  # no library reads them; labels and columns are keys there
NAMES_CODE = re.compile("auto_map(ping)?|custom_(pipelines|generate)|use_kernels|.*_implementation(_internal)?")


def main(checkpoint: Path, pictures: Path | None = None) -> Seen:
    """The test rows through from_pretrained, load.py and files of ONNX (if any), beside the logits in test.jsonl."""
    sys.dont_write_bytecode = True  # or the checkpoint would hold __pycache__ of its own code
    if foreign := foreign_code(checkpoint):
        raise RuntimeError(f"the checkpoint brings code that Topwork did not write: {', '.join(foreign)}")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_MODULES_CACHE"] = cache
        import torch

        from core.rows.text.processor import stack
        from core.spec.job import JobSpec
        from core.tasks import task_of
        from core.tasks.task import IGNORED

        manifest = json.loads((checkpoint / "manifest.json").read_text())
        asked_for = JobSpec.model_validate(manifest["spec"]).task
        found = load(checkpoint, asked_for.problem, asked_for.image is not None)
        task = task_of(asked_for.problem, found.labels, texts=len(asked_for.text))
        rows = stored_rows(checkpoint)
        batch_of = (
            from_texts(found, manifest["max_length"], task) if pictures is None else from_pictures(found, pictures)
        )
        changed, to_measured, to_other, to_onnx = 0, 0.0, 0.0, 0.0
        every: list[tuple[Any, Any]] = []
        of_files: dict[str, list[Any]] = {name: [] for name in found.runtimes}
        with torch.inference_mode():
            rows.sort(key=lambda row: len("".join(row.get("text", ()))))
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                batch = batch_of(part)
                labels = task.truth([row["label"] for row in part], batch)
                logits = task.shaped(found.model(**batch).logits)
                asked = task.asked(logits, labels)
                measured = torch.tensor([values for row in part for values in _answers(row)]).reshape(asked.shape)
                to_measured = max(to_measured, _apart(asked, measured))
                if found.other:
                    said = found.other(**batch)
                    to_other = max(to_other, _apart(logits, task.shaped(getattr(said, "logits", said))))
                for name, runtime in found.runtimes.items():
                    columns = {one.name: batch[one.name].numpy() for one in runtime.get_inputs()}
                    (answers,) = runtime.run(None, columns)
                    of_files[name].append(task.shaped(torch.from_numpy(answers)))
                    said = task.asked(of_files[name][-1], labels)
                    if not said.isfinite().all():
                        raise RuntimeError(f"{name} answers what is no number")
                    if name == EXACT:
                        largest = float(asked.abs().max()) if asked.numel() else 0.0
                        to_onnx = max(to_onnx, _apart(asked, said) / max(manifest["scale"], largest))
                told = zip(task.said(logits, labels), map(_predicted, part), strict=True)
                changed += sum(one != before for one, before in told if not isinstance(one, float))
                every.append((logits, labels))
                print(flush=True)  # a sign of life
            all_logits, all_labels = stack([one for one, _ in every], 0), stack([one for _, one in every], IGNORED)
        in_order = torch.tensor([row["place"] for row in rows], dtype=torch.long).argsort()
        files = {}
        for name, parts in of_files.items():
            own, exact, truth = (one[in_order] for one in (stack(parts, 0), all_logits, all_labels))
            files[name] = FileQuality(test=task.intervals(own, truth), change=task.apart(own, exact, truth))
    scale = manifest["scale"]
    verified = Verified(
        rows=len(rows),
        test=task.quality(all_logits, all_labels),
        changed_predictions=changed,  # ties within the tolerance, if any
        max_difference_to_measured=to_measured / scale,
        max_difference_between_loaders=to_other / scale if found.other else None,
        max_difference_onnx=to_onnx if EXACT in found.runtimes else None,
        parameters=sum(p.numel() for p in found.model.parameters()),
    )
    return Seen(verified=verified, files=files)


def from_texts(found: Found, max_length: int, task: Any) -> Callable[[list[dict[str, Any]]], Any]:
    """Rows -> what the checkpoint's own tokenizer makes of them."""
    from core.rows.text.processor import Text

    modality = Text(found.processor, max_length, task.of_words, task.apart_texts)

    def batch_of(rows: list[dict[str, Any]]) -> Any:
        texts = [row["text"] for row in rows]
        if task.apart_texts:
            texts = [[text] for row in texts for text in row]
        return modality.tokens(texts, padding=True, return_tensors="pt")

    return batch_of


def from_pictures(found: Found, file: Path) -> Callable[[list[dict[str, Any]]], Any]:
    """Rows -> what the checkpoint's own preprocessor makes of their pictures."""
    import pyarrow.parquet as pq

    from core.rows.image.decode import rgb

    content = pq.read_table(file)["bytes"]

    def batch_of(rows: list[dict[str, Any]]) -> Any:
        return found.processor([rgb(content[row["place"]].as_py()) for row in rows], return_tensors="pt")

    return batch_of


@dataclass(frozen=True)
class Found:
    """A checkpoint, loaded every way that it offers."""

    model: Any
    processor: Any  # a tokenizer, or what makes pixels of pictures
    other: Any  # by load.py, if it has one
    runtimes: Mapping[str, Any]  # sessions of ONNX Runtime, by file

    @property
    def labels(self) -> list[str]:
        """What its outputs stand for."""
        config = self.model.config
        return [config.id2label[i] for i in range(config.num_labels)]


def load(checkpoint: Path, problem: ProblemType, images: bool) -> Found:
    """Load a checkpoint by what its task's models are loaded with. Its own code is run where it has some."""
    import torch
    import transformers

    from core.domains.transformer.embedder import load_embedder
    from core.domains.transformer.pooling import read_recipe
    from core.rows.image.preprocessor import opened
    from core.tasks import TASKS

    coded = any(checkpoint.glob("modeling_topwork_*.py"))
    if TASKS[problem].apart_texts:
        model: Any = load_embedder(checkpoint, read_recipe(checkpoint), coded)
    else:
        auto_class = getattr(transformers, AUTO_CLASS if images else TASKS[problem].auto_class)
        model = auto_class.from_pretrained(checkpoint, trust_remote_code=coded, dtype=torch.float32).eval()
    if images:
        processor: Any = opened(checkpoint)
    else:
        processor = transformers.AutoTokenizer.from_pretrained(checkpoint, trust_remote_code=coded)
    other = None
    if (checkpoint / "load.py").exists():
        other, processor = run_path(str(checkpoint / "load.py"))["load"]()
    return Found(model, processor, other, sessions(checkpoint))


def sessions(checkpoint: Path) -> dict[str, Any]:
    """What runs each file of ONNX, by its name."""
    if not (files := sorted(checkpoint.glob("*.onnx"))):
        return {}
    from onnxruntime import InferenceSession

    return {file.name: InferenceSession(file, providers=["CPUExecutionProvider"]) for file in files}


def stored_rows(checkpoint: Path) -> list[dict[str, Any]]:
    """The test rows with labels and measured answers."""
    with (checkpoint / "test.jsonl").open(encoding="utf-8") as lines:  # str.splitlines knows other ends, too
        rows = [json.loads(line) | {"place": place} for place, line in enumerate(lines)]
    if (vectors := checkpoint / VECTORS_FILE).exists():
        import numpy as np

        for name, values in np.load(vectors).items():
            for row, value in zip(rows, values, strict=True):
                row[name] = value.tolist()
    return rows


def foreign_code(checkpoint: Path) -> list[str]:
    """What in the checkpoint is Python, or names some in JSON, other than `load.py` and our one modeling file."""
    python = {path.name: path for path in checkpoint.rglob("*.py") if path.name != "load.py"}
    own = next((name for name, path in python.items() if name == modeling_file(path.read_bytes())), "")
    found = sorted({*python} - {own})
    for path in sorted(checkpoint.rglob("*.json")):
        settings = {} if path.name in OURS else json.loads(path.read_text(encoding="utf-8"))
        for name, value in _settings(settings):
            if (
                not NAMES_CODE.fullmatch(name) or value in (*OWN_WAYS, None, False) or type(value) is int
            ):  # a label's number
                continue
            named = list(value.values()) if isinstance(value, dict) else [value]
            ours = {str(one).partition(".")[0] + ".py" for one in named} == {own}
            if (path.name, name) != ("config.json", "auto_map") or not ours:
                found.append(f"{name} in {path.name}: {named}")
    return found


def modeling_file(code: bytes) -> str:
    """What the checkpoint's modeling file is called: by its content, so that no two in one process share a name."""
    return f"modeling_topwork_{hashlib.sha256(code).hexdigest()[:16]}.py"


def _settings(value: Any) -> Iterator[tuple[str, Any]]:
    """Each name in JSON, however deep, with its value."""
    if isinstance(value, dict):
        yield from value.items()
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _settings(inner)


def _apart(one: Any, other: Any) -> float:
    return float((one - other).abs().max()) if one.numel() else 0.0


def _predicted(row: dict[str, Any]) -> Any:
    """What was said of the row; of words, those that were read."""
    said = row["predicted"]
    return [tag for tag in said if tag is not None] if isinstance(said, list) else said


def _answers(row: dict[str, Any]) -> list[list[float]]:
    """The measured logits of a row, one list for each answer."""
    logits: list[Any] = row["logits"]
    return logits if not logits or isinstance(logits[0], list) else [logits]


if __name__ == "__main__":
    die_with_parent()
    print(main(*map(Path, sys.argv[1:3])).model_dump_json())
