"""A model's folder, as far as it can be told without torch: its architecture, the shapes of its weights, its head.

What was read is kept until a file of the folder changes: to look again costs a `stat` of each.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from core.domains.config import MAX_ADDED_BYTES, named, read_object
from core.domains.folder import UNEVEN, entries, require_model, require_names
from core.domains.head import Head, choose_head
from core.domains.structure import ATTENTION, FFN, Structure
from core.domains.transformer.costs import Costs
from core.domains.transformer.families import VOCABULARIES, Architecture, head_labels, require_tokenizer
from core.domains.transformer.pooling import Recipe, read_recipe
from core.domains.weights import read_all_shapes, require_weights
from core.spec.errors import SpecError
from core.spec.job import ONNX_FILES, JobSpec, Pooling, Precision
from core.spec.task import POOLED, ProblemType

KEPT = 256  # folders whose facts are held
MAX_TOKENIZER_BYTES = 64 * 2**20
PARSED_BYTES = 4 * 2**20  # of a tokenizer.json; in a larger one only what was added is looked at
WORDS = ("word_embeddings.weight", "tok_embeddings.weight", "embed_tokens.weight")
POSITIONS = "position_embeddings.weight"
WHOLE_ONE = "give the model that it was made of"
STRETCHING = ("dynamic", "longrope")  # ways to scale rotary positions by the length of the text at hand


@dataclass(frozen=True)
class LocalModel:
    """A model that can be pruned without a download."""

    name: str
    architecture: Architecture
    shapes: Mapping[str, tuple[int, ...]]
    size_bytes: int
    labels: tuple[str, ...] = ()  # that its head knows, where it has one
    reads: int | None = None  # tokens of a text, at most; None where config.json does not say
    stretches: bool = False  # its positions scale with the text's length
    recipe: Recipe | None = None  # from hidden states to a vector, where vectors are asked for
    pooled: str | None = None  # where it was trained to give vectors of texts, as its modules.json says
    pruned: bool = False  # by an earlier job: parts of it are parts of what that has left

    def require(self, spec: JobSpec) -> None:
        """Raises SpecError for what a job asks that the model cannot be."""
        why = "this model's positions scale with the text's length, which ONNX cannot say"
        if self.stretches and spec.budget.runtime in ONNX_FILES:
            raise SpecError("/budget/runtime", f"{why}; give 'torch' or 'torch.compile'")
        if self.stretches and spec.onnx_formats:
            raise SpecError("/export/formats", f"{why}; leave 'onnx' and 'onnx-int8' out")
        if self.architecture.earlier and self.pooled is not None and self.recipe is None:
            raise SpecError("/model", f"it was pruned as an embedding model, and is no other now: {WHOLE_ONE}")
        if self.architecture.earlier and spec.export.layout != "free":
            raise SpecError("/export/layout", f"'{spec.export.layout}' {UNEVEN}")
        if self.architecture.earlier and spec.budget.sparsity is not None:
            raise SpecError("/budget/sparsity", f"in place of units {UNEVEN}")
        if self.recipe and (self.recipe.dense or spec.maps_vectors) and spec.export.precision != "float32":
            field = "dimensions" if spec.task.dimensions else "hidden_size"
            has = "this model has Dense layers" if self.recipe.dense else f"'{field}' puts a Dense layer"
            raise SpecError(
                "/export/precision",
                f"{has} behind the pooling, which sentence-transformers runs in float32 whatever the body has: leave "
                "'precision' out",
            )
        if self.recipe and spec.task.dimensions:
            width = self.recipe.dense[-1].rows if self.recipe.dense else self.architecture.hidden
            if spec.task.dimensions[-1] >= width:
                raise SpecError("/task/dimensions", f"the model's vectors have {width:,} dimensions: give fewer")

    def answering(self, spec: JobSpec, labels: Sequence[str]) -> tuple[LocalModel, Head]:
        """The head that a job starts with, and the model as that reads it; SpecError('/pooling')."""
        head = choose_head(self.labels, labels, spec.task.problem, self.recipe)
        family, pooling = self.architecture.family, self._pooling(spec, head.own)
        if pooling:
            family = family.reading(pooling)
        if family.pooling == "mean":
            head = replace(head, says=f"{head.says}; it reads the mean of the tokens")
        if self.by_pairs(spec, head):
            head = replace(head, says=f"{head.says}; pairs of rows are taught before it")
        return replace(self, architecture=replace(self.architecture, family=family)), head

    def _pooling(self, spec: JobSpec, own: bool) -> Pooling | None:
        """Where the answer is to be read; None: where it is, as of a head of its `own`, which knows no other place."""
        family, asked = self.architecture.family, spec.pooling
        if spec.task.type not in POOLED:
            return None
        if asked == "first" or family.says_pooling:
            why = ""
        elif family.reads_last:
            why = f"family '{family.model_type}' reads the last token, which has seen all others: leave it out"
        elif spec.export.layout != "free" or spec.sparse:
            why = "no plain config.json of this family can say 'mean', and this job writes no other: say 'first'"
        else:
            why = ""
        if asked == "auto":
            return "mean" if self.pooled == "mean" and not own and not why else None
        if own and (asked == "mean") == family.reads_one:
            why = "the model's own head, which is kept, was trained to read another place: leave it out"
        if why:
            raise SpecError("/pooling", why)
        return asked

    def by_pairs(self, spec: JobSpec, head: Head) -> bool:
        """Whether pairs of rows are taught before a fresh head: where nothing is said, of a model of text vectors.

        Raises SpecError('/train/contrastive').
        """
        asked = spec.train.contrastive
        if head.own and asked is True:
            raise SpecError("/train/contrastive", "is for a fresh head, and this model keeps its own: leave it out")
        if asked != "auto":
            return asked
        return not (head.own or spec.teaches_mixed) and self.pooled is not None and spec.task.by_class

    def costs(
        self, labels: int = 0, length: int = 1, *, mapped: bool = False, precision: Precision = "float32"
    ) -> Costs:
        """With a classifier for so many labels on top, for texts of `length` tokens, or as long as it reads.

        Of vectors, with what makes them; `mapped`: with a Dense layer in any case. Raises SpecError('/model').
        """
        length = min(length, self.reads or length)
        if self.recipe is not None:
            return self._of_vectors(length, mapped, precision)
        family, columns = self.architecture.family, self.architecture.hidden
        features = self.architecture.features or columns
        head: dict[str, tuple[int, ...]] = {}
        for path in family.head_layers:
            rows = labels if path == family.head_layers[-1] else features
            head |= {f"{path}.weight": (rows, columns)}
            head |= {f"{path}.bias": (rows,)} if path not in family.biasless else {}
            columns = features
        head |= {f"{path}.weight": (features,) for path in family.head_norms}
        shapes = {**self.shapes, **head} if labels else self.shapes
        return Costs.from_shapes(self.architecture, shapes, length, precision=precision)

    def _of_vectors(self, length: int, mapped: bool, precision: Precision) -> Costs:
        assert self.recipe is not None
        a = self.architecture
        head = self.recipe.shapes(a.family.head, a.hidden, mapped)
        paths = tuple(dict.fromkeys(name.rpartition(".")[0] for name in head))
        of_head = replace(a, family=replace(a.family, head_layers=paths))
        return Costs.from_shapes(of_head, {**self.shapes, **head}, length, precision=precision)

    @cached_property
    def dense(self) -> Costs:
        """Without a task head. Raises SpecError('/model')."""
        return self.costs()

    @property
    def encoder_params(self) -> int:
        """Parameters of the dense encoder."""
        return self.dense.params.dense

    @property
    def model_params(self) -> int:
        """Parameters of the dense model without a task head."""
        return self.dense.params.model(Structure.dense(self.architecture.anatomy))


def read_model(folder: Path, problem: ProblemType = "single_label_classification") -> LocalModel:
    """The model in a folder; raises SpecError('/model') that says what else it is, or what is wrong, and the mend."""
    here = sorted(entries(folder).items())
    names = [name for name, s in here if s and S_ISDIR(s.st_mode)]
    if "modules.json" in dict(here):  # what that names decides, too
        here += [(f"{name}/{part}", s) for name in names for part, s in sorted(entries(folder / name).items())]
    stamp = tuple((name, s and (s.st_mtime_ns, s.st_size, s.st_ino)) for name, s in here)
    found = _look(folder, problem, stamp)
    if isinstance(found, str):
        raise SpecError("/model", found)
    return found


@lru_cache(KEPT)
def _look(folder: Path, problem: ProblemType, stamp: Any) -> LocalModel | str:
    """`stamp` tells one state of the folder from another. What is wrong is an answer, too, and kept like any."""
    try:
        return _read(folder, problem)
    except SpecError as error:
        return error.message


def _read(folder: Path, problem: ProblemType) -> LocalModel:
    values = require_model(folder)
    architecture = Architecture.from_config(values, problem)
    family = architecture.family
    if architecture.earlier and family.of_vectors and not (folder / "modules.json").is_file():
        raise SpecError("/model", f"it was pruned for another task, and gives no vectors now: {WHOLE_ONE}")
    require_tokenizer(folder)
    _require_small(folder)
    files = require_weights(folder)
    shapes = read_all_shapes(files)
    require_names(shapes, family.base, family.layers)
    prefix = f"{family.base}."
    # A checkpoint of another task brings that task's head: it is left behind when the body is loaded.
    inside = {name: shape for name, shape in shapes.items() if name.startswith(prefix)}
    body = inside or {prefix + name: shape for name, shape in shapes.items()}
    pooler = f"{prefix}pooler."  # where the task model has none, it is left behind, too
    used = any(path.startswith(pooler) for path in family.head_layers)
    kept = {name: shape for name, shape in body.items() if used or not name.startswith(pooler)}
    layers = [shapes.get(f"{path}.weight") for path in family.head_layers]
    head = layers[-1] if layers and all(layers) else None
    labels = head_labels(values.get("id2label"), head[0]) if head and len(head) == 2 else ()
    positions = values.get("max_position_embeddings")
    reads = positions - family.extra_positions if positions is not None else None
    if reads is not None and reads < 1:
        raise SpecError("/model", f"its config.json says {positions} for 'max_position_embeddings': it reads no token")
    size = sum(file.stat().st_size for file in files)
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    stretches = any(name in ("rope_type", "type") and value in STRETCHING for name, value in named(rope))
    pruned = architecture.earlier is not None or (folder / "structure.json").is_file()
    recipe = read_recipe(folder) if family.of_vectors else None
    pooled = None if family.of_vectors else _pooled(folder)
    if recipe:
        recipe.require(architecture.hidden)
        architecture = replace(architecture, family=replace(family, reads_one=recipe.reads_one))
    model = LocalModel(folder.name, architecture, kept, size, labels, reads, stretches, recipe, pooled, pruned)
    model.dense  # noqa: B018  raises SpecError where the weights are not of this config.json
    _require_layers(architecture, kept)
    _require_embeddings(
        folder, values, {name: shape for name, shape in kept.items() if f".{family.embeddings}" in name}
    )
    return model


def _pooled(folder: Path) -> str | None:
    """What a `modules.json` says; None without one that can be read: vectors are not asked for."""
    if not (folder / "modules.json").is_file():
        return None
    try:
        return read_recipe(folder).pooling
    except SpecError:
        return None


def _require_layers(architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Every layer has what the others have, in the same shapes, and as many neurons as config.json says.

    A family's first may be built unlike the others, and projections of relative positions may be missing.
    """
    family = architecture.family
    start = f"{family.base}.{family.layers}."
    parts: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for name, shape in shapes.items():
        if name.startswith(start):
            layer, _, part = name.removeprefix(start).partition(".")
            parts[part][layer] = shape
    if architecture.earlier:
        return _require_units(architecture, parts)
    for part, of in parts.items():
        if len({*of.values()}) > 1:
            raise SpecError(
                "/model",
                f"its layers differ: '{part[:80]}' has the shapes {sorted({*of.values()})[:2]}, as of a model that was "
                "pruned already; give the one that it was made of",
            )
        alike = [str(i) for i in range(family.first_layer_stays, architecture.layers)]
        lacking = [i for i in alike if i not in of]
        if lacking and lacking != alike and not part.startswith(family.relative):
            raise SpecError("/model", f"its weights lack '{start}{lacking[0]}.{part[:80]}', which other layers have")
    neurons = parts[f"{family.ffn_out}.weight"].get("0")
    if neurons != (architecture.hidden, architecture.neurons):
        raise SpecError(
            "/model",
            f"its config.json has {architecture.neurons:,} neurons in a layer for {architecture.hidden:,} hidden "
            f"dimensions, but its weights have {'none' if neurons is None else ' and '.join(map(str, neurons[::-1]))}",
        )


def _require_units(architecture: Architecture, parts: Mapping[str, Mapping[str, tuple[int, ...]]]) -> None:
    """Of a pruned model: each block has the units that config.json says under 'topwork'."""
    family = architecture.family
    paths = {ATTENTION: (family.attention_out, architecture.head_width), FFN: (family.ffn_out, 1)}
    for block in architecture.anatomy.blocks:
        path, width = paths[block.kind]
        found = parts.get(f"{path}.weight", {}).get(block.name.rpartition(".")[2])
        if found != ((architecture.hidden, block.size * width) if block.size else None):
            raise SpecError("/model", f"its weights are not what config.json says under 'topwork' of {block.name}")


def _require_embeddings(folder: Path, values: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """The vocabulary and the positions are as config.json says, and no token is without an embedding."""
    for name, shape in shapes.items():
        field = "max_position_embeddings" if name.endswith(POSITIONS) else "vocab_size"
        if not name.endswith((*WORDS, POSITIONS)) or len(shape) != 2:
            continue
        if (said := values.get(field)) is not None and said != shape[0]:
            raise SpecError(
                "/model", f"its config.json says {said:,} for '{field}', but its weights have {shape[0]:,} rows for it"
            )
        if field == "vocab_size" and (tokens := _tokens(folder)) > shape[0]:
            raise SpecError(
                "/model",
                f"its tokenizer knows {tokens:,} tokens, but it has {shape[0]:,} embeddings: where tokens were added, "
                "`model.resize_token_embeddings(len(tokenizer))` before it is fine-tuned and saved; else put the "
                "tokenizer that belongs to these weights beside them",
            )


def _tokens(folder: Path) -> int:
    """One more than the highest id of a token that its files name, as far as that is cheaply told."""
    highest = -1
    file = folder / "tokenizer.json"
    try:
        if file.is_file():
            highest = max(highest, *_ids(file))
        elif (file := folder / "vocab.txt").is_file():
            with file.open("rb") as lines:
                highest = sum(1 for _ in lines) - 1
        if (file := folder / "added_tokens.json").is_file():
            highest = max(highest, *read_object(file).values(), -1)
        if (file := folder / "tokenizer_config.json").is_file():
            highest = max(highest, *map(int, read_object(file).get("added_tokens_decoder") or ()), -1)
        return highest + 1
    except SpecError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        said = f"its {file.name} is none of a tokenizer; save it anew with `save_pretrained`"
        raise SpecError("/model", said) from error


def _ids(file: Path) -> list[int]:
    """Of tokens in a tokenizer.json; at least one number."""
    if file.stat().st_size > PARSED_BYTES:
        with file.open(encoding="utf-8", errors="replace") as text:
            _, found, rest = text.read(MAX_ADDED_BYTES).partition('"added_tokens":')
        return [token["id"] for token in json.JSONDecoder().raw_decode(rest.lstrip())[0]] if found else [-1]
    known = json.loads(file.read_bytes())
    vocabulary = known["model"]["vocab"]
    ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    return [-1, *ids] + [token["id"] for token in known.get("added_tokens") or ()]


def _require_small(folder: Path) -> None:
    for name in VOCABULARIES:
        if (folder / name).is_file() and (folder / name).stat().st_size > MAX_TOKENIZER_BYTES:
            raise SpecError("/model", f"its {name} has over {MAX_TOKENIZER_BYTES:,} bytes; no vocabulary has as many")
