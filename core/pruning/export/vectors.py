"""What makes a checkpoint one of sentence-transformers: `modules.json`, and the folders that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from core.domains.transformer.embedder import HEAD, Embedder
from core.pruning.system.files import write_json, write_tensors

MODES = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken", "max": "max_tokens"}
KIND = "sentence_transformers.models."


def write_modules(model: Embedder, max_length: int, target: Path) -> None:
    """Write pooling, Dense layers and normalisation beside the body's own files; `max_length` in tokens."""
    head: Any = model.get_submodule(HEAD)
    width = model.width
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    pooling = {f"pooling_mode_{mode}": ours == model.recipe.pooling for ours, mode in MODES.items()}
    (target / "1_Pooling").mkdir(exist_ok=True)
    write_json(target / "1_Pooling" / "config.json", {"word_embedding_dimension": width} | pooling)
    parts = dict(head.named_children())
    for name, module in parts.items():
        if isinstance(module, nn.Linear):
            folder = f"{len(modules)}_Dense"
            modules.append((folder, "Dense"))
            _write_dense(module, parts[name.replace("dense", "activation")], target / folder)
        elif name == "unit":
            folder = f"{len(modules)}_Normalize"
            modules.append((folder, "Normalize"))
            (target / folder).mkdir(exist_ok=True)
            write_json(target / folder / "config.json", {})
    said = [{"idx": i, "name": str(i), "path": path, "type": KIND + kind} for i, (path, kind) in enumerate(modules)]
    write_json(target / "modules.json", said)
    write_json(target / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    recipe = model.recipe
    settings = {"prompts": dict(recipe.prompts), "default_prompt_name": None, "similarity_fn_name": recipe.similarity}
    write_json(target / "config_sentence_transformers.json", settings)


def _write_dense(linear: nn.Linear, activation: nn.Module, target: Path) -> None:
    target.mkdir(exist_ok=True)
    weights = {f"linear.{name}": part.detach().cpu().contiguous().clone() for name, part in linear.state_dict().items()}
    write_tensors(target / "model.safetensors", weights, {"format": "pt"})
    said = {"in_features": linear.in_features, "out_features": linear.out_features, "bias": linear.bias is not None}
    kind = type(activation)
    write_json(target / "config.json", said | {"activation_function": f"{kind.__module__}.{kind.__name__}"})
