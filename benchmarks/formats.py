"""Does what is downloaded load where nothing of ours is installed?

    python -m benchmarks.formats [MODEL_FOLDER]

Prunes a real model in four short jobs (free and regular layout, with fewer tokens and hidden dimensions, zeros), makes
a virtual environment with torch, transformers and ONNX Runtime alone, loads every checkpoint there in every way that it
offers, and compares its answers to the test rows with what the job measured. Writes benchmarks/results/formats.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.transfer.data import prepare
from core.pruning.run import ModelRef, run
from core.spec.job import JobSpec

PACKAGES = ("torch", "transformers", "onnxruntime")
ROOT = Path(__file__).parents[1]
DATASET = "ds_" + "1" * 32
JOBS: dict[str, dict[str, Any]] = {
    "free": {"budget": {"params": 0.1}, "export": {"formats": ["onnx"]}},
    "fewer tokens and hidden dimensions": {
        "budget": {"bytes": 0.1},
        "vocabulary": "trim",
        "hidden_size": "trim",
        "export": {"formats": ["onnx"]},
    },
    "regular": {"budget": {"params": 0.2}, "export": {"formats": ["onnx"], "layout": "regular"}},
    "zeros": {"budget": {"sparsity": 0.9}, "method": {"name": "magnitude"}, "export": {"formats": ["onnx"]}},
}

# Run in the other environment, on one checkpoint.
OUTSIDE = """
import importlib.util, json, sys
from pathlib import Path
import onnxruntime, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

assert not any(importlib.util.find_spec(name) for name in ("core", "api", "worker", "cli"))
folder = Path(sys.argv[1])
rows = [json.loads(line) for line in (folder / "test.jsonl").open(encoding="utf-8")]
measured = torch.tensor([row["logits"] for row in rows])
tokenizer = AutoTokenizer.from_pretrained(folder)
length = json.loads((folder / "manifest.json").read_text())["max_length"]
texts = [row["text"][0] for row in rows]
batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")

def torchs(model):
    with torch.inference_mode():
        return model.eval()(**batch).logits

def onnx():
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    inputs = {one.name: batch[one.name].numpy() for one in session.get_inputs()}
    return torch.from_numpy(session.run(["logits"], inputs)[0])

coded = (folder / "load.py").exists()
name = "from_pretrained" + ", remote code" * coded
ways = {name: lambda: torchs(AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=coded))}
if coded:
    sys.path.insert(0, str(folder))
    ways["load.py"] = lambda: torchs(__import__("load").load()[0])
ways["model.onnx"] = onnx
said = {way: answer() for way, answer in ways.items()}
apart = {way: float((logits - measured).abs().max()) for way, logits in said.items()}
changed = {way: int((logits.argmax(-1) != measured.argmax(-1)).sum()) for way, logits in said.items()}
print(json.dumps({"rows": len(rows), "apart": apart, "changed": changed}))
"""


def main(model: Path) -> int:
    """Exit code: 0 if every way gives the measured answers within 1e-3."""
    lines, worst = [], 0.0
    with tempfile.TemporaryDirectory(prefix="formats-") as name:
        folder = Path(name)
        table = prepare(ROOT / "data" / "benchmarks", ["yelp"], print)["yelp"]
        for number, (what, asked) in enumerate(JOBS.items()):
            print("pruning:", what, flush=True)
            run(spec_of(model.name, asked), ModelRef(model, model.name), {DATASET: table}, folder / str(number), _quiet)
        python = environment(folder / "environment")
        for number, what in enumerate(JOBS):
            command = [str(python), "-I", "-c", OUTSIDE, str(folder / str(number) / "output")]
            answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=folder).stdout
            found = json.loads(answer.splitlines()[-1])
            for way, apart in found["apart"].items():
                worst = max(worst, apart)
                lines.append(f"| {what} | {way} | {found['rows']} | {apart:.1e} | {found['changed'][way]} |")
                print(lines[-1], flush=True)
        asked_of = [str(python), "-I", "-c", f"from importlib.metadata import version as v; print(*map(v, {PACKAGES}))"]
        versions = subprocess.run(asked_of, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    installed = ", ".join(f"{package} {version}" for package, version in zip(PACKAGES, versions, strict=True))
    text = [
        "# Checkpoints in an environment without Topwork",
        "",
        f"`make formats`: {model.name}, a fresh virtual environment with {installed} and what they need. Largest",
        "difference of a logit to what the job measured, and predictions that changed.",
        "",
        "| checkpoint | loaded by | test rows | largest difference | changed predictions |",
        "| --- | --- | ---: | ---: | ---: |",
        *lines,
    ]
    (ROOT / "benchmarks" / "results" / "formats.md").write_text("\n".join(text) + "\n")
    return 0 if worst < 1e-3 else 1


def spec_of(model: str, asked: dict[str, Any]) -> JobSpec:
    """A job of few steps: how good the model gets is not the question here."""
    return JobSpec.model_validate(
        {
            "model": model,
            "task": {"data": {"dataset": DATASET}, "split": {"train": 60, "dev": 40, "test": 200}},
            "train": {"steps": {"teach": 10, "recover": 10}, "max_length": 64},
        }
        | asked
    )


def environment(folder: Path) -> Path:
    """A virtual environment with PACKAGES; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), *PACKAGES], check=True)
    return python


def _quiet(_message: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/models/all-minilm-l6-v2")))
