"""Write the checkpoint: files that load with plain tools, and that say what they are."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from inspect import getsource, signature
from pathlib import Path
from pprint import pformat
from string import Template
from typing import Any

import torch
from huggingface_hub import ModelCardData
from safetensors.torch import save_file
from torch import Tensor

from core.pruning import parallel, shrink
from core.pruning.batches import Rows, encode
from core.pruning.cut import paths_of
from core.pruning.metrics import METRICS, NUMBERS, shown
from core.pruning.network import Network
from core.pruning.problem import plain
from core.pruning.runtimes import cpu_name
from core.pruning.verify import modeling_file
from core.spec.cost import FLOAT32
from core.spec.data import Example
from core.spec.families import Architecture
from core.spec.residual import residual_side
from core.spec.structure import Structure
from core.spec.weights import file_bytes

TEMPLATES = Path(__file__).parent / "templates"
NEEDS_5 = "layer_types and rope_parameters, which need transformers 5.3 or newer"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "topwork")


def write_model(network: Network, structure: Structure, tokenizer: Any, target: Path, *, plain: bool = False) -> None:
    """Weights, config, tokenizer and the code that loads them; `plain` shapes need none: config.json says them."""
    target.mkdir(parents=True, exist_ok=True)
    model = network.assembled()
    family = network.architecture.family
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"dtype": "float32"}
    config |= as_transformers_4(config)
    config.pop("_name_or_path", None)
    write_json(target / "structure.json", structure.to_json())
    write_tokenizer(tokenizer, model, target)
    if plain:
        sizes = sizes_in_config(network.architecture, structure)
        write_json(target / "config.json", config | {"architectures": [family.task_class]} | sizes)
        return
    code = modeling_code(network, model)
    file = modeling_file(code.encode())
    module = file.removesuffix(".py")
    config_class, body_class = (f"Pruned{name}" for name in class_names(network, model))
    said = {
        "architectures": [f"Pruned{family.task_class}"],
        "auto_map": {
            "AutoConfig": f"{module}.{config_class}",
            "AutoModel": f"{module}.{body_class}",
            family.auto_class: f"{module}.Pruned{family.task_class}",
        },
        "model_type": f"topwork-{family.model_type}",
        "topwork": structure.shape(),
    }
    write_json(target / "config.json", config | said)
    (target / file).write_text(code, encoding="utf-8")
    loader = Template((TEMPLATES / "load.py.txt").read_text()).substitute({"auto_class": family.auto_class})
    (target / "load.py").write_text(loader, encoding="utf-8")


def class_names(network: Network, model: Any) -> tuple[str, str]:
    """What transformers calls the classes of the model's config and of its body."""
    return type(model.config).__name__, type(model.get_submodule(network.architecture.family.base)).__name__


def modeling_code(network: Network, model: Any) -> str:
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
            "config_class": config_class,
            "body_class": body_class,
            "model_type": family.model_type,
            "base": family.base,
            "heads": "|".join(name for name, _ in model.named_children() if name != family.base),
            "without_pooler": ", add_pooling_layer=False" if bare else "",
            "paths": pformat(paths_of(network.architecture), sort_dicts=False),
            "residual": getsource(residual_side),
            "shrink": Path(shrink.__file__).read_text().split("import residual_side\n", 1)[1].strip() + "\n",
        }
    )


def as_transformers_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers 4 reads where 5 reads `rope_parameters` and `layer_types`; it would take its defaults."""
    rope = config.get("rope_parameters")
    if not rope:
        return {}
    if "full_attention" not in rope:
        said = {"rope_theta": rope["rope_theta"]}
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


def write_tokenizer(tokenizer: Any, model: Any, target: Path) -> None:
    """The tokenizer's files, in words that transformers 4 and 5 both know; tokenizer.json says what it does."""
    tokenizer.save_pretrained(target)
    path = target / "tokenizer_config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    if tokenizer.is_fast:
        for name in ("auto_map", "backend", "is_local", "local_files_only"):
            said.pop(name, None)
        if isinstance(said.get("extra_special_tokens"), list):
            said["additional_special_tokens"] = said.pop("extra_special_tokens")
        # Each version has a class of this name that takes tokenizer.json as it is; of those named after a family not.
        read = signature(model.forward).parameters
        names = [name for name in tokenizer.model_input_names if name in read]
        said |= {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}
    write_json(path, said)


def sizes_in_config(architecture: Architecture, structure: Structure) -> dict[str, int]:
    """A regular structure in the words of the family's config.json."""
    _, heads, layers, neurons = architecture.family.sizes
    left = structure.remaining()
    kept = len(left.heads[0])
    said = {heads: kept * architecture.queries, layers: len(left.heads), neurons: len(left.neurons[0])}
    if architecture.family.says_head_size:
        said |= {"num_key_value_heads": kept, "head_dim": architecture.head_size}
    return said


def weights_bytes(network: Network) -> int:
    """Size of the file that `write_model` makes of the weights."""
    shapes = {name: tuple(tensor.shape) for name, tensor in network.assembled().state_dict().items()}
    return file_bytes(shapes, FLOAT32)


def write_test_rows(examples: Sequence[Example], rows: Rows, logits: Tensor, tokenizer: Any, target: Path) -> None:
    """`test.jsonl`: each held-out row with its label, and what the model says of it: label and logits.

    Of words, each that the model reads has logits, and a tag; others, which give no token or come too late, have None.
    """
    said = rows.problem.said(logits, rows.labels)
    with target.open("w", encoding="utf-8") as out:
        for i, (example, predicted) in enumerate(zip(examples, said, strict=True)):
            if rows.problem.of_words and len(predicted) < len(example.text):
                of = encode([example.text], rows.problem, tokenizer, tokenizer.model_max_length).word_ids(0)
                told = dict(zip(sorted({word for word in of if word is not None}), predicted, strict=True))
                predicted = [told.get(i) for i in range(len(example.text))]
            values = rows.problem.asked(logits[i : i + 1], rows.labels[i : i + 1])  # (1, C); of words (words, C)
            each = [[plain(value) for value in one] for one in values.tolist()]
            line = {"text": list(example.text), "label": example.label, "predicted": predicted}
            line["logits"] = each if rows.problem.of_words else each[0]
            out.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_card(report: Mapping[str, Any], manifest: Mapping[str, Any], auto_class: str, target: Path) -> None:
    """`README.md`: the model card."""
    spec, results, data = manifest["spec"], report["results"], report["data"]
    words = report["task"]["type"] == "token-classification"
    metadata = ModelCardData(
        base_model=manifest["model"]["name"] if manifest["model"]["revision"] else None,
        library_name="transformers",
        pipeline_tag=f"{'token' if words else 'text'}-classification",
        tags=["topwork", "structured-pruning"],
    )
    lines = []
    cells = {METRICS[name]: _quality(name) for name in results["pruned"]["test"]} | dict(CARD_ROWS)
    for label, cell in cells.items():
        baseline = cell(results["baseline"]) if label in METRICS.values() else ""
        lines.append(f"| {label} | {cell(results['dense'])} | {cell(results['pruned'])} | {baseline} |")
    values = {
        "metadata": metadata.to_yaml(),
        "model": as_code(manifest["model"]["name"]),
        "fraction": f"{results['pruned']['encoder_params'] / results['dense']['encoder_params']:.1%}"
        if report["sparsity"] is None
        else f"{report['budget']['fraction']:.1%} non-zero weights",
        "hidden": f", with a hidden size of {hidden}" if (hidden := report["structure"].get("hidden")) else "",
        "table": "\n".join(lines),
        "usual": USUAL.get(report["task"]["problem"], "the commonest answer"),
        "test": data["test"],
        "warnings": "".join(f"\nMind: {as_text(said)}.\n" for said in report["warnings"]),
        "length": results["pruned"]["latency_length"],
        "task": _task(report, manifest),
        "device": report["environment"]["device"],
        "method": spec["method"]["name"],
        "coupling": report["transfer"]["coupling"],
        "train": data["train"],
        "sources": sum(data["sources"][i] for i in report["transfer"]["sources"]),
        "seed": spec["train"]["seed"],
        "budget": latency_met(report["budget"]) if "measured" in report["budget"] else "",
        "auto_class": auto_class,
        "onnx": ONNX_CARD if "onnx" in spec["export"]["formats"] else "",
        "needs": NEEDS_5_CARD if NEEDS_5 in json.loads((target.parent / "config.json").read_text()).values() else "",
    } | _loading(spec["export"]["layout"], report["sparsity"])
    target.write_text(Template((TEMPLATES / "README.md.txt").read_text()).substitute(values))


def _task(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What the model answers, and to what."""
    labels, revision, words = report["task"]["labels"], manifest["model"]["revision"], report["vocabulary"]
    named = ", ".join(map(as_code, labels[:20])) + (f" and {len(labels) - 20} more" if labels[20:] else "")
    columns = manifest["spec"]["task"]["text"]
    reads = "two texts, " + " and ".join(map(as_code, columns)) + "," if columns[1:] else "a text"
    sentences = [
        f"It answers {report['task']['problem'].replace('_', ' ')}: {named}. It reads {reads} of up to "
        f"{manifest['max_length']} tokens, as it was trained."
    ]
    if given := report["results"].get("given"):
        metric = report["task"]["metric"]
        moved = given["change"]["pruned"][metric]
        points = {name: f"{value if metric in NUMBERS else 100 * value:+.3g}" for name, value in moved.items()}
        sentences.append(
            f"The model that it was made of knew these labels: as given its {METRICS[metric]} on the same rows is "
            f"{_quality(metric)(given)}; this one differs by {points['value']} ({points['low']} to {points['high']}, "
            f"paired){' points' if metric not in NUMBERS else ''}."
        )
    if revision:
        made_of = f"revision {as_code(revision)} of {as_code(manifest['model']['name'])}"
        sentences.append(f"Made of {made_of}, whose licence holds.")
    if words:
        sentences.append(
            f"Of {words['before']:,} tokens it keeps the {words['kept']:,} that its texts use; others fall to pieces."
        )
    return " ".join(sentences)


def one_line(text: str) -> str:
    """`text` with line ends, and whatever else cannot be seen, as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_code(text: str) -> str:
    """Somebody else's words in Markdown, as they are: a code span, whose fence is longer than any inside."""
    text = one_line(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    padding = " " if len(fence) > 1 or text != text.strip() or not text else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def as_text(text: str) -> str:
    """A sentence in Markdown that may hold somebody else's words: nothing in it is markup, HTML or a link."""
    return re.sub(r"[\\`*_{}\[\]<>&|~$@]|:(?=//)|(?<=www)\.", r"\\\g<0>", one_line(text), flags=re.IGNORECASE)


def _loading(layout: str, zeros: Mapping[str, Any] | None) -> dict[str, str]:
    """How the card says that the model is loaded."""
    if zeros:
        return {"trust": "", "otherwise": zeros["says"]}
    return REGULAR_CARD if layout == "regular" else CODED_CARD


NEEDS_5_CARD = """
It needs transformers 5.3 or newer: 4.57 has no words in its config.json for which of these layers see all of the text.
"""
CODED_CARD = {
    "trust": ", trust_remote_code=True",
    "otherwise": "Without the flag transformers refuses it: the code is `modeling_topwork_*.py`, here in this folder. "
    "Or by path, with nothing but torch, transformers (4.57, or 5.3 and newer) and safetensors, and any number of "
    "checkpoints in one process:\n\n```python\nfrom runpy import run_path\n\n"
    'model, tokenizer = run_path("load.py")["load"]()\n```',
}
REGULAR_CARD = {
    "trust": "",
    "otherwise": "Its layers are regular: a plain config.json says all, and no code comes with it.",
}


def latency_met(budget: Mapping[str, Any]) -> str:
    """A budget in time, and how it was met, for the card."""
    how = budget["measured"]
    return (
        f"\nAsked: at most {budget['limit']:.3g} ms, which is {budget['limit'] / budget['dense']:.1%} of what the "
        f"dense model took at the start, for a batch of {how['batch_size']} with {how['length']} tokens; measured "
        f"{how['ms']:.3g} ms, and {how['dense_ms']:.3g} ms for the dense model in turn with it: "
        f"{budget['fraction']:.1%} "
        f"({how['runtime']}, {how['device_name']}, {how['threads']} threads, {how['passes']} passes whose quartiles "
        f"lie {how['spread']:.1%} apart).\n"
    )


ONNX_CARD = """
ONNX Runtime, any batch, and texts of any length that the model reads:

```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
batch = tokenizer(["some text", "another, longer text"], padding=True, truncation=True, return_tensors="np")
(logits,) = session.run(["logits"], {column.name: batch[column.name] for column in session.get_inputs()})
```
"""


def _quality(metric: str) -> Any:
    return lambda r: "{value} ({low} to {high})".format(**{k: shown(v, metric) for k, v in r["test"][metric].items()})


USUAL = {
    "regression": "the training mean",
    "multi_label_classification": "each label's commoner answer",
}  # always given

CARD_ROWS: Mapping[str, Any] = {
    "encoder parameters": lambda r: f"{r['encoder_params']:,}",
    "all parameters": lambda r: f"{r['model_params']:,}",
    "multiply-accumulates a text": lambda r: f"{r['macs']:,} ({r['macs_length']} tokens)",
    "weights on disk": lambda r: f"{r['bytes'] / 2**20:.1f} MiB",
    "latency, batch 1": lambda r: f"{r['latency_ms']['1']:.1f} ms",
    "latency, batch 32": lambda r: f"{r['latency_ms']['32']:.0f} ms",
    "speed-up, batch 1 / 32": lambda r: f"{r['speedup']['1']:.1f}x / {r['speedup']['32']:.1f}x",
}


def write_json(path: Path, value: Any) -> None:
    """Indented, with a final newline; non-finite numbers are an error."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_manifest(manifest: Mapping[str, Any], target: Path) -> None:
    """`manifest.json`, last: it names the sha256 of every other file."""
    files = {
        str(path.relative_to(target)): sha256(path)
        for path in sorted(target.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    write_json(target / "manifest.json", {**manifest, "files": files})


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def environment() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "cpu": cpu_name(),
        "processes": parallel.processes(),  # a GPU each, where there are several
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: version(name).split("+")[0] for name in LIBRARIES},
    }
