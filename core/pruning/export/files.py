"""Write the checkpoint: files that load with plain tools, and that say what they are."""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from inspect import getsource, signature
from pathlib import Path
from pprint import pformat
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.domains.config import BOTH_WAYS, NEEDS_5
from core.domains.structure import Structure
from core.domains.transformer import mean, shrink
from core.domains.transformer.families import Architecture, Family
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.residual import residual_side
from core.domains.weights import WHOLE
from core.machine import cpu_name
from core.pruning.export.vectors import write_modules
from core.pruning.export.verify import VECTORS_FILE, modeling_file
from core.pruning.system import parallel
from core.pruning.system.files import sha256, write_json, write_tensors
from core.pruning.training.batches import Rows
from core.rows.example import Example
from core.rows.modality import Modality
from core.spec.job import Precision
from core.spec.report import Environment
from core.tasks.task import plain

TEMPLATES = Path(__file__).parent / "templates"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "topwork")


def write_model(
    network: TransformerNetwork,
    structure: Structure,
    modality: Modality,
    target: Path,
    *,
    texts: int = 1,
    plain: bool = False,
    precision: Precision = "float32",
) -> None:
    """Weights, config, tokenizer and the code that loads them; `plain` shapes need none: config.json says them.

    `texts`: how many a row has, that are read together.
    """
    target.mkdir(parents=True, exist_ok=True)
    whole = network.assembled()
    model = whole.plain if network.gives_vectors else whole
    family, earlier = network.architecture.family, network.architecture.earlier
    save_weights(model, target / WHOLE, precision)
    config = model.config.to_dict() | {"dtype": precision}
    config |= as_transformers_4(config)
    config.pop("_name_or_path", None)
    write_json(target / "structure.json", structure.to_json())
    modality.save(target, model)
    if family.of_vectors:
        write_modules(whole, modality.largest, target)
        shutil.copy(TEMPLATES / "load_vectors.py.txt", target / "load.py")
    if plain:
        sizes = sizes_in_config(network.architecture, structure)
        write_json(target / "config.json", config | {"architectures": [family.task_class]} | sizes)
        return
    code = modeling_code(network, whole)
    file = modeling_file(code.encode())
    module = file.removesuffix(".py")
    config_class, body_class = (f"Pruned{name}" for name in class_names(network, whole))
    said = {
        "architectures": [f"Pruned{family.task_class}"],
        "auto_map": {
            "AutoConfig": f"{module}.{config_class}",
            "AutoModel": f"{module}.{body_class}",
            family.auto_class: f"{module}.Pruned{family.task_class}",
        },
        "model_type": f"topwork-{family.model_type}",
        "topwork": (structure.through(earlier) if earlier else structure).shape() | pooling_in_config(family),
    }
    write_json(target / "config.json", config | said)
    (target / file).write_text(code, encoding="utf-8")
    if family.of_vectors:
        return
    loader = Template((TEMPLATES / "load.py.txt").read_text())
    filled = {"auto_class": family.auto_class, "texts": texts}
    (target / "load.py").write_text(loader.substitute(filled), encoding="utf-8")


def save_weights(model: Any, file: Path, precision: Precision) -> None:
    """Write all that has a name; what counts batches stays whole."""
    dtype = getattr(torch, precision)
    weights = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else tensor.dtype).contiguous().clone()
        for name, tensor in model.state_dict().items()
    }
    write_tensors(file, weights, {"format": "pt"})


def pooling_in_config(family: Family) -> dict[str, str]:
    """What another job needs to know, that goes on from the checkpoint."""
    return {"pooling": "mean"} if family.means else {}


def class_names(network: TransformerNetwork, model: Any) -> tuple[str, str]:
    """What transformers calls the classes of the model's config and of its body."""
    return type(model.config).__name__, type(model.get_submodule(network.architecture.family.base)).__name__


def modeling_code(network: TransformerNetwork, model: Any) -> str:
    """The Python that builds `model` in its pruned sizes."""
    family = network.architecture.family
    base = model.get_submodule(family.base)
    config_class, body_class = class_names(network, model)
    # As the task's class has it: a pooler that the checkpoint lacks would be one of random weights.
    bare = "add_pooling_layer" in signature(type(base)).parameters and getattr(base, "pooler", None) is None
    return Template((TEMPLATES / "modeling_topwork.py.txt").read_text()).substitute(
        {
            "task_class": family.task_class,
            "auto_class": family.auto_class,
            "task": "" if family.of_vectors else task_code(network, model),
            "config_class": config_class,
            "body_class": body_class,
            "model_type": family.model_type,
            "base": family.base,
            "heads": "|".join(name for name, _ in model.named_children() if name != family.base),
            "without_pooler": ", add_pooling_layer=False" if bare else "",
            "paths": pformat(network.architecture.paths, sort_dicts=False),
            "residual": getsource(residual_side),
            "shrink": Path(shrink.__file__).read_text().split("import residual_side\n", 1)[1].strip() + "\n",
        }
    )


def task_code(network: TransformerNetwork, model: Any) -> str:
    """The class with the task's head, behind that of the body."""
    family = network.architecture.family
    names = {"task_class": family.task_class, "auto_class": family.auto_class}
    names["config_class"], _ = class_names(network, model)
    source = Path(mean.__file__).read_text().split("import Any\n", 1)[1].strip()
    names["mean"] = f"\n\n{source}\n" if family.means else ""
    names["read_mean"] = "\n        read_mean(self, PATHS)" if family.means else ""
    return Template((TEMPLATES / "modeling_task.py.txt").read_text()).substitute(names)


def as_transformers_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """What 4 reads where transformers 5 reads `rope_parameters`, `layer_types` and `is_causal`; it has its defaults."""
    rope = config.get("rope_parameters")
    if not rope:
        return {}
    if "full_attention" not in rope:
        said = {"rope_theta": rope["rope_theta"]}
        if not config.get("is_causal", True):
            said["pruned_heads"] = BOTH_WAYS
        if rope["rope_type"] == "longrope":  # 4 looks for the length beside it, and then for no factor
            original = rope["original_max_position_embeddings"]
            grown = rope.get("factor") or config["max_position_embeddings"] / original
            scale = rope.get("attention_factor") or math.sqrt(1 + math.log(max(1, grown)) / math.log(original))
            rope = rope | {"attention_factor": scale}
            said |= {"original_max_position_embeddings": original}
        return said | ({"rope_scaling": rope} if rope["rope_type"] != "default" else {})
    wide = [kind == "full_attention" for kind in config["layer_types"]]
    every = [n for n in range(1, len(wide) + 1) if wide == [i % n == 0 for i in range(len(wide))]]
    scaled = any(one["rope_type"] != "default" for one in rope.values())
    return {
        "global_rope_theta": rope["full_attention"]["rope_theta"],
        "local_rope_theta": rope["sliding_attention"]["rope_theta"],
        # It divides by it: where it has no words for the layers, that is a TypeError, and not another model.
        "global_attn_every_n_layers": every[0] if every and not scaled else NEEDS_5,
    }


def sizes_in_config(architecture: Architecture, structure: Structure) -> dict[str, int]:
    """A regular structure in the words of the family's config.json."""
    _, heads, layers, neurons = architecture.family.sizes
    left = structure.remaining()
    kept = len(left.heads[0])
    said = {heads: kept * architecture.queries, layers: len(left.heads), neurons: len(left.neurons[0])}
    if architecture.family.says_head_size:
        said |= {"num_key_value_heads": kept, "head_dim": architecture.head_size}
    return said


def write_test_rows(examples: Sequence[Example], rows: Rows, logits: Tensor, target: Path) -> None:
    """`test.jsonl`: each held-out row with its label, and what the model says of it: label and logits.

    Vectors are in a file of their own, and so are labels that are vectors. Of words, each that the model reads has
    logits, and a tag; others, which give no token or come too late, have None.
    """
    task = rows.task
    said = task.said(logits, rows.labels)
    if task.apart_texts:
        parts = {"logits": logits.numpy()} | ({"label": rows.labels.numpy()} if task.self_taught else {})
        np.savez(target.parent / VECTORS_FILE, **parts, allow_pickle=False)
    with target.open("w", encoding="utf-8") as out:
        for i, (example, predicted) in enumerate(zip(examples, said, strict=True)):
            if task.of_words and len(predicted) < len(example.text):
                told = dict(zip(rows.modality.words_read(example.text), predicted, strict=True))
                predicted = [told.get(word) for word in range(len(example.text))]
            line = {"text": list(example.text), "label": example.label, "predicted": predicted}
            if not task.apart_texts:
                values = task.asked(logits[i : i + 1], rows.labels[i : i + 1])  # (1, C); of words (words, C)
                each = [[plain(value) for value in one] for one in values.tolist()]
                line["logits"] = each if task.of_words else each[0]
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_manifest(manifest: Mapping[str, Any], target: Path) -> None:
    """`manifest.json`, last: it names the sha256 of every other file."""
    files = {
        str(path.relative_to(target)): sha256(path)
        for path in sorted(target.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    write_json(target / "manifest.json", {**manifest, "files": files})


def environment() -> Environment:
    """What the numbers were measured on."""
    return Environment(
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads",
        cpu=cpu_name(),
        processes=parallel.processes(),  # a GPU each, where there are several
        machine=platform.machine(),
        python=platform.python_version(),
        versions={name: version(name).split("+")[0] for name in LIBRARIES},
    )
