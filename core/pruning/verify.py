"""In a fresh process: load a finished checkpoint every way it offers and see that it gives the measured numbers.

    python -m core.pruning.verify CHECKPOINT

Prints an empty line for each batch, then one of JSON: the metrics anew, and how far the ways of loading, and the
measured logits, are from each other (of numbers in standard deviations of the training labels). Only what ships in the
checkpoint is used to load it; where no code does (a regular layout, a budget in zeros), none is trusted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from core.lifeline import die_with_parent
from core.spec.config import CODE, named

BATCH = 64
ONNX_TOLERANCE = 1e-4  # between logits of torch and of ONNX Runtime
TOLERANCE = 1e-3  # between logits, of float32 arithmetic on other batches or another device


def main(checkpoint: Path) -> dict[str, Any]:
    """The test rows through from_pretrained, load.py and model.onnx (if any), beside the logits in test.jsonl."""
    sys.dont_write_bytecode = True  # or the checkpoint would hold __pycache__ of its own code
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_MODULES_CACHE"] = cache
        import torch
        import transformers

        from core.pruning.batches import encode, stack
        from core.pruning.network import read_architecture
        from core.pruning.problem import IGNORED, problem_of
        from core.spec.job import JobSpec

        require_own_code(checkpoint)
        manifest = json.loads((checkpoint / "manifest.json").read_text())
        kind = JobSpec.model_validate(manifest["spec"]).task.problem
        auto_class = getattr(transformers, read_architecture(checkpoint, kind).family.auto_class)
        coded = (checkpoint / "load.py").exists()
        model = auto_class.from_pretrained(checkpoint, trust_remote_code=coded).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        other = None
        if coded:
            loader = importlib.util.spec_from_file_location("load", checkpoint / "load.py")
            assert loader is not None and loader.loader is not None
            module = importlib.util.module_from_spec(loader)
            loader.loader.exec_module(module)
            other, tokenizer = module.load(checkpoint)
        problem = problem_of(kind, [model.config.id2label[i] for i in range(model.config.num_labels)])
        with (checkpoint / "test.jsonl").open(encoding="utf-8") as lines:  # str.splitlines knows other ends, too
            rows = [json.loads(line) for line in lines]
        exported = checkpoint / "model.onnx"
        runtime = None
        if exported.exists():
            from onnxruntime import InferenceSession

            runtime = InferenceSession(exported, providers=["CPUExecutionProvider"])
        changed, to_measured, to_other, to_onnx = 0, 0.0, 0.0, 0.0
        every: list[tuple[Any, Any]] = []
        with torch.inference_mode():
            rows.sort(key=lambda row: len("".join(row["text"])))
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                texts = [row["text"] for row in part]
                batch = encode(texts, problem, tokenizer, manifest["max_length"], padding=True, return_tensors="pt")
                labels = problem.truth([row["label"] for row in part], batch)
                logits = model(**batch).logits
                asked = problem.asked(logits, labels)
                measured = torch.tensor([values for row in part for values in _answers(row)]).reshape(asked.shape)
                to_measured = max(to_measured, _apart(asked, measured))
                if other:
                    to_other = max(to_other, _apart(logits, other(**batch).logits))
                if runtime:
                    columns = {one.name: batch[one.name].numpy() for one in runtime.get_inputs()}
                    (said,) = runtime.run(["logits"], columns)
                    to_onnx = max(to_onnx, _apart(asked, problem.asked(torch.from_numpy(said), labels)))
                told = zip(problem.said(logits, labels), map(_predicted, part), strict=True)
                changed += sum(one != before for one, before in told if not isinstance(one, float))
                every.append((logits, labels))
                print(flush=True)  # a sign of life
            all_logits, all_labels = stack([one for one, _ in every], 0), stack([one for _, one in every], IGNORED)
            scale = manifest["scale"]
    return {
        "rows": len(rows),
        "test": problem.quality(all_logits, all_labels),
        "changed_predictions": changed,  # ties within the tolerance, if any
        "max_difference_to_measured": to_measured / scale,
        "max_difference_between_loaders": to_other / scale if other else None,
        "max_difference_onnx": to_onnx / scale if runtime else None,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def require_own_code(checkpoint: Path) -> None:
    """Raises RuntimeError where a file names code to run that is no file of the checkpoint: then it is not ours."""
    for file in sorted(checkpoint.glob("*config.json")):
        for name, value in named(json.loads(file.read_bytes())):
            if name not in CODE:
                continue
            classes = value.values() if file.name == "config.json" and isinstance(value, dict) else [None]
            if not all(one and (checkpoint / f"{str(one).rpartition('.')[0]}.py").is_file() for one in classes):
                raise RuntimeError(f"{file.name} names code that is not ours: {name}")


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
    print(json.dumps(main(Path(sys.argv[1]))))
