"""In a process of its own: load downloaded checkpoints by their own load.py, and measure them.

    python -m cli.measure CHECKPOINT...

Only what lies in the checkpoints is used, besides torch and transformers. Prints one JSON object: by checkpoint,
accuracy on its test rows, parameters and latency; and the latency of a dense model of the same configuration.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from runpy import run_path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from cli.busy import scheduled, waited

BATCH = 64
SEQUENCE_LENGTH = 128
REPEATS = {1: 40, 32: 8}  # by batch size, after WARM_UP
WARM_UP = 2


def main(checkpoints: list[Path]) -> dict[str, Any]:
    """See the module."""
    for folder in checkpoints:
        if not (folder / "load.py").is_file():
            raise SystemExit(
                f"{folder}: holds no load.py; only checkpoints that bring code of their own are measured here"
            )
        if json.loads((folder / "config.json").read_bytes()).get("problem_type") != "single_label_classification":
            raise SystemExit(f"{folder}: is not for one class a text; only the accuracy of such is measured here")
    loaded = {str(folder): load(folder) for folder in checkpoints}
    result: dict[str, Any] = {
        name: {
            "accuracy": accuracy(Path(name), model, tokenizer),
            "model_params": sum(p.numel() for p in model.parameters()),
        }
        for name, (model, tokenizer) in loaded.items()
    }
    models = {"dense": dense(checkpoints[0])} | {name: model for name, (model, _) in loaded.items()}
    before = scheduled()
    for name, found in latencies_ms(models).items():
        result.setdefault(name, {})["latency_ms"] = found
    result["dense"]["waited"] = waited(before, scheduled())
    return result


def load(folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, through the load.py that ships in the checkpoint."""
    model, tokenizer = run_path(str(folder / "load.py"))["load"]()
    return model, tokenizer


def dense(folder: Path) -> Any:
    """An unpruned model of the checkpoint's configuration: its speed does not depend on its weights."""
    values = json.loads((folder / "config.json").read_bytes())
    family = values.pop("model_type").removeprefix("topwork-")
    plain = {name: value for name, value in values.items() if name not in ("auto_map", "architectures", "topwork")}
    build: Any = AutoModelForSequenceClassification.from_config
    return build(AutoConfig.for_model(family, **plain)).eval()


@torch.inference_mode()
def accuracy(folder: Path, model: Any, tokenizer: Any) -> float:
    """Share of the rows of test.jsonl that the model gets right."""
    with (folder / "test.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    max_length = json.loads((folder / "manifest.json").read_bytes())["max_length"]
    rows.sort(key=lambda row: len("".join(row["text"])))  # little padding
    right = 0
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        texts = [list(column) for column in zip(*(row["text"] for row in part), strict=True)]
        batch = tokenizer(*texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        best = model(**batch).logits.argmax(1).tolist()
        right += sum(model.config.id2label[i] == row["label"] for i, row in zip(best, part, strict=True))
    return right / len(rows)


def latencies_ms(models: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Milliseconds of one pass by batch size, in eager PyTorch."""

    def run(model: Any, batch_size: int) -> Callable[[], object]:
        ids = torch.randint(0, model.config.vocab_size, (batch_size, SEQUENCE_LENGTH))
        mask = torch.ones_like(ids)
        return lambda: model(input_ids=ids, attention_mask=mask)

    with torch.inference_mode():
        return in_turn({name: partial(run, model) for name, model in models.items()})


def in_turn(ready: Mapping[str, Callable[[int], Callable[[], object]]]) -> dict[str, dict[str, float]]:
    """Milliseconds of a pass by batch size, the lower quartile as in reports, of what a clock shows; each of `ready`
    gives a call for a size. They take turns: a noisy moment hits all alike.
    """
    result: dict[str, dict[str, float]] = {name: {} for name in ready}
    for batch_size, repeats in REPEATS.items():
        runs = {name: make(batch_size) for name, make in ready.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for i in range(WARM_UP + repeats):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if i >= WARM_UP:
                    times[name].append(time.perf_counter() - start)
        for name, values in times.items():
            result[name][str(batch_size)] = round(1000 * float(torch.tensor(values).quantile(0.25)), 3)
    return result


if __name__ == "__main__":
    if not sys.argv[1:]:
        raise SystemExit("give the folders of one or more checkpoints: python -m cli.measure CHECKPOINT...")
    print(json.dumps(main([Path(argument) for argument in sys.argv[1:]])))
