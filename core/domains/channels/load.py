"""A model's folder becomes the image classifier that is trained: weights, a head for the task, and what can be cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from core.domains.channels.costs import ImageCosts
from core.domains.channels.families import Family, family_of
from core.domains.channels.graph import Graph
from core.domains.channels.model import NO_PART, Shapes, earlier_of
from core.domains.channels.network import ChannelNetwork
from core.domains.channels.own_readers.readers import own_readers
from core.domains.channels.resize import shapes_from
from core.domains.channels.tracing.trace import trace
from core.domains.config import read_config
from core.domains.network import TARGET, last_linear, require_whole
from core.domains.transformer.families import head_labels, require_fitted
from core.domains.transformer.load import filled, own_values, readable
from core.spec.errors import SpecError
from core.spec.task import ProblemType

LEAST = 0.05  # of the multiply-accumulates, that have to be able to go


def load_images(
    folder: Path,
    labels: Sequence[str],
    seed: int,
    problem: ProblemType,
    *,
    side: int,
    multiple: int = 1,
    own: bool = False,
    fitted: bool = False,
) -> ChannelNetwork:
    """The pre-trained model with a head for `labels`; SpecError('/model') if another weight is missing.

    The head is fresh, unless the model's own knows these very labels, and is put into their order. `side`: pixels of
    the pictures that it is traced by. `own`: readers may read their own channels; SpecError('/channels/readers') where
    they cannot. `fitted`: the head is to know these labels; SpecError('/train/steps/teach').
    """
    torch.manual_seed(seed)
    said = read_config(folder / "config.json")
    family = family_of(said)
    body, info = read_body(folder, family, labels, problem, earlier_of(said))
    wrong = {key for key in info["missing_keys"] if not key.startswith(f"{family.head}.")}
    wrong |= {key for key, *_ in info["mismatched_keys"] if not key.startswith(f"{family.head}.")}
    require_whole(body, wrong)
    fresh = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    known = head_labels(said.get("id2label"), len(labels)) if not fresh else ()
    if fitted:
        require_fitted(known, labels, problem)
    network = ChannelNetwork(body, family, graph_of(body, side, own), side, multiple, earlier_of(said))
    _, last = last_linear(network.heads[TARGET])
    if known and {*known} == {*labels}:
        for parameter in last.parameters():
            parameter.data = parameter.data[[known.index(label) for label in labels]]
    elif not fresh:  # of as many classes, which are others
        nn.init.normal_(last.weight, std=0.02)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
    return network


def read_body(
    folder: Path, family: Family, labels: Sequence[str], problem: ProblemType, earlier: Shapes
) -> tuple[Any, dict[str, Any]]:
    """What transformers makes of the folder, and what it says of the weights.

    `earlier`: shapes that an earlier job left; of such a checkpoint no code is run.
    """
    config = own_values(folder)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type, config.return_dict = problem, True
    with readable(folder, "config.json and weights"):
        if earlier:
            body = narrowed(getattr(transformers, family.task_class)(config), family, earlier)
            return filled(folder, body, (f"{family.head}.",))
        body, info = getattr(transformers, family.task_class).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # a head for other classes gives way; anything else is refused
            output_loading_info=True,
        )
    return body, info


def empty_body(folder: Path, labels: int) -> Any:
    """The model that config.json says, with a head of so many labels, its weights as they come."""
    said, config = read_config(folder / "config.json"), own_values(folder)
    family = family_of(said)
    config.id2label = {i: str(i) for i in range(labels)}
    with readable(folder, "config.json"):
        return narrowed(getattr(transformers, family.task_class)(config), family, earlier_of(said))


def narrowed(body: Any, family: Family, earlier: Shapes) -> Any:
    """The dense `body` in the shapes that an earlier job left; SpecError('/model') where these are no part of it.

    The head has as many answers as before.
    """
    path, last = last_linear(body.get_submodule(family.head))
    answers = ".".join(filter(None, (family.head, path, "weight")))
    shapes = {name: (last.out_features, *shape[1:]) if name == answers else shape for name, shape in earlier.items()}
    dense = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    for name, shape in shapes.items():
        had = tuple(dense[name].shape) if name in dense else ()
        if len(shape) != len(had) or any(now > before for now, before in zip(shape, had, strict=True)):
            raise SpecError("/model", NO_PART)
    shapes_from(body, shapes)
    return body


def graph_of(body: Any, side: int, own: bool = False) -> Graph:
    """What can be cut, at that size of picture; SpecError('/model') where next to nothing can. `own` as above."""
    attention, pictures = body.config._attn_implementation, {"pixel_values": torch.zeros(1, 3, side, side)}
    body.set_attn_implementation("eager")  # whose products are counted
    try:
        graph = trace(body, pictures)
        graph = own_readers(body, graph, pictures) if own else graph
    finally:
        body.set_attn_implementation(attention)
    share = ImageCosts.at(graph, side, 1).macs.removable
    if share < LEAST:
        raise SpecError(
            "/model",
            f"only {share:.1%} of its multiply-accumulates are of channels that can go: its layers normalise over all "
            "channels at once, or its code has their number written down",
        )
    return graph
