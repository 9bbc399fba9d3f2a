"""Does what is downloaded load where nothing of ours is installed?

    python -m benchmarks.formats [MODEL_FOLDER]

Prunes a real model in four short jobs (free and regular layout, with fewer tokens and hidden dimensions, zeros), makes
virtual environments with torch, ONNX Runtime and either version of transformers alone, loads every checkpoint there in
every way that it offers, in one process, and compares its answers to the test rows with what the job measured. Writes
benchmarks/results/formats.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.transfer.data import prepare
from core.pruning.job.run import ModelRef, run
from core.spec.job import JobSpec

PACKAGES = ("torch", "transformers", "onnxruntime", "onnx")  # the last for quantize_dynamic
TRANSFORMERS = ("transformers", "transformers==4.57.*")
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

# Run in the other environment, on all checkpoints: one process holds them.
OUTSIDE = """
import importlib.util, json, sys
from pathlib import Path
from runpy import run_path
import onnxruntime, torch
from onnxruntime.quantization import quantize_dynamic
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, pipeline

assert not any(importlib.util.find_spec(name) for name in ("core", "api", "worker", "cli"))

def compared(folder):
    rows = [json.loads(line) for line in (folder / "test.jsonl").open(encoding="utf-8")]
    measured = torch.tensor([row["logits"] for row in rows])
    coded = (folder / "load.py").exists()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=coded)
    length = json.loads((folder / "manifest.json").read_text())["max_length"]
    texts = [row["text"][0] for row in rows]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")

    def torchs(model):
        with torch.inference_mode():
            return model.eval()(**batch).logits

    def onnx(file):
        session = onnxruntime.InferenceSession(folder / file, providers=["CPUExecutionProvider"])
        inputs = {one.name: batch[one.name].numpy() for one in session.get_inputs()}
        return torch.from_numpy(session.run(["logits"], inputs)[0])

    def piped():
        ask = pipeline("text-classification", model=str(folder), trust_remote_code=coded, device="cpu", top_k=None)
        said = ask(texts, truncation=True, max_length=length, function_to_apply="none")
        scores = [{one["label"]: one["score"] for one in row} for row in said]
        return torch.tensor([[row[label] for label in order] for row in scores])

    order = list(json.loads((folder / "config.json").read_text())["id2label"].values())
    name = "from_pretrained" + ", trust_remote_code" * coded
    ways = {name: lambda: torchs(AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=coded))}
    if coded:
        ways["load.py"] = lambda: torchs(run_path(str(folder / "load.py"))["load"]()[0])
        try:
            AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
            raise SystemExit("loaded without its code")
        except ValueError as error:
            assert "trust_remote_code=True" in str(error)
        _, how = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        assert not any(how.values()), how
    ways["pipeline"] = piped
    ways["model.onnx"] = lambda: onnx("model.onnx")
    said = {way: answer() for way, answer in ways.items()}
    quantize_dynamic(folder / "model.onnx", folder / "quantised.onnx")
    said["model.onnx after quantize_dynamic"] = onnx("quantised.onnx")
    apart = {way: float((logits - measured).abs().max()) for way, logits in said.items()}
    changed = {way: int((logits.argmax(-1) != measured.argmax(-1)).sum()) for way, logits in said.items()}
    return {"rows": len(rows), "apart": apart, "changed": changed}

print(json.dumps([compared(Path(folder)) for folder in sys.argv[1:]]))
"""


def main(model: Path) -> int:
    """Exit code: 0 if every way gives the measured answers within 1e-3, quantised ones aside."""
    lines, worst, installed = [], 0.0, []
    with tempfile.TemporaryDirectory(prefix="formats-") as name:
        folder = Path(name)
        table = prepare(ROOT / "data" / "benchmarks", ["yelp"], print)["yelp"]
        for number, (what, asked) in enumerate(JOBS.items()):
            print("pruning:", what, flush=True)
            run(spec_of(model.name, asked), ModelRef(model, model.name), {DATASET: table}, folder / str(number), _quiet)
        for number, wanted in enumerate(TRANSFORMERS):
            python = environment(folder / f"environment-{number}", wanted)
            asked_of = f"from importlib.metadata import version as v; print(*map(v, {PACKAGES}))"
            answer = subprocess.run([str(python), "-I", "-c", asked_of], stdout=subprocess.PIPE, text=True, check=True)
            versions = dict(zip(PACKAGES, answer.stdout.split(), strict=True))
            installed.append(", ".join(f"{package} {version}" for package, version in versions.items()))
            outputs = [str(folder / str(number) / "output") for number in range(len(JOBS))]
            command = [str(python), "-I", "-c", OUTSIDE, *outputs]
            said = subprocess.run(
                command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, cwd=folder
            ).stdout
            for what, found in zip(JOBS, json.loads(said.splitlines()[-1]), strict=True):
                for way, apart in found["apart"].items():
                    worst = worst if "quantize" in way else max(worst, apart)
                    row = (versions["transformers"], what, way, found["rows"], f"{apart:.1e}", found["changed"][way])
                    lines.append(f"| {' | '.join(map(str, row))} |")
                    print(lines[-1], flush=True)
    text = [
        "# Checkpoints in an environment without Topwork",
        "",
        f"`make formats`: {model.name}; fresh virtual environments with {'; and with '.join(installed)}, and what they",
        "need. One process loads all checkpoints; a forgotten `trust_remote_code` is an error that names it, AutoModel",
        "gives the body. Largest difference of a logit to what the job measured, and predictions that changed.",
        "",
        "| transformers | checkpoint | loaded by | test rows | largest difference | changed predictions |",
        "| --- | --- | --- | ---: | ---: | ---: |",
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


def environment(folder: Path, transformers: str) -> Path:
    """A virtual environment with PACKAGES, of them `transformers` in that version; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # What transformers itself needs is of its own choice: 4 and 5 want different versions.
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    rest = [package for package in PACKAGES if package not in ("torch", "transformers")]
    subprocess.run([*install, *pinned, transformers, *rest], check=True)
    return python


def _quiet(_message: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/models/all-minilm-l6-v2")))
