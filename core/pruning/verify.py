"""In a fresh process: load a finished checkpoint every way it offers and see that it gives the measured numbers.

    python -m core.pruning.verify CHECKPOINT

Prints one line of JSON: how far the ways of loading, and the measured logits, are from each other. Only what ships in
the checkpoint is used to load it; where no code does (a regular layout), none is trusted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

BATCH = 64
ONNX_TOLERANCE = 1e-4  # between logits of torch and of ONNX Runtime
TOLERANCE = 1e-3  # between logits, of float32 arithmetic on other batches or another device


def main(checkpoint: Path) -> dict[str, Any]:
    """The test rows through from_pretrained, load.py and model.onnx (if any), beside the logits in test.jsonl."""
    sys.dont_write_bytecode = True  # or the checkpoint would hold __pycache__ of its own code
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HF_MODULES_CACHE"] = cache
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        coded = (checkpoint / "load.py").exists()
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, trust_remote_code=coded).eval()
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        other = None
        if coded:
            spec = importlib.util.spec_from_file_location("load", checkpoint / "load.py")
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            other, tokenizer = module.load(checkpoint)
        rows = [json.loads(line) for line in (checkpoint / "test.jsonl").read_text(encoding="utf-8").splitlines()]
        max_length = json.loads((checkpoint / "manifest.json").read_text())["max_length"]
        exported = checkpoint / "model.onnx"
        runtime = None
        if exported.exists():
            from onnxruntime import InferenceSession

            runtime = InferenceSession(exported, providers=["CPUExecutionProvider"])
        changed, right, to_measured, to_other, to_onnx = 0, 0, 0.0, 0.0, 0.0
        with torch.inference_mode():
            rows.sort(key=lambda row: len("".join(row["text"])))
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                texts = list(zip(*(row["text"] for row in part), strict=True))
                batch = tokenizer(
                    *map(list, texts), padding=True, truncation=True, max_length=max_length, return_tensors="pt"
                )
                logits = model(**batch).logits
                measured = torch.tensor([row["logits"] for row in part])
                to_measured = max(to_measured, float((logits - measured).abs().max()))
                if other:
                    to_other = max(to_other, float((logits - other(**batch).logits).abs().max()))
                if runtime:
                    columns = {one.name: batch[one.name].numpy() for one in runtime.get_inputs()}
                    (said,) = runtime.run(["logits"], columns)
                    to_onnx = max(to_onnx, float((logits - torch.from_numpy(said)).abs().max()))
                names = [model.config.id2label[i] for i in logits.argmax(1).tolist()]
                changed += sum(name != row["predicted"] for name, row in zip(names, part, strict=True))
                right += sum(name == row["label"] for name, row in zip(names, part, strict=True))
    return {
        "rows": len(rows),
        "accuracy": right / len(rows),
        "changed_predictions": changed,  # ties within the tolerance, if any
        "max_difference_to_measured": to_measured,
        "max_difference_between_loaders": to_other if other else None,
        "max_difference_onnx": to_onnx if runtime else None,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
