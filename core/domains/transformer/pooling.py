"""How a sentence-transformers folder makes a vector of a text: its `modules.json`, read without torch.

The body's last hidden states are pooled into one vector, which Dense layers map to others, and which may be normalised.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.domains.config import read_object
from core.domains.weights import read_shapes
from core.spec.errors import SpecError

MODES = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}
COMPARED = {"dot": "dot product", "euclidean": "Euclidean distance", "manhattan": "Manhattan distance"}
MAX_BYTES = 100_000  # of modules.json
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU")


@dataclass(frozen=True)
class Dense:
    """A Linear behind the pooling, its folder, and what follows it (a class of torch.nn)."""

    folder: Path
    activation: str
    rows: int
    columns: int
    bias: bool


@dataclass(frozen=True)
class Recipe:
    """From hidden states to a vector."""

    pooling: str = "mean"
    dense: tuple[Dense, ...] = ()
    normalised: bool = False
    says: str = "mean of the tokens, as sentence-transformers does with a model that says nothing"
    prompts: tuple[tuple[str, str], ...] = ()  # by name, that it was trained with, before a text
    lowers: bool = False  # whether sentence-transformers gives it texts in lower case
    similarity: str = "cosine"  # as sentence-transformers calls what the model compares vectors by

    @property
    def reads_one(self) -> bool:
        """Whether a vector is of one token's hidden state."""
        return self.pooling in ("first", "last")

    @property
    def hint(self) -> str | None:
        """What its user has to do."""
        hints = []
        if self.prompts:
            said = ", ".join(repr(prompt[:60]) for _, prompt in self.prompts[:3])
            hints.append(f"was trained with {said} before its texts, which is not put there: let the data have it")
        if self.lowers:
            hints.append("was trained on texts in lower case, which they are not put into: let the data be so")
        if other := compared(self.similarity, self.normalised):
            hints.append(f"compares texts by {other}; here cosines are measured")
        return f"the model {'; it '.join(hints)}" if hints else None

    def require(self, hidden: int | None) -> None:
        """Raises SpecError('/model') where a Dense layer does not fit what is before it; `hidden`: of the body."""
        width = hidden
        for dense in self.dense:
            if width not in (None, dense.columns):
                raise SpecError("/model", f"the Dense layer in its {dense.folder.name} does not fit what is before it")
            width = dense.rows

    def shapes(self, head: str, hidden: int, mapped: bool) -> dict[str, tuple[int, ...]]:
        """Of the parameters behind the pooling, as a module `head`; `mapped`: with a Dense layer in any case."""
        found: dict[str, tuple[int, ...]] = {}
        for number, dense in enumerate(self.dense):
            found[f"{head}.dense{number}.weight"] = (dense.rows, dense.columns)
            found |= {f"{head}.dense{number}.bias": (dense.rows,)} if dense.bias else {}
        return {f"{head}.dense0.weight": (hidden, hidden)} if mapped and not found else found


def read_recipe(folder: Path) -> Recipe:
    """What `modules.json` says; where there is none, the mean. SpecError('/model') for what is not known here."""
    if not (folder / "modules.json").is_file():
        return Recipe()
    pooling, dense, normalised = "", list[Dense](), False
    for module in _modules(folder / "modules.json"):
        kind, where = _facts(module)
        if kind == "Pooling" and not pooling:
            pooling = _pooling(folder / where / "config.json")
        elif kind == "Dense" and pooling and not normalised:
            dense.append(_dense(folder / where))
        elif kind == "Normalize" and pooling:
            normalised = True
        elif kind != "Transformer" or pooling:
            known = "Transformer, Pooling, Dense and Normalize, in this order"
            raise SpecError("/model", f"its modules.json has '{kind[:60]}' where it stands; known are {known}")
    if not pooling:
        raise SpecError("/model", "its modules.json has no Pooling, so that it gives no vector of a text")
    says = {"first": "first token", "last": "last token", "mean": "mean of the tokens", "max": "maximum over tokens"}
    said = says[pooling] + ", a Dense layer" * bool(dense) + ", normalised" * normalised
    settings = folder / "config_sentence_transformers.json"
    told = read_object(settings) if settings.is_file() else {}
    similarity = str(told.get("similarity_fn_name"))
    similarity = similarity if similarity in COMPARED else "cosine"
    if other := compared(similarity, normalised):
        said += f", compared by {other}, here by cosine"
    return Recipe(
        pooling, tuple(dense), normalised, f"{said} (modules.json)", _prompts(told), _lowers(folder), similarity
    )


def compared(similarity: str, normalised: bool) -> str | None:
    """By what texts are compared, if not as by their cosine: of vectors of length 1 all but one give its order."""
    return None if normalised and similarity != "manhattan" else COMPARED.get(similarity)


def _prompts(told: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    said = told.get("prompts")
    named = said.items() if isinstance(said, dict) else ()
    return tuple((name, prompt) for name, prompt in named if isinstance(prompt, str) and prompt)


def _lowers(folder: Path) -> bool:
    said = folder / "sentence_bert_config.json"
    return said.is_file() and read_object(said).get("do_lower_case") is True


def _modules(file: Path) -> list[Any]:
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError("/model", "its modules.json cannot be read as JSON") from error
    if not isinstance(found, list):
        raise SpecError("/model", "its modules.json is not a list of modules")
    return found


def _facts(module: Any) -> tuple[str, str]:
    if not isinstance(module, dict) or not all(isinstance(module.get(name), str) for name in ("type", "path")):
        raise SpecError("/model", "its modules.json is not a list of modules with 'type' and 'path'")
    if ".." in module["path"] or module["path"].startswith("/"):
        raise SpecError("/model", "its modules.json names a path outside its folder")
    return module["type"].rpartition(".")[2], module["path"]


def _pooling(file: Path) -> str:
    said, found = read_object(file), list[str]()
    if isinstance(said.get("pooling_mode"), str):  # as of sentence-transformers 5.5
        mode = {"cls": "first", "lasttoken": "last"}.get(said["pooling_mode"], said["pooling_mode"])
        found = [mode] if mode in MODES.values() else []
    else:
        found = [MODES.get(name, "") for name, on in said.items() if name.startswith("pooling_mode_") and on is True]
    if len(found) != 1 or not found[0]:
        raise SpecError("/model", f"its pooling is none of {', '.join(MODES.values())}, or several at once")
    return found[0]


def _dense(folder: Path) -> Dense:
    said = read_object(folder / "config.json")
    activation = str(said.get("activation_function", "torch.nn.modules.linear.Identity")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise SpecError("/model", f"a Dense layer of it has the activation '{activation[:60]}'; known are {known}")
    if said.get("use_residual") or said.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise SpecError("/model", "a Dense layer of it is beside others, and not behind them: that is not known here")
    if not (folder / "model.safetensors").is_file():
        raise SpecError("/model", f"its {folder.name} has no model.safetensors: save it with sentence-transformers")
    shapes = read_shapes(folder / "model.safetensors")
    weight = shapes.get("linear.weight", ())
    if len(weight) != 2 or shapes.get("linear.bias", weight[:1]) != weight[:1]:
        raise SpecError("/model", f"its {folder.name} holds no Linear: save it with sentence-transformers")
    return Dense(folder, activation, *weight, "linear.bias" in shapes)
