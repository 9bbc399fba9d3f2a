"""What lies in a folder of the models folder: a model as transformers saves it, or what else, and the mend."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from core.domains.channels.families import AUTO_CLASS, FAMILIES
from core.domains.config import read_config, read_object
from core.domains.weights import INDEX, WHOLE, require_weights
from core.spec.errors import SpecError

MAX_ENTRIES = 5_000
Entries = Mapping[str, os.stat_result | None]  # None: a link to what is not there

PRUNED = "the model was pruned already: its sizes, and parts of them, are those that it has now, not those it once had"
UNEVEN = "cannot be had of this model, whose layers differ since it was pruned: no plain config.json says such shapes; "
UNEVEN += "leave that out, or give the model that it was made of"

TEXTS = "AutoModelForSequenceClassification"  # of a folder of pictures the messages name that of pictures
SAVE = f"`{TEXTS}.from_pretrained(folder).save_pretrained(folder)`"
ADAPTER = (
    "it is an adapter (LoRA, PEFT), or has one beside its weights, which alone are another model: merge it with "
    "`AutoPeftModelForSequenceClassification.from_pretrained(folder).merge_and_unload().save_pretrained(new)` and give "
    "the new folder, with the tokenizer's files; or take the adapter's files away"
)
QUANTISED = "its weights are quantised ({}), which cannot be trained; give the model of floats that it was made of"

# What a folder is where one of its names is so, whatever else it holds.
ALWAYS = {
    "adapter_config.json": ADAPTER,
    "adapter_model.*": ADAPTER,
    "quantize_config.json": QUANTISED.format("GPTQ"),
    "quant_config.json": QUANTISED.format("AWQ"),
    "hf_quant_config.json": QUANTISED.format("ModelOpt"),
}
# And where it has no weights that are read, the first that fits.
PICKLE = (
    f"its weights are a pickle ({{name}}), which can run code and so is not read: convert it where you trust it, {SAVE}"
)
BY_TRANSFORMERS_4 = "its weights are of {} ({{name}}): in transformers 4, `AutoModelForSequenceClassification"
BY_TRANSFORMERS_4 += ".from_pretrained(folder, {}=True).save_pretrained(folder)`"
ELSE = {
    "model_index.json": "it is a pipeline of diffusers, which makes pictures; only models of transformers are read",
    "open_clip_config.json": "it is a model of OpenCLIP; only models that transformers saved are read",
    "gliner_config.json": "it is a model of GLiNER; only models that transformers saved are read",
    "config.cfg": "it is a pipeline of spaCy; give the transformers model inside, saved with `save_pretrained`",
    "*.ftz": "it is a model of fastText, which has no transformer",
    "consolidated*": "it is in the form of the model's maker ({name}): convert it to that of transformers",
    "*.gguf": QUANTISED.format("GGUF, for llama.cpp"),
    "*.ggml": QUANTISED.format("GGML, for llama.cpp"),
    "weights.npz": "its weights are of MLX ({name}); give the model of transformers that it was made of",
    "*.safetensors": f"its weights are named {{name}}, not {WHOLE}: rename the file if it holds all of them as "
    f"transformers names them, or save it anew, {SAVE}",
    "pytorch_model*": PICKLE,
    "*.bin": PICKLE,
    "*.pt": PICKLE,
    "*.pth": PICKLE,
    "*.ckpt": PICKLE,
    "*.pkl": PICKLE,
    "*.pickle": PICKLE,
    "*.joblib": PICKLE,
    "tf_model*": BY_TRANSFORMERS_4.format("TensorFlow", "from_tf"),
    "*.h5": BY_TRANSFORMERS_4.format("TensorFlow", "from_tf"),
    "*.ckpt.index": BY_TRANSFORMERS_4.format("TensorFlow", "from_tf"),
    "flax_model*": BY_TRANSFORMERS_4.format("Flax", "from_flax"),
    "*.msgpack": BY_TRANSFORMERS_4.format("Flax", "from_flax"),
    "saved_model.pb": "it is a SavedModel of TensorFlow, which is an export; give the model that it was made of",
    "*.keras": "it is a model of Keras; only models that transformers saved are read",
    "*.onnx": "it is an ONNX file ({name}), which is an export; give the model of transformers that it was made of",
    "onnx": "it is an ONNX file, which is an export; give the model of transformers that it was made of",
    "openvino_model*": "it is of OpenVINO, which is an export; give the model of transformers that it was made of",
    "*.tflite": "it is of TensorFlow Lite, which is an export; give the model of transformers that it was made of",
    "*.mlpackage": "it is of Core ML, which is an export; give the model of transformers that it was made of",
    "rust_model.ot": "its weights are of rust-bert ({name}); give the model of transformers that it was made of",
}
WRAPPERS = {
    "module": "DataParallel",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "checkpointing",
    "_forward_module": "Lightning Fabric",
    "auto_model": "sentence-transformers",
}
LFS = b"version https://git-lfs"


def entries(folder: Path) -> Entries:
    """What the folder holds, by name; raises SpecError('/model') where that cannot be told."""
    found: dict[str, os.stat_result | None] = {}
    try:
        with os.scandir(folder) as listed:
            for entry in listed:
                if len(found) == MAX_ENTRIES:
                    raise SpecError(
                        "/model", f"it holds more than {MAX_ENTRIES:,} files; leave the model's alone there"
                    )
                try:
                    found[entry.name] = entry.stat()
                except OSError:
                    found[entry.name] = None
    except OSError as error:
        if folder.is_symlink() and not folder.exists():
            raise SpecError("/model", _dangling("it")) from None
        raise SpecError("/model", f"its folder cannot be read: {error.strerror}") from error
    return found


def require_model(folder: Path) -> dict[str, Any]:
    """The config.json of a folder with a model; SpecError('/model') says what else it is, and the mend."""
    here = entries(folder)
    names = sorted(here)
    if gone := [name for name in names if here[name] is None]:
        raise SpecError("/model", _dangling(f"its {gone[0]}"))
    if not names:
        raise SpecError("/model", "its folder is empty; put config.json, model.safetensors and tokenizer files there")
    for pattern, says in ALWAYS.items():
        if any(fnmatchcase(name, pattern) for name in names):
            raise SpecError("/model", says)
    if WHOLE not in here and INDEX not in here:
        _require_weights_of(folder, names)
    if "config.json" not in here:
        raise SpecError("/model", "it has no config.json; write it with `model.save_pretrained(folder)`")
    for name in (WHOLE, "config.json", "tokenizer.json"):
        if name in here and _begins(folder / name, LFS):
            raise SpecError("/model", f"its {name} is a pointer of Git LFS, not the file: fetch it with `git lfs pull`")
    values = read_config(folder / "config.json")
    if "model_type" not in values:
        library = "timm" if {"pretrained_cfg", "num_classes"} & {*values} else "another library"
        raise SpecError(
            "/model",
            f"its config.json names no 'model_type': it is of {library}, and only models of transformers are read",
        )
    for name in names:
        if name.endswith("config.json") and name != "config.json":
            read_object(folder / name)
    require_weights(folder)
    return values


def of_images(folder: Path) -> bool:
    """Whether the config.json of a folder says that it classifies pictures."""
    try:
        return read_config(folder / "config.json").get("model_type") in FAMILIES
    except SpecError:
        return False


def require_names(names: Iterable[str], base: str, layers: str) -> None:
    """Raises SpecError('/model') where tensors are named as by something that was wrapped around the model.

    `base`, `layers`: where the family has its body in the task's model, and its layers in the body.
    """
    mark = f"{layers}.0."
    for name in names:
        parts = name.split(".")
        if "lora_A" in parts or "lora_B" in parts or name.startswith("base_model.model."):
            raise SpecError("/model", ADAPTER)
        part = next((part for part in parts if part in WRAPPERS and part != base), None)
        prefix, found, _ = name.partition(mark)
        if part or (found and prefix not in ("", f"{base}.") and prefix.endswith(".")):
            odd = f"{part}." if part else prefix[:60]
            renamed = f"{{k.replace({odd!r}, ''): v for k, v in load_file(f).items()}}"
            raise SpecError(
                "/model",
                f"its weights are named with '{odd}' as in '{name[:80]}'{f', as {WRAPPERS[part]} does' if part else ''}"
                ": save the model that was wrapped, with its own `save_pretrained`, or rename them: "
                f"`save_file({renamed}, f, {{'format': 'pt'}})`",
            )


def _require_weights_of(folder: Path, names: list[str]) -> None:
    """Says what a folder is that has no weights as they are read, if that can be told."""
    if inner := _inside(folder, names):
        raise SpecError("/model", inner)
    for pattern, says in ELSE.items():
        if name := next((name for name in names if fnmatchcase(name, pattern)), None):
            says = says.replace(TEXTS, AUTO_CLASS) if of_images(folder) else says
            raise SpecError("/model", says.replace("{name}", name[:60]))


def _inside(folder: Path, names: list[str]) -> str | None:
    """Where the model lies in a folder of the folder."""
    if "snapshots" in names and "blobs" in names:
        return (
            "it is a folder of the hub's cache: copy what is in snapshots/COMMIT, with its links followed: "
            "`cp -rL .../snapshots/COMMIT models/NAME`"
        )
    inner = [name for name in names if (folder / name / "config.json").is_file()]
    if not inner:
        return None
    if "modules.json" in names:
        return (
            f"it is a model of sentence-transformers, whose transformer lies in {inner[0][:60]}: give that folder as a "
            "model of its own, with the tokenizer's files"
        )
    # Of a trainer's checkpoints the latest has the highest number.
    name = max(
        inner, key=lambda name: (int(name.rpartition("-")[2]) if name.rpartition("-")[2].isdecimal() else -1, name)
    )
    return f"its model lies one folder deeper, in {name[:60]}: make that folder a model of its own in the models folder"


def _dangling(what: str) -> str:
    return (
        f"{what} is a link to a file that is not here, as when a cache was copied: copy it with links followed, "
        "`cp -rL FROM models/NAME`"
    )


def _begins(file: Path, start: bytes) -> bool:
    try:
        with file.open("rb") as data:
            return data.read(len(start)) == start
    except OSError as error:
        raise SpecError("/model", f"its {file.name} cannot be read: {error.strerror}") from error
