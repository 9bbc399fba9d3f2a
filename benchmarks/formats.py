"""Does what is downloaded load where nothing of ours is installed?

    python -m benchmarks.formats [MODEL_FOLDER]

Prunes a real model in four short jobs (free and regular layout, with fewer tokens and hidden dimensions, zeros), and
cuts tiny random models of the families whose positions are turned (RoPE) or relative, for texts of up to 1,000 tokens.
Prunes it to vectors and ranks, too, of the halves of the same texts.
Makes virtual environments with torch, ONNX Runtime and either version of transformers alone, loads every checkpoint
there in every way that it offers, in one process, and compares its answers with what was measured here. Then adds
sentence-transformers, as it comes with that version of transformers, which loads vectors and ranks. Writes
benchmarks/results/formats.md.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoConfig, AutoModel

from benchmarks.transfer.data import prepare
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.families import FAMILIES
from core.domains.transformer.load import load_network
from core.pruning.export.files import write_model
from core.pruning.job.run import ModelRef, run
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.system.files import write_json
from core.rows.text.processor import Text
from core.spec.job import JobSpec
from tests.tiny import FILLER, save_tiny_model

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

PAIRS = {"text": ["first", "second"]}
RANKING = {"type": "text-ranking", "split": {"train": 20, "dev": 10, "test": 20}} | PAIRS  # ten rows of each pair
VECTORS: dict[str, dict[str, Any]] = {
    "vectors, free": {"task": {"type": "sentence-similarity"} | PAIRS, "budget": {"params": 0.1}},
    "vectors, fewer tokens and hidden dimensions": {
        "task": {"type": "sentence-similarity", "text": ["first"]},
        "budget": {"bytes": 0.1},
        "vocabulary": "trim",
        "hidden_size": "trim",
        "train": {"steps": {"recover": 10}, "max_length": 64},
    },
    "vectors, regular": {
        "task": {"type": "sentence-similarity"} | PAIRS,
        "budget": {"params": 0.2},
        "export": {"formats": ["onnx"], "layout": "regular"},
    },
    "ranks, free": {"task": RANKING, "budget": {"params": 0.1}},
    "ranks, regular": {
        "task": RANKING,
        "budget": {"params": 0.2},
        "export": {"formats": ["onnx"], "layout": "regular"},
    },
}

LAYERS, HEADS, HIDDEN, NEURONS, READS, ORIGINAL = 3, 4, 32, 24, 1024, 256
WORDS_EACH = (9, 300, 600, 1000)  # of each text, all in one batch
STRETCH = {"factor": 4.0, "original_max_position_embeddings": ORIGINAL}
ROPES: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": STRETCH,
    "llama3": STRETCH | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "longrope": STRETCH | {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]},
}
GROUPED = {"num_attention_heads": 2 * HEADS, "num_key_value_heads": HEADS, "head_dim": 8}
SLIDING = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
# Tiny models by name -> family, options of config.json.
TINY: dict[str, tuple[str, dict[str, Any]]] = {
    "ModernBERT": ("modernbert", {"global_rope_theta": 160_000.0, "local_rope_theta": 500.0, "local_attention": 64}),
    **{
        f"Llama, {kind}": ("llama", GROUPED | {"rope_parameters": {"rope_type": kind, "rope_theta": 5e4, **values}})
        for kind, values in ROPES.items()
    },
    "Qwen2, sliding window": ("qwen2", GROUPED | SLIDING | {"rope_theta": 1e6}),
    "Qwen3": ("qwen3", GROUPED | {"rope_theta": 1e6}),
    "DeBERTa": ("deberta-v2", RELATIVE | {"position_biased_input": False}),
    "DeBERTa, buckets": ("deberta-v2", RELATIVE | {"position_buckets": 32, "share_att_key": True}),
    "MPNet": ("mpnet", {"max_position_embeddings": READS + 2}),
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
        said = ask(texts, truncation=True, max_length=length, function_to_apply="none", batch_size=len(texts))
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
    exported = (folder / "model.onnx").exists()
    if exported:
        ways["model.onnx"] = lambda: onnx("model.onnx")
    said = {way: answer() for way, answer in ways.items()}
    if exported:
        quantize_dynamic(folder / "model.onnx", folder / "quantised.onnx")
        said["model.onnx after quantize_dynamic"] = onnx("quantised.onnx")
    apart = {way: float((logits - measured).abs().max()) for way, logits in said.items()}
    changed = {way: int((logits.argmax(-1) != measured.argmax(-1)).sum()) for way, logits in said.items()}
    return {"rows": len(rows), "apart": apart, "changed": changed}

print(json.dumps([compared(Path(folder)) for folder in sys.argv[1:]]))
"""
# The same for vectors and ranks; sentence-transformers is there.
OF_VECTORS = """
import importlib.util, json, sys
from pathlib import Path
from runpy import run_path
import numpy, onnxruntime, torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer

assert not any(importlib.util.find_spec(name) for name in ("core", "api", "worker", "cli"))

def compared(folder):
    rows = [json.loads(line) for line in (folder / "test.jsonl").open(encoding="utf-8")]
    vectors = (folder / "test_vectors.npz").exists()
    if vectors:
        measured = numpy.concatenate([*numpy.load(folder / "test_vectors.npz")["logits"]])
        texts = [text for row in rows for text in row["text"]]
    else:
        measured = numpy.array([row["logits"][0] for row in rows])
        texts = [tuple(row["text"]) for row in rows]
    coded = any(folder.glob("modeling_topwork_*.py"))
    trust = {"trust_remote_code": True} if coded else {}

    def onnx():
        session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
        said = []
        for start in range(0, len(texts), 32):
            part = texts[start : start + 32]
            columns = [part] if vectors else map(list, zip(*part))
            batch = tokenizer(*columns, padding=True, truncation=True, return_tensors="np")
            said += [*session.run(None, {one.name: batch[one.name] for one in session.get_inputs()})[0]]
        return numpy.array(said).reshape(measured.shape)

    with_flag = ", trust_remote_code" * coded
    if vectors:
        ways = {"SentenceTransformer" + with_flag: lambda: SentenceTransformer(str(folder), **trust).encode(texts)}
        ways["load.py"] = lambda: run_path(str(folder / "load.py"))["embed"](texts).numpy()
    else:
        plain = torch.nn.Identity()
        ranks = lambda: CrossEncoder(str(folder), **trust).predict(texts, activation_fn=plain)
        ways = {"CrossEncoder" + with_flag: ranks}
    if (folder / "model.onnx").exists():
        ways["model.onnx"] = onnx
    apart = {way: float(abs(answer() - measured).max()) for way, answer in ways.items()}
    return {"rows": len(rows), "apart": apart, "changed": dict.fromkeys(apart, "")}

print(json.dumps([compared(Path(folder)) for folder in sys.argv[1:]]))
"""


def main(model: Path) -> int:
    """Exit code: 0 if every way gives the measured answers within 1e-3, quantised ones aside."""
    lines, worst, installed, checkpoints = [], 0.0, [], {}
    with tempfile.TemporaryDirectory(prefix="formats-") as name:
        folder = Path(name)
        table = prepare(ROOT / "data" / "benchmarks", ["yelp"], print)["yelp"]
        for number, (what, asked) in enumerate(JOBS.items()):
            print("pruning:", what, flush=True)
            run(spec_of(model.name, asked), ModelRef(model, model.name), {DATASET: table}, folder / str(number), _quiet)
            checkpoints[what] = folder / str(number) / "output"
        checkpoints |= tiny_checkpoints(folder / "tiny")
        of_vectors = vector_checkpoints(model, table, folder / "vectors")
        for number, wanted in enumerate(TRANSFORMERS):
            python = environment(folder / f"environment-{number}", wanted)
            asked_of = f"from importlib.metadata import version as v; print(*map(v, {PACKAGES}))"
            answer = subprocess.run([str(python), "-I", "-c", asked_of], stdout=subprocess.PIPE, text=True, check=True)
            versions = dict(zip(PACKAGES, answer.stdout.split(), strict=True))
            said = compared(python, checkpoints)
            versions["sentence-transformers"] = with_sentences(python, wanted)
            installed.append(", ".join(f"{package} {version}" for package, version in versions.items()))
            for what, found in (said | compared(python, of_vectors, OF_VECTORS)).items():
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
        "sentence-transformers was added for vectors and ranks, after all else was loaded without it.",
        "",
        "| transformers | checkpoint | loaded by | test rows | largest difference | changed predictions |",
        "| --- | --- | --- | ---: | ---: | ---: |",
        *lines,
    ]
    (ROOT / "benchmarks" / "results" / "formats.md").write_text("\n".join(text) + "\n")
    return 0 if worst < 1e-3 else 1


def spec_of(model: str, asked: dict[str, Any]) -> JobSpec:
    """A job of few steps: how good the model gets is not the question here."""
    task = {"data": {"dataset": DATASET}, "split": {"train": 60, "dev": 40, "test": 200}} | asked.get("task", {})
    train = {"steps": {"teach": 10, "recover": 10}, "max_length": 64}
    return JobSpec.model_validate({"model": model, "train": train} | asked | {"task": task})


def vector_checkpoints(model: Path, table: Path, folder: Path) -> dict[str, Path]:
    """Each of VECTORS, of both halves of the table's texts."""
    folder.mkdir()
    words = [str(text).split() for text in pq.read_table(table)["text"].to_pylist()]
    halves = {
        "first": [" ".join(each[: len(each) // 2]) for each in words],
        "second": [" ".join(each[len(each) // 2 :]) for each in words],
    }
    pq.write_table(pa.table(halves), folder / "halves.parquet")
    found = {}
    for number, (what, asked) in enumerate(VECTORS.items()):
        print("pruning:", what, flush=True)
        spec, out = spec_of(model.name, asked), folder / str(number)
        run(spec, ModelRef(model, model.name), {DATASET: folder / "halves.parquet"}, out, _quiet)
        found[what] = out / "output"
    return found


def tiny_checkpoints(folder: Path) -> dict[str, Path]:
    """Each of TINY cut in either layout, with a text of each length, and what the cut model says of all in a batch."""
    body: Any = AutoModel
    base, found = save_tiny_model(folder / "base"), {}
    draw = random.Random(0)
    texts = [" ".join(draw.choices(FILLER, k=count)) for count in WORDS_EACH]
    for name, (family, options) in TINY.items():
        sizes = dict(zip(FAMILIES[family].sizes, (HIDDEN, HEADS, LAYERS, NEURONS), strict=True))
        common = {"vocab_size": 80, "max_position_embeddings": READS, "pad_token_id": 0}
        torch.manual_seed(0)
        model = folder / name
        body.from_config(AutoConfig.for_model(family, **sizes | common | options)).save_pretrained(model)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(base / file, model)
        kept = [[1, 3], [], [0, 2]] if FAMILIES[family].says_head_size else [range(HEADS), [], range(HEADS)]
        structures = {
            "free": Structure.of([[0, 2], [1], [0, 1, 3]], [[1, 5, 9], range(NEURONS), [0]]),
            "regular": Structure.of(kept, [range(9), [], range(3, 12)], dropped=[1]),
        }
        for layout, structure in structures.items():
            network = load_network(model, ["a", "b", "c"], seed=0)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.3)
            cut(network.eval(), structure)
            tokenizer, out = load_tokenizer(model), folder / f"{name}, {layout}"
            write_model(network, structure, Text(tokenizer, READS), out, plain=layout == "regular")
            with torch.inference_mode():
                batch = tokenizer(texts, padding=True, truncation=True, max_length=READS, return_tensors="pt")
                logits = network.logits(dict(batch)).tolist()
            lines = [json.dumps({"text": [text], "logits": row}) for text, row in zip(texts, logits, strict=True)]
            (out / "test.jsonl").write_text("\n".join(lines))
            write_json(out / "manifest.json", {"max_length": READS})
            found[f"tiny {name}, {layout}"] = out
    return found


def compared(python: Path, checkpoints: dict[str, Path], program: str = OUTSIDE) -> dict[str, Any]:
    """What a program says of each, in the environment of that Python."""
    command = [str(python), "-I", "-c", program, *map(str, checkpoints.values())]
    said = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True, cwd=python.parent)
    return dict(zip(checkpoints, json.loads(said.stdout.splitlines()[-1]), strict=True))


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


def with_sentences(python: Path, transformers: str) -> str:
    """Add sentence-transformers that goes with this version of transformers; returns its version."""
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, transformers, "sentence-transformers"], check=True)
    asked = "from importlib.metadata import version; print(version('sentence-transformers'))"
    return subprocess.run(
        [str(python), "-I", "-c", asked], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


def _quiet(_message: object) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "data/models/all-minilm-l6-v2")))
