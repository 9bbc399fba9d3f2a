"""A model's folder becomes the network that is trained: weights, a head for the task, or what makes vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig

from core.domains.config import read_config
from core.domains.network import TARGET, last_linear, require_whole
from core.domains.transformer.embedder import Embedder, head_of, linears
from core.domains.transformer.families import FAMILIES, Architecture, head_labels, require_fitted
from core.domains.transformer.mean import read_mean
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import configs
from core.domains.transformer.pooling import read_recipe
from core.domains.transformer.shrink import shrink
from core.domains.weights import require_weights
from core.spec.errors import SpecError
from core.spec.job import Pooling
from core.spec.task import NUMBERED, ProblemType

# What config.json may say, and is ours to say: number formats, ways to compute, the head, what is returned.
OURS: tuple[str, ...] = ("dtype", "torch_dtype", "id2label", "label2id", "num_labels", "problem_type", "return_dict")
OURS += ("output_attentions", "output_hidden_states")


def own_config(model_dir: Path) -> Any:
    """The configuration of a model that was given, without what is ours to say; SpecError('/model')."""
    Architecture.from_config(read_config(model_dir / "config.json"))
    return own_values(model_dir)


def own_values(model_dir: Path) -> Any:
    """As `own_config`, of any kind of model."""
    values = read_config(model_dir / "config.json")
    kept = {name: value for name, value in values.items() if name not in OURS and "_implementation" not in name}
    kept.pop("topwork", None)
    with readable(model_dir, "config.json"):
        return CONFIG_MAPPING[values["model_type"]].from_dict(kept)


def read_architecture(model_dir: Path, problem: ProblemType = "single_label_classification") -> Architecture:
    """The numbers of a checkpoint's `config.json`, be it one of ours or as it was given."""
    with readable(model_dir, "config.json"):
        config = AutoConfig.from_pretrained(model_dir, trust_remote_code=False).to_dict()
    return Architecture.from_config(config, problem)


@contextlib.contextmanager
def readable(model_dir: Path, what: str) -> Iterator[None]:
    """Turns what transformers says of a part of the model that it cannot read into SpecError('/model')."""
    try:
        yield
    except (SpecError, MemoryError, RuntimeError):
        raise
    except Exception as error:  # of many kinds; those of its tokenizers are plain ones
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the model's
            raise
        said = (str(error).strip() or "no reason given").splitlines()[0].replace(f"{model_dir}/", "")
        raise SpecError(
            "/model", f"transformers cannot read its {what}: {type(error).__name__}: {said[:300]}"
        ) from error


def load_network(
    model_dir: Path,
    labels: Sequence[str],
    seed: int,
    problem: ProblemType = "single_label_classification",
    *,
    fitted: bool = False,
    mapped: bool = False,
    pooling: Pooling | None = None,
) -> TransformerNetwork:
    """The pre-trained model with a head for `labels`; SpecError('/model') if another weight is missing.

    The head is fresh, unless the model's own knows these very labels, and is put into their order, or is of a number.
    The pooler may be missing, too: a model that was trained on words alone has none. `fitted`: the head is to know
    these labels already; SpecError('/train/steps/teach') if it does not. Where vectors are asked for, it is the body
    with what its `modules.json` says; `mapped`: a Dense layer behind the pooling, too. `pooling`: where the answer is
    read, if not where the model does.
    """
    torch.manual_seed(seed)
    config = own_config(model_dir)
    said = read_config(model_dir / "config.json")
    architecture = Architecture.from_config(config.to_dict() | {"topwork": said.get("topwork")}, problem)
    if pooling:
        architecture = replace(architecture, family=architecture.family.reading(pooling))
    family = architecture.family
    if pooling and family.says_pooling:
        config.classifier_pooling = "mean" if pooling == "mean" else "cls"
    if not family.of_vectors:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: i for i, label in enumerate(labels)}
        config.problem_type = None if problem in ("token_classification", "text_ranking") else problem
    config.return_dict, config.chunk_size_feed_forward = True, 0  # the latter is of a width that is cut
    task_class = getattr(transformers, family.task_class)
    pooler = "add_pooling_layer" in signature(task_class).parameters  # that no vector is read from
    bare = {"add_pooling_layer": False} if pooler else {}
    with readable(model_dir, "config.json and weights"):
        if architecture.earlier:
            body, info = pruned_before(model_dir, task_class(config, **bare), architecture)
        else:
            body, info = task_class.from_pretrained(
                model_dir,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # a head for other classes gives way; anything else is refused below
                output_loading_info=True,
                **bare,
            )
    for part in configs(body):
        part.use_cache = False  # it classifies, and never goes on with a text
    if family.of_vectors:
        body, architecture, info = with_recipe(body, architecture, info, model_dir, mapped)
        family = architecture.family
    wrong = {key for key in info["missing_keys"] if key.startswith(f"{family.base}.")}
    wrong -= {key for key in wrong if key.startswith(family.head_layers)}
    wrong |= {key for key, *_ in info["mismatched_keys"] if not key.startswith(f"{family.head}.")}
    require_whole(body, wrong)
    if family.means:
        read_mean(body, architecture.paths)
    network = TransformerNetwork(body, architecture)
    if family.of_vectors:
        return network
    known = head_labels(said.get("id2label"), len(labels))
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if fitted:
        require_fitted({} if any(key.startswith(family.head_layers) for key in fresh) else known, labels, problem)
    _, last = last_linear(network.heads[TARGET])
    if any(key.startswith(family.head_layers[-1]) for key in fresh):
        pass  # transformers has made one
    elif {*known} == {*labels}:
        for parameter in last.parameters():
            parameter.data = parameter.data[[known.index(label) for label in labels]]
    elif problem not in NUMBERED:  # what each of its classes is, is not known
        nn.init.normal_(last.weight, std=config.initializer_range)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    return network


def with_recipe(
    body: Any, architecture: Architecture, info: Mapping[str, Any], folder: Path, mapped: bool
) -> tuple[Embedder, Architecture, dict[str, Any]]:
    """The plain body with pooling and head, as the folder says; names of weights are then as in a model for a task."""
    family, recipe = architecture.family, read_recipe(folder)
    head = head_of(recipe, architecture.hidden, mapped)
    family = replace(family, head_layers=linears(head), reads_one=recipe.reads_one)
    found = {
        "missing_keys": {f"{family.base}.{key}" for key in info["missing_keys"]},
        "mismatched_keys": [(f"{family.base}.{key}", *rest) for key, *rest in info["mismatched_keys"]],
    }
    return Embedder(body, family.base, recipe, head), replace(architecture, family=family), found


def pruned_before(folder: Path, body: Any, architecture: Architecture) -> tuple[Any, dict[str, Any]]:
    """`body` as a pruned checkpoint has it, and what is not in that, as `from_pretrained` says it. None of its code is
    run."""
    assert architecture.earlier is not None
    family = architecture.family
    shrink(body, architecture.paths, architecture.earlier.shape(), f"{family.base}." * family.of_vectors)
    whole = FAMILIES[family.model_type]
    paths = *whole.head_layers, *whole.head_norms, family.head, f"{family.base}.pooler"
    unused = tuple(f"{path}." for path in paths)  # of another task
    return filled(folder, body, unused, f"{family.base}." * family.of_vectors)


def filled(folder: Path, body: Any, unused: tuple[str, ...], prefix: str = "") -> tuple[Any, dict[str, Any]]:
    """`body`, which has its shapes, with the weights of a pruned checkpoint, and what `from_pretrained` would say.

    `prefix` is taken off their names. Those that begin with `unused` may be more than the body has; others are a
    SpecError('/model'). What the checkpoint has not, or in another shape, is drawn anew.
    """
    weights = {name: tensor for file in require_weights(folder) for name, tensor in load_file(file).items()}
    weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    wanted = body.state_dict()
    if extra := sorted(name for name in {*weights} - {*wanted} if not name.startswith(unused)):
        raise SpecError("/model", f"its weights have what its config.json does not say: {extra[:3]}")
    odd = {name for name in {*weights} & {*wanted} if weights[name].shape != wanted[name].shape}
    body.load_state_dict({name: tensor for name, tensor in weights.items() if name not in odd}, strict=False)
    fresh = {*wanted} - {*weights} | odd
    for name, module in body.named_modules():
        if any(f"{name}.{part}" in fresh for part, _ in module.named_parameters(recurse=False)):
            body._init_weights(module)
    return body, {"missing_keys": {*wanted} - {*weights}, "mismatched_keys": [(name,) for name in odd]}
