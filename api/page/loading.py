"""How a download is opened, by runtime: code to copy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

AUTO = {
    "token-classification": "AutoModelForTokenClassification",
    "image-classification": "AutoModelForImageClassification",
}
SENTENCES = {"sentence-similarity": "SentenceTransformer", "text-ranking": "CrossEncoder"}


def snippets(spec: Mapping[str, Any], paths: Collection[str], size: str | None = None) -> dict[str, str]:
    """By the name of the runtime, of those that the files are for."""
    kind, folder = str((spec.get("task") or {}).get("type")), "pruned" + (f"/{size}" if size else "")
    inside = {path.removeprefix(f"{size}/") for path in paths if not size or path.startswith(f"{size}/")}
    found: dict[str, str] = {}
    if "model.safetensors" in inside:
        coded = any(path.startswith("modeling_topwork") for path in inside)
        half = (spec.get("export") or {}).get("precision", "float32") != "float32"
        found |= _torch(kind, folder, ", trust_remote_code=True" * coded, half)
    if "load.py" in inside:
        call = f'run_path("{folder}/load.py")["load"]()'
        found["load.py (no remote code)"] = f"from runpy import run_path\n\nloaded = {call}"
    for file in ("model.onnx", "model.int8.onnx"):
        if file in inside:
            session = f'onnxruntime.InferenceSession("{folder}/{file}")'
            found[f"ONNX Runtime, {file}"] = f"import onnxruntime\n\nsession = {session}"
    return found


def _torch(kind: str, folder: str, trust: str, half: bool) -> dict[str, str]:
    """Weights of `half` the precision are computed with in float32, as they were measured."""
    if kind in SENTENCES:
        name, dtype = SENTENCES[kind], ', model_kwargs={"dtype": "float32"}' * half
        code = f'from sentence_transformers import {name}\n\nmodel = {name}("{folder}"{trust}{dtype})'
        return {"sentence-transformers": code}
    model = AUTO.get(kind, "AutoModelForSequenceClassification")
    reader = "AutoImageProcessor" if kind == "image-classification" else "AutoTokenizer"
    given = f'.from_pretrained("{folder}"{trust}'
    dtype = ', dtype="float32"' * half
    first, second = sorted((model, reader))
    lines = [f"from transformers import {first}, {second}", "", f"model = {model}{given}{dtype})"]
    return {"transformers": "\n".join([*lines, f"{reader.removeprefix('Auto').lower()} = {reader}{given})"])}
